"""What runs: every launch gives nodes that exist, with parameters they have."""

import ast
import json
import re
from dataclasses import fields
from functools import lru_cache
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from il_robot.bringup import LAUNCHES, NodeSpec, describe, parameter_text
from il_robot.errors import ConfigError, IlRobotError
from il_robot.launch_options import (
    OPERATED,
    TELEOP,
    LaunchOptions,
    arguments,
    discovery_environment,
    loopback,
    parse_options,
)
from il_robot.resources import named_config, resource

ROOT = Path(__file__).parent.parent
NODES = {p.stem: p for p in (ROOT / 'il_robot/nodes').glob('*.py')
         if '\ndef main(' in p.read_text()}
REAL = next((p.stem for p in sorted((ROOT / 'config/robots').glob('*.yaml'))
             if 'hardware:' in p.read_text()), None)


@pytest.fixture(scope='module')
def policy(tmp_path_factory):
    return str(tmp_path_factory.mktemp('run'))


def nodes(name, **settings):
    specs = describe(name, parse_options(settings))
    assert len({s.executable for s in specs}) == len(specs)
    return {s.executable: s for s in specs}


@lru_cache
def declared(executable):
    """Names of the parameters a node declares, from its source: first texts of declare calls."""
    names, source = {'use_sim_time'}, NODES[executable].read_text()
    if 'real_time=True' in source:
        names |= {'priority', 'lock_memory', 'cpus'}
    for call in ast.walk(ast.parse(source)):
        if isinstance(call, ast.Call) and getattr(call.func, 'id', '') in ('declare', 'fixed'):
            names |= {a.value for a in call.args
                      if isinstance(a, ast.Constant) and str(a.value).isidentifier()}
    return names


@pytest.fixture(scope='module')
def every_description(policy):
    """(launch, its arguments, its nodes by name) of what can be combined."""
    found = []
    for name in LAUNCHES:
        for teleop in ('', *TELEOP):
            for extra in ({}, {'record': 'false'}, {'episodes': '3', 'lockstep': 'true'},
                          {'cameras': 'all', 'image_size': '64x48', 'disturbances': 'shoves=1',
                           'task_options': 'clearance=0.004', 'joystick': '/dev/input/js0'},
                          {'gate': 'safe'}):
                settings = {'teleop': teleop, 'policy': policy, **extra}
                try:
                    found.append((name, settings, nodes(name, **settings)))
                except ConfigError as error:
                    assert (teleop == 'none' and name in ('record', 'correct', 'dagger')
                            or name == 'dagger' and 'record' in extra
                            or name == 'run' and 'gate' in extra), error
    return found


def test_every_launch_gives_nodes_that_exist_with_parameters_they_declare(every_description):
    seen = set()
    for name, settings, specs in every_description:
        assert {'sim', 'arbiter'} <= specs.keys()
        assert sum(s.terminal for s in specs.values()) <= 1
        for executable, spec in specs.items():
            assert executable in NODES, (name, settings)
            assert spec.parameters.keys() <= declared(executable), (name, settings, executable)
            seen.add(executable)
    assert seen == NODES.keys() - {'hardware'}


def test_all_nodes_agree_on_robot_task_and_time(every_description):
    for _, _, specs in every_description:
        for executable, spec in specs.items():
            values = spec.parameters
            assert values['robot'] == 'sim_dual_arm'
            assert values.get('task', 'transfer_cube') in ('transfer_cube', '')
            assert values.get('use_sim_time', executable == 'sim') is True
        lockstep = {specs[n].parameters['lockstep'] for n in ('sim', 'arbiter')}
        assert len(lockstep) == 1


@pytest.mark.parametrize(('name', 'settings', 'driver'), [
    ('demo', {}, 'human'),
    ('record', {}, 'human'),
    ('record', {'teleop': 'keyboard'}, 'operator'),
    ('record', {'teleop': 'gamepad', 'episodes': '5'}, 'operator'),
    ('run', {}, 'policy'),
    ('run', {'teleop': 'keyboard'}, 'operator'),
    ('run', {'teleop': 'keyboard', 'episodes': '5'}, 'policy'),
    ('correct', {}, 'policy'),
    ('correct', {'teleop': 'leader'}, 'operator'),
])
def test_who_begins_the_episodes(policy, name, settings, driver):
    assert nodes(name, policy=policy, **settings)['session'].parameters['driver'] == driver


