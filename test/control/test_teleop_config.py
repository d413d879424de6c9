"""Every configuration file is read, its errors teach, and the documentation says the same."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from il_robot.config import load_yaml
from il_robot.control.modes import REQUESTS as ARBITER_REQUESTS
from il_robot.control.teleop import Teleop
from il_robot.control.teleop_config import load_pad, load_teleop_config
from il_robot.control.teleop_help import gamepad_table, keyboard_table, meaning
from il_robot.control.teleop_vocabulary import (
    AXES,
    GRIPPER,
    LOCAL,
    REQUESTS,
    applies,
    parse_motion,
    parts,
)
from il_robot.errors import ConfigError
from il_robot.resources import named_config, resource
from il_robot.spec import load_robot_spec

SPEC = load_robot_spec(named_config('robots', 'sim_dual_arm'))
FOLDER = resource('config', 'teleop')
CONFIGS = sorted(p.stem for p in FOLDER.glob('*.yaml'))
PADS = sorted(p.stem for p in (FOLDER / 'pads').glob('*.yaml'))
DOCUMENT = Path(__file__).parents[2] / 'docs' / 'teleoperation.md'


@pytest.mark.parametrize('name', CONFIGS)
def test_every_file_is_read_and_makes_a_teleop(name):
    config = load_teleop_config(name, SPEC)
    assert config.device == name
    assert Teleop(SPEC, config).arms == ('left', 'right')
    assert config.keyboard is not None and config.keyboard.actions['esc'] == 'stop'


@pytest.mark.parametrize('pad', PADS)
def test_every_pad_has_what_the_map_uses(pad):
    config = load_teleop_config('gamepad', SPEC)
    Teleop(SPEC, config, pad=load_pad(pad))
    assert config.gamepad is not None and config.gamepad.deadman


def test_requests_are_those_of_the_arbiter_and_the_recorder():
    """All but the robot's own word: an operator does not call himself."""
    asked = {*ARBITER_REQUESTS, 'start', 'success', 'failure', 'discard'} - {'help'}
    assert set(REQUESTS) == asked


def test_keyboard_and_gamepad_reach_everything():
    """Every axis both ways and every action of their device; engage and release are takeover."""
    keyboard = load_teleop_config('keyboard', SPEC)
    gamepad = load_teleop_config('gamepad', SPEC)
    both_ways = {(axis, sign) for axis in (*AXES, GRIPPER) for sign in (-1.0, 1.0)}
    assert {parse_motion(m) for m in keyboard.keyboard.motion.values()} == both_ways
    assert {parse_motion(m)[0] for m in gamepad.gamepad.motion.values()} == {*AXES, GRIPPER}
    joints = {f'j{i + 1}' for i in range(len(SPEC.joints))}
    assert {parse_motion(m)[0] for m in keyboard.keyboard.joints.values()} >= joints
    assert {parse_motion(m)[0] for m in gamepad.gamepad.joints.values()} >= joints
    needed = {a for a in (*REQUESTS, *LOCAL) if applies(a, 'gamepad')} - {'engage', 'release'}
    assert set(keyboard.keyboard.actions.values()) >= needed
    assert set(gamepad.gamepad.actions.values()) >= needed - {'quit', 'select next'}


def test_nothing_stands_between_an_operator_and_stop():
    """No chord claims the button of stop or take over while another button is held to turn."""
    gamepad = load_teleop_config('gamepad', SPEC).gamepad
    chords = [parts(c) for c in gamepad.actions if len(parts(c)) > 1]
    stop = next(c for c, action in gamepad.actions.items() if action == 'stop')
    assert stop not in {chord[-1] for chord in chords}
    turning = {m for c in (*gamepad.motion, *gamepad.joints) for m in parts(c)[:-1]}
    held = {m for chord in chords for m in chord[:-1]}
    assert not held & (turning | {gamepad.deadman} | gamepad.actions.keys())


def write(tmp_path: Path, change: dict, base: str = 'keyboard') -> str:
    data = load_yaml(FOLDER / f'{base}.yaml')
    for path, value in change.items():
        *parents, leaf = path.split('/')
        target = data
        for parent in parents:
            target = target[parent]
        if value is None:
            del target[leaf]
        else:
            target[leaf] = value
    file = tmp_path / 'my.yaml'
    file.write_text(yaml.safe_dump(data))
    return str(file)


