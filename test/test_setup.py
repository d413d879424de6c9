"""`make` on machines where something is missing: one clear line, and nothing half-made."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TOOLS = [
    'awk', 'basename', 'bash', 'cat', 'df', 'dirname', 'env', 'grep', 'make', 'mkdir', 'rm', 'sed',
    'sh', 'tail', 'touch', 'uname',
]


@pytest.fixture
def machine(tmp_path):
    """A copy of the project and a PATH with basic tools and no Python."""
    project, tools = tmp_path / 'project', tmp_path / 'bin'
    project.mkdir()
    tools.mkdir()
    for file in ('Makefile', 'setup.py', 'setup.cfg', 'pyproject.toml', 'constraints.txt'):
        shutil.copy(ROOT / file, project)
    shutil.copytree(ROOT / 'tools', project / 'tools')
    (project / 'il_robot').mkdir()
    shutil.copy(ROOT / 'il_robot' / '__init__.py', project / 'il_robot')
    for tool in TOOLS:
        (tools / tool).symlink_to(shutil.which(tool))
    return project


def add_tool(project, name, text):
    file = project.parent / 'bin' / name
    file.unlink(missing_ok=True)
    file.write_text(text)
    file.chmod(0o755)


def add_python(project, name, version, without='no module'):
    """An interpreter that says it is of that version; importing ``without`` fails."""
    pretend = f"import sys; sys.version_info = (*map(int, '{version}'.split('.')), 'final', 0)"
    add_tool(project, name, f"""#!/bin/sh
if [ "$1" = --version ]; then echo "Python {version}"; exit; fi
case "$2" in *"{without}"*) exit 1;; esac
exec "{sys.executable}" -c "{pretend}
$2"
""")


def make(project, target='test', **environment):
    """The words on stderr of a ``make`` that must fail, without make's own last line."""
    result = subprocess.run(
        ['make', target], cwd=project, capture_output=True, text=True,
        env={'PATH': str(project.parent / 'bin'), 'HOME': str(project.parent), **environment},
    )
    assert result.returncode != 0
    line, last = result.stderr.splitlines()
    assert last.startswith('make: ***')
    assert not list(project.glob('.venv/.setup-*'))
    return line


def test_no_python(machine):
    assert make(machine) == (
        'setup: needs Python 3.10 to 3.13, found none: install python3.11, or name yours: '
        'make PYTHON=/path/to/python3.11')


def test_an_old_python_and_shims_that_only_fail(machine):
    add_python(machine, 'python3', '3.8.10')
    add_tool(machine, 'python3.11', '#!/bin/sh\necho "pyenv: no such version" >&2; exit 127\n')
    assert 'needs Python 3.10 to 3.13, found Python 3.8.10' in make(machine)


def test_a_python_without_venv(machine):
    add_python(machine, 'python3', '3.11.2', without='ensurepip')
    assert 'python3 has no venv module: install it' in make(machine)
    assert not (machine / '.venv').exists()


def test_pybullet_would_be_compiled_and_no_compiler(machine):
    add_python(machine, 'python3.12', '3.12.3')
    line = make(machine)
    assert 'pybullet has no wheel for Python 3.12.3' in line
    assert 'apt install g++ python3-dev' in line


def test_a_full_disk(machine):
    add_python(machine, 'python3.11', '3.11.2')
    add_tool(machine, 'df', '#!/bin/sh\necho header; echo "/dev/x 1000 900 100 90% /"\n')
    assert 'the disk is too full: 100 MB free' in make(machine)
    assert not (machine / '.venv').exists()


def test_no_network(machine):
    add_tool(machine, 'c++', '#!/bin/sh\n')
    line = make(
        machine, PYTHON=sys.executable, PIP_INDEX_URL='http://127.0.0.1:9/', PIP_RETRIES='1',
        PIP_CONFIG_FILE=os.devnull,
    )
    assert line.startswith('setup: no network: the Python package index could not be reached')


def test_help_needs_nothing(machine):
    result = subprocess.run(
        ['make'], cwd=machine, capture_output=True, text=True, check=True, env=os.environ)
    for target in ('demo', 'test', 'lint', 'type', 'bench', 'colcon', 'clean'):
        assert f'make {target} ' in result.stdout