def test_who_takes_part(policy):
    assert nodes('demo').keys() == {'sim', 'expert', 'arbiter', 'session'}
    assert nodes('record').keys() == {'sim', 'expert', 'arbiter', 'recorder', 'session'}
    assert nodes('run', policy=policy, record='false').keys() == {
        'sim', 'policy', 'arbiter', 'session'}
    assert nodes('correct', policy=policy, teleop='pose').keys() == {
        'sim', 'teleop', 'policy', 'arbiter', 'recorder', 'session'}
    assert nodes('dagger', policy=policy).keys() == {
        'sim', 'expert', 'policy', 'arbiter', 'recorder', 'dagger'}
    assert nodes('record')['expert'].parameters['gate'] == 'never'
    for name in ('correct', 'dagger'):
        assert nodes(name, policy=policy)['expert'].parameters['gate'] == 'rule'


@pytest.mark.parametrize('name', ['correct', 'dagger'])
def test_who_calls_the_expert(policy, name):
    for gate, expert, assess in (
            ('rule', 'rule', False), ('beta', 'never', False), ('thrifty', 'called', True)):
        found = nodes(name, policy=policy, gate=gate, gate_options='')
        assert ('gate' in found) is (gate != 'rule')
        assert found['expert'].parameters['gate'] == expert
        assert found['policy'].parameters['assess'] is assess
        if name == 'dagger':
            assert found['dagger'].parameters['assess'] == (0.2 if assess else 0.0)
    chosen = nodes(name, policy=policy, gate='safe', gate_options='doubt=0.7')['gate']
    assert chosen.parameters['options'] == ['doubt=0.7']
    for wrong in ({'gate': 'luck'}, {'budget': '1.5'}):
        with pytest.raises(ConfigError):
            nodes(name, policy=policy, **wrong)
    with pytest.raises(ConfigError, match='launch correct or dagger'):
        nodes('run', policy=policy, gate='safe')


def test_who_must_not_wait_gets_priority_and_processors(policy):
    found = nodes('run', policy=policy, real_time='40', cpus='1,2')
    for name, spec in found.items():
        must = name in ('sim', 'arbiter', 'policy')
        wanted = {'priority': 39 if name == 'policy' else 40, 'lock_memory': True, 'cpus': '1,2'}
        given = {k: v for k, v in spec.parameters.items() if k in wanted}
        assert given == (wanted if must else {})
    usual = nodes('run', policy=policy)
    assert not any({'priority', 'cpus'} & s.parameters.keys() for s in usual.values())
    for wrong in ({'real_time': '1'}, {'real_time': '99'}, {'cpus': 'all'}, {'cpus': '1,'}):
        with pytest.raises(ConfigError):
            nodes('run', policy=policy, **wrong)


def test_seeds_of_training_and_of_measuring_never_meet(policy):
    seeds = [nodes(name, policy=policy)['sim'].parameters['seed'] for name in LAUNCHES]
    assert dict(zip(LAUNCHES, seeds)) == {
        'demo': 0, 'record': 10_000, 'run': 0, 'correct': 20_000,
        'dagger': 30_000}
    assert nodes('record', seed='7')['session'].parameters['seed'] == 7


def test_dagger_evaluates_in_the_world_it_collects_in(policy):
    spec = nodes('dagger', policy=policy, task='insert_peg', width='wide',
                 disturbances='shoves=1,shove_force=3', settings='training.steps=5')['dagger']
    assert spec.parameters['environment'] == [
        '--task', 'insert_peg', '--width', 'wide', '--disturb', 'shoves=1', '--disturb',
        'shove_force=3']
    assert spec.parameters['episodes'] == 10 and spec.parameters['settings'] == [
        'training.steps=5']


