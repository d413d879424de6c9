"""Joy numbers into motions and actions: dead man, dead zone, chords, silence, device files."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from il_robot.control.teleop_config import GamepadConfig, load_pad
from il_robot.control.teleop_gamepad import JoystickState, Pad
from il_robot.errors import ConfigError

XBOX = load_pad('xbox')
CONFIG = GamepadConfig(
    layout='xbox', deadman='r1', dead_zone=0.1, timeout=0.3,
    motion={'left_x': 'x-', 'left_y': 'y+', 'l1+left_x': 'pitch-', 'l2': 'gripper+'},
    joints={'left_x': 'j1+'},
    actions={'south': 'takeover', 'l1+south': 'run', 'up': 'faster', 'l1+up': 'select both'})


def joy(*held: str, **axes: float) -> tuple[list[float], list[int]]:
    """A message of an Xbox pad with these buttons held and these controls moved."""
    values, buttons = [0.0] * 8, [0] * 11
    for index in XBOX.triggers.values():
        values[index] = 1.0
    for name in held:
        if name in XBOX.buttons:
            buttons[XBOX.buttons[name]] = 1
        else:
            hat = XBOX.hats[name]
            values[int(hat[:-1])] = 1.0 if hat[-1] == '+' else -1.0
    for name, value in axes.items():
        values[{**XBOX.axes, **XBOX.triggers}[name]] = value
    return values, buttons


def pad_with(*held: str, **axes: float) -> Pad:
    pad = Pad(CONFIG, XBOX)
    pad.read(*joy(), now=0.0)
    pad.read(*joy(*held, **axes), now=0.05)
    return pad


def motion(*held: str, joints: bool = False, **axes: float) -> dict[str, float]:
    return pad_with(*held, **axes).motion(0.05, joints=joints)


def test_nothing_moves_without_the_dead_man():
    assert motion(left_x=1.0, l2=-1.0) == {}
    assert motion('r1', left_x=1.0) == {'x': -1.0}


def test_nothing_moves_when_the_pad_falls_silent():
    pad = pad_with('r1', left_x=1.0)
    assert pad.alive(0.05 + CONFIG.timeout)
    assert not pad.alive(0.06 + CONFIG.timeout)
    assert pad.motion(0.06 + CONFIG.timeout, joints=False) == {}


@settings(max_examples=100, deadline=None)
@given(st.floats(-1, 1))
def test_dead_zone_is_zero_inside_and_grows_from_zero_to_one(value):
    out = motion('r1', left_y=value).get('y', 0.0)
    assert abs(out) <= 1.0
    assert out == 0.0 if abs(value) <= 0.1 else np.sign(out) == np.sign(value)
    assert abs(out) <= max(0.0, (abs(value) - 0.1) / 0.9) + 1e-12


def test_a_chord_replaces_what_the_stick_does_alone():
    assert motion('r1', 'l1', left_x=0.55) == pytest.approx({'pitch': -0.5})
    assert motion('r1', 'l1', left_y=1.0) == {'y': 1.0}  # no chord of its own


def test_joint_mode_keeps_the_triggers():
    assert motion('r1', joints=True, left_x=1.0, left_y=1.0, l2=-1.0) == {
        'j1': 1.0, 'gripper': 1.0}


def test_a_trigger_that_never_moved_does_nothing():
    """Drivers report 0 before the first event; read as a half-pressed trigger it would move."""
    values, buttons = joy('r1')
    for index in XBOX.triggers.values():
        values[index] = 0.0
    pad = Pad(CONFIG, XBOX)
    pad.read(values, buttons, 0.0)
    assert pad.motion(0.0, joints=False) == {}


def actions(*messages: tuple[list[float], list[int]]) -> list[list[str]]:
    pad = Pad(CONFIG, XBOX)
    return [pad.read(*message, now=0.05 * i) for i, message in enumerate(messages)]


def test_a_button_acts_when_it_goes_down_and_not_again():
    assert actions(joy(), joy('south'), joy('south'), joy(), joy('south')) == [
        [], ['takeover'], [], [], ['takeover']]


def test_a_button_that_bounces_acts_once():
    pad = Pad(CONFIG, XBOX)
    down = []
    for i, buttons in enumerate(((), ('south',), (), ('south',), ('south',), (), ('south',))):
        down += pad.read(*joy(*buttons), 0.004 * i)
    assert down == ['takeover']
    pad.read(*joy(), 0.1)
    assert pad.read(*joy('south'), 0.2) == ['takeover']


def test_a_chord_acts_instead_of_its_button():
    assert actions(joy(), joy('l1'), joy('l1', 'south')) == [[], [], ['run']]
    assert actions(joy(), joy('l1'), joy('l1', 'up')) == [[], [], ['select both']]
    assert actions(joy(), joy('up')) == [[], ['faster']]


def test_a_button_held_at_the_start_or_after_a_silence_does_not_act():
    pad = Pad(CONFIG, XBOX)
    assert pad.read(*joy('south'), now=0.0) == []
    pad.read(*joy(), now=0.1)
    assert pad.read(*joy('south'), now=5.0) == []


@pytest.mark.parametrize('message', [([0.0] * 4, [0] * 11), ([0.0] * 8, [0] * 3), ([], [])])
def test_too_short_a_message_is_an_error_and_changes_nothing(message):
    pad = pad_with('r1', left_x=1.0)
    with pytest.raises(ConfigError, match='needs 8 axes and 11 buttons.*parameter pad'):
        pad.read(*message, now=0.06)
    assert pad.motion(0.06, joints=False) == {'x': -1.0}


def test_a_map_for_another_pad_is_refused():
    layout = load_pad('xbox')
    config = GamepadConfig(layout='xbox', deadman='', actions={'south': 'stop'})
    Pad(config, layout)
    del layout.buttons['south']
    with pytest.raises(ConfigError, match='no south'):
        Pad(config, layout)


def test_sdl_triggers_rest_at_zero():
    layout = load_pad('sdl')
    pad = Pad(GamepadConfig(layout='sdl', deadman='', motion={'l2': 'gripper+'}), layout)
    values, buttons = [0.0] * 6, [0] * 15
    for value, wanted in ((0.0, {}), (-1.0, {'gripper': 1.0}), (0.0, {})):
        values[4] = value
        pad.read(values, buttons, 0.0)
        assert pad.motion(0.0, joints=False) == wanted


def event(kind: int, number: int, value: int) -> bytes:
    return struct.pack('=IhBB', 1234, value, kind, number)


def test_device_file_gives_what_joy_node_gives():
    state = JoystickState()
    state.feed(event(0x82, 1, 0) + event(0x81, 2, 0))  # initial state
    state.feed(event(0x02, 0, -32767) + event(0x02, 1, 32767) + event(0x01, 0, 1))
    assert state.axes == [1.0, -1.0]  # left is positive, down is negative
    assert state.buttons == [1, 0, 0]
    state.feed(event(0x01, 0, 0) + event(0x02, 0, -32768))
    assert state.axes[0] == 1.0 and state.buttons[0] == 0


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=20), st.integers(0, 2**32 - 1))
def test_device_file_in_any_pieces_is_the_same(sizes, seed):
    rng = np.random.default_rng(seed)
    data = b''.join(event(int(rng.choice([1, 2, 0x81, 0x82])), int(rng.integers(8)),
                          int(rng.integers(-32768, 32768))) for _ in range(10))
    whole, pieces = JoystickState(), JoystickState()
    whole.feed(data)
    at = 0
    for size in [*sizes, len(data)]:
        pieces.feed(data[at:at + size])
        at += size
    assert (whole.axes, whole.buttons) == (pieces.axes, pieces.buttons)
