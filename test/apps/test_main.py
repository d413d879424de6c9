import argparse
import os
import re
import subprocess
import sys
from types import SimpleNamespace

import pytest

from il_robot import __version__
from il_robot.apps import main as cli
from il_robot.apps.main import main
from il_robot.errors import DatasetError

COMMANDS = list(cli._COMMANDS)


@pytest.fixture
def command(monkeypatch):
    """Replaces the sub-commands by one, ``do``, that calls the function given."""
    def install(run):
        def add_parser(subparsers):
            parser = subparsers.add_parser('do')
            parser.add_argument('--number', type=int)
            parser.set_defaults(run=run)

        monkeypatch.setattr(cli, '_COMMANDS', {'do': SimpleNamespace(add_parser=add_parser)})
    return install


def raising(error):
    def run(namespace):
        raise error
    return run


@pytest.mark.parametrize('code', [0, 1])
def test_the_commands_own_code_is_the_exit_code(command, code):
    command(lambda namespace: code)
    assert main(['do']) == code


def test_the_command_gets_its_options(command):
    seen = []
    command(lambda namespace: seen.append(namespace) or 0)
    assert main(['do', '--number', '3']) == 0
    assert isinstance(seen[0], argparse.Namespace)
    assert seen[0].number == 3


def test_an_error_the_user_can_repair_is_one_line_and_code_2(command, capsys):
    command(raising(DatasetError('no dataset at x')))
    assert main(['do']) == 2
    assert capsys.readouterr() == ('', 'il_robot do: error: no dataset at x\n')


def test_a_missing_package_names_the_extras(command, capsys):
    command(raising(ModuleNotFoundError("No module named 'torch'", name='torch')))
    assert main(['do']) == 2
    assert capsys.readouterr().err \
        == "il_robot do: error: torch is not installed: pip install 'il_robot[sim,train]'\n"


def test_ctrl_c_is_130_and_no_traceback(command, capsys):
    command(raising(KeyboardInterrupt()))
    assert main(['do']) == 130
    assert capsys.readouterr().err == '\nil_robot do: interrupted\n'


@pytest.mark.parametrize('bug', [
    ZeroDivisionError(), ValueError('x'), FileNotFoundError('x'), BrokenPipeError('a worker died'),
    ModuleNotFoundError('x', name='il_robot.no'),
])
def test_a_bug_keeps_its_traceback(command, bug):
    command(raising(bug))
    with pytest.raises(type(bug)):
        main(['do'])


@pytest.mark.parametrize('arguments', [['do', '--nmber', '3'], ['do', '--number', 'x'], []])
def test_a_wrong_option_is_code_2(command, capsys, arguments):
    command(lambda namespace: 0)
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert 'error: ' in capsys.readouterr().err


def test_an_unknown_command_suggests_the_closest(capsys):
    assert main(['trian', '--steps', '3']) == 2
    assert capsys.readouterr().err == (
        "il_robot: error: unknown command 'trian': did you mean 'train'? "
        f'Valid: {", ".join(sorted(COMMANDS))}\n')


def test_help_lists_every_command(capsys):
    assert {'demo', 'record', 'train', 'evaluate', 'dataset', 'view'} <= set(COMMANDS)
    with pytest.raises(SystemExit) as stop:
        main(['--help'])
    assert stop.value.code == 0
    listed = capsys.readouterr().out
    assert [c for c in COMMANDS if f'\n    {c} ' in listed] == COMMANDS


@pytest.mark.parametrize('name', COMMANDS)
def test_every_command_shows_an_example(capsys, name):
    with pytest.raises(SystemExit):
        main([name, '--help'])
    assert re.search(rf'\nexamples?:\s+il_robot {name} ', capsys.readouterr().out)


def run_module(*arguments, **options):
    return subprocess.run(
        [sys.executable, '-m', 'il_robot', *arguments], stderr=subprocess.PIPE, text=True,
        **options,
    )


def test_help_and_version_need_no_other_package():
    """A colcon build is used with an interpreter that lacks them; and --help is quick."""
    code = ('import sys\n'
            'class OwnOnly:\n'
            '    def find_spec(self, name, path=None, target=None):\n'
            '        own = name.partition(".")[0] in {*sys.stdlib_module_names, "il_robot"}\n'
            '        if not own and path is None: raise ModuleNotFoundError(name=name)\n'
            'sys.meta_path.insert(0, OwnOnly())\n'
            'from il_robot.apps.main import main\n'
            'main(sys.argv[1:])')
    for word in ('--version', '--help'):
        result = subprocess.run([sys.executable, '-c', code, word], capture_output=True, text=True)
        assert not result.stderr and 'il_robot' in result.stdout


def test_python_m_is_the_same_command():
    result = run_module('--version', stdout=subprocess.PIPE)
    assert (result.returncode, result.stdout) == (0, f'il_robot {__version__}\n')
    result = run_module('recrod', stdout=subprocess.PIPE)
    assert (result.returncode, result.stdout) == (2, '')
    assert result.stderr.startswith("il_robot: error: unknown command 'recrod': did you mean")


@pytest.mark.parametrize('unbuffered', ['', '1'])
@pytest.mark.parametrize('arguments', [['do'], ['--version']])
def test_a_reader_that_has_gone_is_no_error(unbuffered, arguments):
    """As in ``il_robot ... | head -0``."""
    reader, writer = os.pipe()
    os.close(reader)
    script = (
        'import sys; from types import SimpleNamespace; from il_robot.apps import main\n'
        'def run(namespace): print("x" * 100_000)\n'
        'def add(parsers): parsers.add_parser("do").set_defaults(run=run)\n'
        'main._COMMANDS = {"do": SimpleNamespace(add_parser=add)}\n'
        'sys.exit(main.main(sys.argv[1:]))'
    )
    with os.fdopen(writer, 'wb') as closed:
        result = subprocess.run(
            [sys.executable, '-c', script, *arguments], stdout=closed, stderr=subprocess.PIPE,
            text=True, env={**os.environ, 'PYTHONUNBUFFERED': unbuffered},
        )
    assert result.stderr == ''
    assert result.returncode in (0, 141)  # argparse itself ignores an unbuffered failure