def test_rounds(policy):
    rounds = {name: nodes(name, policy=policy)['recorder'].parameters['round']
              for name in ('record', 'run', 'correct')}
    assert rounds == {'record': 0, 'run': 0, 'correct': 1}
    assert nodes('correct', policy=policy, round='4')['recorder'].parameters['round'] == 4


def seeing(folder, **recorded):
    """As much of a checkpoint as a launch looks at."""
    inside = folder / 'checkpoints' / 'step_00000001'
    inside.mkdir(parents=True)
    (inside / 'checkpoint.json').write_text(json.dumps({'recorded': recorded}))
    return str(folder)


def test_what_the_policy_looks_at_is_drawn_as_it_was_recorded(tmp_path, policy):
    run = seeing(tmp_path / 'run', overhead=[240, 320], wrist_left=[240, 320])
    for name in ('run', 'correct', 'dagger'):
        parameters = {n: s.parameters for n, s in nodes(name, policy=run).items()}
        assert parameters['sim']['cameras'] == ['overhead', 'wrist_left']
        assert parameters['sim']['image_size'] == [320, 240]
        assert parameters['recorder']['cameras'] == ['overhead', 'wrist_left']
        assert 'cameras' not in nodes(name, policy=policy)['sim'].parameters
    assert 'cameras' not in nodes('record', policy=run)['sim'].parameters
    more = nodes('run', policy=run, cameras='all', image_size='640x480')['sim'].parameters
    assert len(more['cameras']) == 4 and more['image_size'] == [640, 480]
    own = seeing(tmp_path / 'own', overhead=[480, 640], front=[480, 640])
    assert nodes('run', policy=own)['sim'].parameters['image_size'] == [640, 480]


def test_cameras_that_the_policy_would_miss_are_named(tmp_path):
    run = seeing(tmp_path / 'run', overhead=[240, 320], wrist_left=[240, 320])
    with pytest.raises(ConfigError, match='add wrist_left to cameras:='):
        nodes('run', policy=run, cameras='overhead')
    other = seeing(tmp_path / 'other', overhed=[240, 320])
    with pytest.raises(ConfigError, match="camera that sim_dual_arm lacks.*mean 'overhead'"):
        nodes('run', policy=other)
    sizes = seeing(tmp_path / 'sizes', overhead=[240, 320], front=[48, 64])
    with pytest.raises(ConfigError, match='different sizes'):
        nodes('run', policy=sizes)


def test_only_an_essential_node_or_the_keyboard_ends_a_launch(every_description):
    for _, settings, specs in every_description:
        for executable, spec in specs.items():
            if executable == 'teleop' and settings['teleop'] == 'keyboard':
                assert spec.terminal and not spec.respawn
            else:
                assert spec.essential is (executable in ('session', 'dagger'))
                assert spec.respawn is not spec.essential


def test_a_map_of_ones_own_gets_the_keyboard_when_it_is_for_one(tmp_path):
    for device, terminal in (('keyboard', True), ('gamepad', False)):
        path = tmp_path / f'{device}_mine.yaml'
        path.write_text(named_config('teleop', device).read_text())
        spec = nodes('record', teleop=str(path))['teleop']
        assert spec.terminal is terminal
        assert spec.parameters['config'] == str(path) and 'device' not in spec.parameters


def test_viewers_know_where_their_files_are():
    specs = nodes('demo', rviz='true', foxglove='true')
    for name in ('rviz2', 'foxglove_bridge', 'robot_state_publisher'):
        assert specs[name].package == name
    assert Path(specs['rviz2'].arguments[1]).is_file()
    model = specs['robot_state_publisher'].outputs['robot_description']
    assert model[0] == 'xacro' and Path(model[1]).is_file()
    robot = resource('config', 'robots', 'sim_dual_arm.yaml')
    assert Path(model[2].removeprefix('spec:=')) == robot


