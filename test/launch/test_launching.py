"""``ros2 launch`` and ``il_robot launch`` start the same processes with the same arguments."""

import io
import json
import sys
from dataclasses import replace

import pytest
import yaml

pytest.importorskip('launch_ros', reason='launch comes with a ROS installation only')

from launch import LaunchContext, LaunchDescription, LaunchService
from launch.actions import SetLaunchConfiguration
from launch.logging import launch_config

from il_robot.bringup import LAUNCHES, NodeSpec, describe
from il_robot.launch_options import arguments, parse_options
from il_robot.nodes.launching import action, description

AWKWARD = {
    'flag': True, 'number': 3, 'real': 2.0, 'small': 1e-05, 'text': 'yes', 'digits': '1e3',
    'empty': '', 'quote': 'it\'s "so"', 'texts': ['1', 'shoves=2', 'true'], 'numbers': [640, 480]}


# Writes down its arguments, parameter files opened: launch removes none, but names them anew.
WITNESS = f"""#!{sys.executable}
import json, pathlib, sys
words = [open(w).read() if i and sys.argv[i - 1] == '--params-file' else w
         for i, w in enumerate(sys.argv)]
path = pathlib.Path(sys.argv[0])
path.with_suffix('.json').write_text(json.dumps(words[1:]))
"""


def split(words, option, read):
    """The words that are no parameters, and the parameters."""
    rest, parameters, words = [], {}, iter(words)
    for word in words:
        if word == option:
            parameters |= read(next(words))
        else:
            rest.append(word)
    return rest, {key: (type(value), value) for key, value in parameters.items()}


def from_file(text):
    content = yaml.full_load(text)  # launch writes tuples, which ROS reads as lists
    assert content.keys() == {'/**'}
    return {key: list(value) if isinstance(value, tuple) else value
            for key, value in content['/**']['ros__parameters'].items()}


def from_words(text):
    key, _, value = text.partition(':=')
    return {key: yaml.safe_load(value)}


def assert_same_arguments(installed, specs):
    """Let launch start a witness for each node, and compare with what we would start."""
    nodes = []
    for spec in specs:
        executable(installed, spec.executable, WITNESS)
        nodes.append(action(replace(spec, respawn=False)))
    service = LaunchService()
    service.include_launch_description(LaunchDescription(nodes))
    assert service.run() == 0
    for spec in specs:
        words = json.loads((installed / f'{spec.executable}.json').read_text())
        theirs = split(words, '--params-file', from_file)
        assert theirs == split(spec.ros_arguments(), '-p', from_words), spec.executable


@pytest.fixture(params=list(LAUNCHES))
def specs(request, tmp_path):
    return describe(request.param, parse_options({
        'policy': str(tmp_path), 'cameras': 'all', 'image_size': '64x48', 'episodes': '3',
        'disturbances': 'shoves=1', 'language': '1e3'}))


@pytest.fixture
def installed(monkeypatch, tmp_path):
    """An installation of the package as far as launch looks: an index entry, and executables."""
    index = tmp_path / 'prefix/share/ament_index/resource_index/packages'
    index.mkdir(parents=True)
    (index / 'il_robot').touch()
    folder = tmp_path / 'prefix/lib/il_robot'
    folder.mkdir(parents=True)
    monkeypatch.setenv('AMENT_PREFIX_PATH', str(tmp_path / 'prefix'))
    return folder


def executable(folder, name, text):
    (folder / name).write_text(text if text.startswith('#!') else f'#!/bin/sh\n{text}\n')
    (folder / name).chmod(0o755)


def test_same_arguments(specs, installed):
    assert_same_arguments(installed, specs)


def test_same_arguments_however_awkward(installed):
    assert_same_arguments(installed, [NodeSpec('odd', AWKWARD, arguments=('--flag', 'a b'))])


def test_parameters_from_a_command(installed):
    executable(installed, 'viewer', WITNESS)
    spec = NodeSpec('viewer', outputs={'robot_description': (sys.executable, '-c', 'print("1")')})
    service = LaunchService()
    service.include_launch_description(LaunchDescription([action(spec)]))
    assert service.run() == 0
    words = json.loads((installed / 'viewer.json').read_text())
    assert split(words, '--params-file', from_file)[1]['robot_description'] == (str, '1\n')


@pytest.mark.parametrize('name', LAUNCHES)
def test_every_argument_is_declared_with_the_same_default(name):
    declared = {a.name: a for a in description(name).get_launch_arguments()}
    context = LaunchContext()
    defaults = {n: ''.join(s.perform(context) for s in a.default_value)
                for n, a in declared.items()}
    assert defaults == {n: default for n, default, _ in arguments()}
    assert [a.description for a in declared.values()] == [text for _, _, text in arguments()]


def launch(**configurations):
    """Exit code and output, arguments given as ``ros2 launch`` gives them."""
    output = io.StringIO()
    service = LaunchService()
    launch_config.screen_handler.setStream(output)
    for name, value in configurations.items():
        service.include_launch_description(
            LaunchDescription([SetLaunchConfiguration(name, value)]))
    service.include_launch_description(description('demo'))
    return service.run(), output.getvalue()


@pytest.fixture
def run(monkeypatch):
    def these(*specs, **configurations):
        monkeypatch.setattr('il_robot.nodes.launching.describe', lambda name, options: specs)
        return launch(**configurations)[1]

    return these


def test_a_wrong_parameter_ends_the_launch_and_is_not_tried_again(installed, run):
    executable(installed, 'wrong', 'echo "error: no such task"; exit 2')
    executable(installed, 'other', 'exec sleep 60')
    output = run(NodeSpec('wrong', respawn=True), NodeSpec('other', respawn=True))
    assert output.count('error: no such task') == 1
    assert 'wrong refuses its parameters' in output


@pytest.mark.parametrize('kind', ['essential', 'terminal'])
def test_an_essential_node_ends_the_launch(installed, run, kind):
    executable(installed, 'short', 'true')
    executable(installed, 'other', 'exec sleep 60')
    output = run(NodeSpec('short', **{kind: True}), NodeSpec('other', respawn=True))
    assert 'short has ended' in output


def test_a_crash_is_started_again(installed, run, tmp_path):
    executable(installed, 'crash', f'echo x >> {tmp_path}/runs; '
               f'[ $(wc -l < {tmp_path}/runs) -ge 3 ] && exit 2; exit 1')
    run(NodeSpec('crash', respawn=True, delay=0.05))
    assert (tmp_path / 'runs').read_text().count('x') == 3


def test_an_argument_nobody_declared_is_mentioned(installed, run):
    executable(installed, 'short', 'true')
    output = run(NodeSpec('short', essential=True), epsiodes='5', of_my_own='x')
    assert "ignored: unknown launch argument 'epsiodes'" in output
    assert "did you mean 'episodes'" in output and 'of_my_own' not in output


def test_a_wrong_value_is_said():
    code, output = launch(robot='rael')
    assert code == 1 and "did you mean 'real'" in output
