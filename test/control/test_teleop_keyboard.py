"""Bytes of a terminal into keys, and auto-repeat into held keys."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from il_robot.control.teleop_config import KeyboardConfig
from il_robot.control.teleop_keyboard import ESCAPE_TIME, Keyboard, KeyParser

CONFIG = KeyboardConfig(
    motion={'l': 'x+', 'j': 'x-', 'o': 'gripper+', 'J': 'yaw+'},
    joints={'l': 'j1-', 'j': 'j1+'},
    actions={'space': 'takeover', 'esc': 'stop', '+': 'faster', '1': 'select left'})


def keys(data: bytes) -> list[str]:
    parser = KeyParser()
    return parser.feed(data, 0.0) + parser.feed(b'', 1.0)


@pytest.mark.parametrize(('data', 'wanted'), [
    (b'a', ['a']), (b'A', ['A']), (b' ', ['space']), (b'\t', ['tab']), (b'\r', ['enter']),
    (b'\x7f', ['backspace']), (b'\x1b', ['esc']), (b'\x1b\x1b', ['esc', 'esc']),
    (b'\x1b[A', ['up']), (b'\x1bOB', ['down']), (b'\x1b[C\x1b[D', ['right', 'left']),
    (b'\x1b[5~', ['page_up']), (b'\x1b[6~', ['page_down']), (b'\x1b[H', ['home']),
    (b'\x1bj', ['esc', 'j']),  # Esc while a key repeats is never swallowed
    (b'\x1b[1;5C', []), (b'\x1b[15~', []), (b'\xc3\xa9', []), (b'\x00\x01', []),
    (b'\x1b[200~rsfd \x1b[201~l', ['l']),  # pasted text is not typed
    (b'\x1b[', ['esc', '[']),
])
def test_bytes_to_keys(data, wanted):
    assert keys(data) == wanted


@pytest.mark.parametrize('cut', [1, 2])
def test_a_sequence_in_pieces_is_one_key(cut):
    parser = KeyParser()
    data = b'\x1b[A'
    assert parser.feed(data[:cut], 0.0) == []
    assert parser.feed(data[cut:], 0.01) == ['up']


def test_esc_alone_waits_no_longer_than_its_time():
    parser = KeyParser()
    assert parser.feed(b'\x1b', 0.0) == []
    assert parser.feed(b'', 0.5 * ESCAPE_TIME) == []
    assert parser.feed(b'', ESCAPE_TIME) == ['esc']


def test_a_paste_without_end_does_not_lock_the_keys_out():
    parser = KeyParser()
    assert parser.feed(b'\x1b[200~rrr', 0.0) == []
    assert parser.feed(b'l', 2.0) == ['l']


@settings(max_examples=200, deadline=None)
@given(st.lists(st.binary(max_size=12), max_size=8))
def test_any_bytes_are_survived_and_end(pieces):
    parser = KeyParser()
    for i, piece in enumerate(pieces):
        parser.feed(piece, 0.01 * i)
    parser.feed(b'', 10.0)
    assert parser.feed(b'l', 20.0)[-1] == 'l'


def held_for(keyboard: Keyboard, start: float, end: float) -> list[float]:
    """Times, in steps of 10 ms, at which x is commanded."""
    ticks = [start + 0.01 * i for i in range(round((end - start) / 0.01))]
    return [t for t in ticks if keyboard.motion(t, joints=False).get('x')]


def test_one_press_is_one_short_step():
    keyboard = Keyboard(CONFIG)
    keyboard.feed(b'l', 0.0)
    moving = held_for(keyboard, 0.0, 1.0)
    assert moving[0] == 0.0
    assert moving[-1] == pytest.approx(CONFIG.tap, abs=0.011)


@pytest.mark.parametrize('period', [0.025, 0.033, 0.1])
def test_a_held_key_moves_without_gap_and_stops_soon_after(period):
    keyboard = Keyboard(CONFIG)
    keyboard.feed(b'l', 0.0)
    last = 0.5
    moving = []
    for i in range(20):
        last = 0.5 + i * period
        keyboard.feed(b'l', last)
        moving += [keyboard.motion(last + s * period, joints=False).get('x') for s in (0, .5, .99)]
    assert moving == [1.0] * len(moving)
    assert keyboard.motion(last + CONFIG.hold + 0.01, joints=False) == {}


def test_a_burst_after_a_network_pause_does_not_run_away():
    keyboard = Keyboard(CONFIG)
    keyboard.feed(b'l' * 60, 5.0)
    assert keyboard.motion(5.0, joints=False) == {'x': 1.0}
    assert keyboard.motion(5.0 + CONFIG.hold + 0.01, joints=False) == {}


def press(keyboard: Keyboard, times: list[float], key: bytes = b' ') -> list[float]:
    return [t for t in times if keyboard.feed(key, t)]


def test_a_held_action_key_acts_once():
    repeats = [0.0, *(0.5 + 0.03 * i for i in range(100))]
    assert press(Keyboard(CONFIG), repeats) == [0.0]


def test_presses_apart_act_each():
    assert press(Keyboard(CONFIG), [0.0, 1.0, 2.0]) == [0.0, 1.0, 2.0]


def test_stop_acts_with_every_event():
    keyboard = Keyboard(CONFIG)
    seen = [keyboard.feed(b'\x1b', 0.0), keyboard.feed(b'', 0.06), keyboard.feed(b'\x1b', 0.2),
            keyboard.feed(b'', 0.26)]
    assert seen == [[], ['stop'], [], ['stop']]


def test_faster_and_select_act_with_every_event():
    keyboard = Keyboard(CONFIG)
    assert keyboard.feed(b'+++1', 0.0) == ['faster', 'faster', 'faster', 'select left']
    assert keyboard.feed(b'1', 0.1) == ['select left']


def test_joint_mode_takes_the_joint_map_and_keeps_the_gripper():
    keyboard = Keyboard(CONFIG)
    keyboard.feed(b'loJ', 0.0)
    assert keyboard.motion(0.0, joints=False) == {'x': 1.0, 'gripper': 1.0, 'yaw': 1.0}
    assert keyboard.motion(0.0, joints=True) == {'j1': -1.0, 'gripper': 1.0}


def test_opposite_keys_cancel_and_release_forgets():
    keyboard = Keyboard(CONFIG)
    keyboard.feed(b'lj', 0.0)
    assert keyboard.motion(0.0, joints=False) == {'x': 0.0}
    keyboard.release()
    assert keyboard.motion(0.0, joints=False) == {}


def test_an_unknown_key_is_named():
    keyboard = Keyboard(CONFIG)
    assert keyboard.feed(b'?', 0.0) == []
    assert keyboard.unknown == '?'