# -- the real robot -----------------------------------------------------------------------------
@pytest.mark.skipif(REAL is None, reason='config/robots has no profile of a real robot')
def test_a_real_robot_has_hardware_and_wall_time(policy):
    for name in ('record', 'run', 'correct'):
        specs = nodes(name, robot='real', profile=REAL, teleop='keyboard', policy=policy)
        assert 'hardware' in specs and not {'sim', 'expert', 'session'} & specs.keys()
        assert all(s.parameters.get('use_sim_time', False) is False for s in specs.values())
        assert specs['arbiter'].parameters['resume'] is False
        for executable, spec in specs.items():
            assert spec.parameters.keys() <= declared(executable)
    specs = nodes('run', robot='real', profile=REAL, policy=policy, dry_run='true')
    assert specs['hardware'].parameters['dry_run'] is True


@pytest.mark.parametrize(('settings', 'words'), [
    ({}, 'sim_dual_arm has no hardware section'),
    ({'teleop': 'expert'}, 'knows the objects of the simulator only'),
    *(({option: value}, f'{option}: for robot:=sim only') for option, value in (
        ('lockstep', 'true'), ('gui', 'true'), ('episodes', '3'), ('seed', '1'),
        ('width', 'wide'), ('disturbances', 'shoves=1'), ('real_time_factor', '2.0'),
        ('task_options', 'clearance=0.004'), ('image_size', '64x48'))),
])
def test_what_only_a_simulator_can_do_is_refused(settings, words):
    with pytest.raises(IlRobotError, match=words):
        nodes('record', robot='real', **{'teleop': 'keyboard', **settings})


@pytest.mark.skipif(REAL is None, reason='config/robots has no profile of a real robot')
def test_a_real_robot_needs_somebody_who_drives():
    for name in ('record', 'correct'):
        with pytest.raises(ConfigError, match='give teleop:= one of keyboard'):
            nodes(name, robot='real', profile=REAL)
    with pytest.raises(ConfigError, match='demo shows the expert'):
        nodes('demo', robot='real', profile=REAL)


# -- bad input ----------------------------------------------------------------------------------
@pytest.mark.parametrize(('key', 'text', 'words'), [
    ('epsiodes', '5', "did you mean 'episodes'"),
    ('robot', 'rael', "did you mean 'real'"),
    ('teleop', 'keybord', "did you mean 'keyboard'"),
    ('profile', 'sim_dual_am', "did you mean 'sim_dual_arm'"),
    ('profile', 'nowhere.yaml', 'no file nowhere.yaml'),
    ('teleop', 'nowhere.yaml', 'cannot read .*nowhere.yaml'),
    ('cameras', 'overhed', "did you mean 'overhead'"),
    ('record', 'yes', 'record:=yes: write true or false'),
    ('episodes', 'many', 'episodes:=many: write a whole number'),
    ('episodes', '-1', 'episodes must be >= 0'),
    ('seed', '1.5', 'seed:=1.5: write a whole number'),
    ('real_time_factor', 'fast', 'write a number'),
    ('real_time_factor', '0', 'must be > 0'),
    ('real_time_factor', 'inf', 'must be > 0'),
    ('real_time_factor', 'nan', 'must be float'),
    ('image_size', '640', 'write WxH'),
    ('dry_run', 'true', 'for robot:=real only'),
])
def test_wrong_arguments_are_named_with_what_would_be_right(key, text, words):
    with pytest.raises(IlRobotError, match=words):
        nodes('record', **{key: text})


def test_an_unknown_launch_and_a_missing_policy():
    with pytest.raises(ConfigError, match="did you mean 'record'"):
        describe('recrod', LaunchOptions())
    for name in ('run', 'correct'):
        with pytest.raises(ConfigError, match='policy:=FOLDER is needed'):
            nodes(name)
        with pytest.raises(ConfigError, match='no such folder'):
            nodes(name, policy='/nowhere/run')


def test_nobody_who_drives():
    with pytest.raises(ConfigError, match='record needs somebody who drives'):
        nodes('record', teleop='none')