@pytest.mark.parametrize(('base', 'change', 'message'), [
    ('keyboard', {'speeds': 1}, "unknown key 'speeds'.*'speed'"),
    ('keyboard', {'device': 'gamepad'}, 'no section gamepad'),
    ('keyboard', {'device': 'keybord'}, "did you mean 'keyboard'"),
    ('keyboard', {'keyboard/motion/j': 'w+'}, "'w\\+' is no motion"),
    ('keyboard', {'keyboard/motion/j': 'j1+'}, 'motion: j: j1\\+ does not belong here'),
    ('keyboard', {'keyboard/joints/j': 'x+'}, 'joints: j: x\\+ does not belong here'),
    ('keyboard', {'keyboard/motion/spce': 'x+'}, "unknown control 'spce'.*'space'"),
    ('keyboard', {'keyboard/motion/space': 'x+'}, 'both a motion and an action: space'),
    ('keyboard', {'keyboard/actions/z': 'tak_over'}, "unknown action 'tak_over'.*'takeover'"),
    ('keyboard', {'keyboard/actions/z': 'select middle'}, 'select left'),
    ('keyboard', {'keyboard/hold': 0.9}, 'tap <= hold < repeat_delay'),
    ('keyboard', {'speed/steps': [0.5, 0.1]}, 'steps must increase'),
    ('keyboard', {'speed/start': 0.3}, 'not one of the steps'),
    ('keyboard', {'speed/limit': 2.0}, 'limit must be in'),
    ('keyboard', {'speed/linear': -1.0}, 'linear must be > 0'),
    ('keyboard', {'mirror': [1, -1]}, 'mirror has 2 factors'),
    ('gamepad', {'gamepad/deadman': None}, 'missing key.*deadman'),
    ('gamepad', {'gamepad/deadman': 'rb'}, "unknown deadman 'rb'"),
    ('gamepad', {'gamepad/motion/l1+lft_x': 'x+'}, "unknown control 'lft_x'.*'left_x'"),
    ('gamepad', {'gamepad/dead_zone': 1.5}, 'dead_zone < 1'),
    ('leader', {'leader/joints': {'left_wast': {'joint': 'a'}}}, "did you mean 'left_waist'"),
    ('leader', {'leader/joints': {'left_waist': {'joint': 'a', 'sign': 2}}}, "value '2'"),
    ('leader', {'leader/arms': ['middle']}, "unknown arm 'middle'"),
    ('leader', {'leader/engage': 'now'}, "unknown value 'now'"),
    ('pose', {'pose/rotation': [0, 1]}, 'must have 3 entries'),
    ('pose', {'pose/jump': 0}, 'must be > 0'),
    ('pose', {'keyboard': {'motion': {'j': 'x+'}}}, 'only pose moves the arms'),
    ('pose', {'keyboard': {'actions': {'t': 'mode'}}}, "'mode' means nothing to a pose"),
    ('twist', {'twist/units': 'mm'}, "unknown value 'mm'"),
    ('twist', {'leader': {}}, 'leave the section leader out'),
])
def test_wrong_files_say_what_would_be_right(tmp_path, base, change, message):
    file = write(tmp_path, change, base)
    with pytest.raises(ConfigError, match=message) as error:
        load_teleop_config(file, SPEC)
    assert file in str(error.value)


def test_a_digit_key_without_quotes_is_explained(tmp_path):
    file = write(tmp_path, {'keyboard/actions': {1: 'stop'}})
    with pytest.raises(ConfigError, match='write 1 in quotes'):
        load_teleop_config(file, SPEC)


@pytest.mark.parametrize(('key', 'value', 'message'), [
    ('axes', {'lft_x': 0}, "did you mean 'left_x'"),
    ('hats', {'up': '7'}, 'as 6\\+'),
    ('buttons', {'a': 0}, "unknown control 'a'"),
])
def test_wrong_pads_say_what_would_be_right(tmp_path, key, value, message):
    file = tmp_path / 'pad.yaml'
    file.write_text(yaml.safe_dump({**load_yaml(FOLDER / 'pads' / 'xbox.yaml'), key: value}))
    with pytest.raises(ConfigError, match=message):
        load_pad(str(file))


def test_unknown_names_list_the_valid_ones():
    with pytest.raises(ConfigError, match='keyboard'):
        load_teleop_config('keybord', SPEC)
    with pytest.raises(ConfigError, match='xbox'):
        load_pad('xbx')


def test_every_action_has_words():
    assert meaning('select left') == 'left arm'
    for action in (*REQUESTS, *LOCAL):
        assert meaning(action)


def check_document(table: str) -> None:
    assert table in DOCUMENT.read_text(), (
        f'{DOCUMENT.name} does not say what the configuration does; write there:\n\n{table}\n')


def test_documented_keys_are_the_keys():
    check_document(keyboard_table(load_teleop_config('keyboard', SPEC).keyboard))


def test_documented_buttons_are_the_buttons():
    check_document(gamepad_table(load_teleop_config('gamepad', SPEC).gamepad, load_pad('xbox')))


@pytest.mark.parametrize('name', CONFIGS + [f'pads/{pad}' for pad in PADS])
def test_every_file_is_documented(name):
    assert f'config/teleop/{name}.yaml' in DOCUMENT.read_text()