# -- arguments and their texts ------------------------------------------------------------------
def test_every_argument_has_a_help_and_a_default_that_parses():
    table = arguments()
    assert [name for name, _, _ in table] == [f.name for f in fields(LaunchOptions)]
    assert all(len(text) > 5 for _, _, text in table)
    assert parse_options({name: default for name, default, _ in table}) == LaunchOptions()


def test_every_device_has_a_map():
    for device in OPERATED:
        assert named_config('teleop', device).is_file()


texts = st.text(st.characters(codec='utf-8', exclude_categories=['Cc', 'Cs', 'Zl', 'Zp', 'Cn']))
scalars = st.one_of(
    st.booleans(), st.integers(-2**63, 2**63 - 1), st.floats(allow_nan=False), texts)


@given(st.one_of(scalars, st.lists(texts, min_size=1), st.lists(st.integers(), min_size=1)))
def test_a_parameter_survives_yaml_with_its_type(value):
    back = yaml.safe_load(parameter_text(value))
    assert back == value and type(back) is type(value)


def test_texts_that_look_like_something_else_stay_texts():
    for text in ('1e3', 'yes', '', '~', '1:30', "it's", '"', '\\', '{a: b}', '# no', '0x10'):
        assert yaml.safe_load(parameter_text(text)) == text


def test_ros_arguments():
    spec = NodeSpec('sim', {'seed': 3, 'task': 'lift_tray', 'lockstep': True, 'factor': 1e-05},
                    arguments=('--flag',))
    assert spec.ros_arguments() == [
        '--flag', '--ros-args', '-r', '__node:=sim', '-p', 'seed:=3', '-p', 'task:="lift_tray"',
        '-p', 'lockstep:=true', '-p', 'factor:=1.0e-05']


def test_every_launch_has_its_file_and_nothing_else_is_decided_there():
    for name in LAUNCHES:
        text = (ROOT / 'launch' / f'{name}.launch.py').read_text()
        assert f"return description('{name}')" in text
        assert not re.search(r'Node\(|parameters', text)


def test_the_page_has_the_table_of_arguments():
    page = (ROOT / 'docs' / 'launch.md').read_text()
    rows = [f'| `{name}` | {f"`{default}`" if default else ""} | {text} |'
            for name, default, text in arguments()]
    assert page.split('## Arguments')[1].splitlines()[-len(rows):] == rows


def test_the_commands_on_the_page_start_something(policy):
    page = (ROOT / 'docs' / 'launch.md').read_text()
    commands = re.findall(r'^(?:il_robot launch|ros2 launch il_robot) (\w+)(?:\.launch\.py)?(.*)',
                          page, re.MULTILINE)
    assert len(commands) > 8
    for name, rest in commands:
        words = [w for w in rest.partition('#')[0].split() if ':=' in w]
        settings = dict(word.split(':=') for word in words)
        if 'policy' in settings:
            settings['policy'] = policy
        if settings.get('robot') == 'real':
            settings['profile'] = REAL or pytest.skip('no profile of a real robot')
        assert nodes(name, **settings)


def test_only_this_machine_finds_the_nodes_unless_somebody_says_so():
    key, profile = 'ROS_AUTOMATIC_DISCOVERY_RANGE', 'FASTDDS_DEFAULT_PROFILES_FILE'
    alone = loopback({})
    assert alone[key] == 'SYSTEM_DEFAULT' and Path(alone[profile]).is_file()
    for settings, environment, lacking, words in (
            ({}, {}, alone, 'domain 0, found by this machine alone'),
            ({}, {profile: 'mine.xml'}, {key: 'LOCALHOST'}, 'this machine alone'),
            ({}, {'RMW_IMPLEMENTATION': 'rmw_cyclonedds_cpp'}, {key: 'LOCALHOST'},
             'this machine alone'),
            ({'discovery': 'subnet'}, {'ROS_DOMAIN_ID': '7'}, {key: 'SUBNET'},
             'domain 7, found by the whole network'),
            ({}, {key: 'SUBNET'}, {}, 'the whole network'), ({}, {key: 'OFF'}, {}, 'nobody')):
        found = discovery_environment(parse_options(settings), environment)
        assert found[0] == lacking and words in found[1]
