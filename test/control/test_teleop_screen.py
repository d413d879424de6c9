"""The operator's screen: always within the terminal, what matters always on it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from il_robot.control.teleop import Teleop
from il_robot.control.teleop_config import load_teleop_config
from il_robot.control.teleop_help import grouped, meaning
from il_robot.control.teleop_screen import ScreenView, screen
from il_robot.resources import named_config
from il_robot.spec import load_robot_spec

SPEC = load_robot_spec(named_config('robots', 'sim_dual_arm'))
DEVICES = ('keyboard', 'gamepad', 'leader', 'pose', 'twist')
TELEOPS = {name: Teleop(SPEC, load_teleop_config(name, SPEC)) for name in DEVICES}
VIEW = ScreenView(
    mode='CORRECTION', reason='request engage left', drivers={'left': 'teleop', 'right': 'policy'},
    recorder='recording', episode='12', widths={'left': 0.043, 'right': 0.08},
    trouble=('no joint_states',), absent=('right',))


def text(teleop: Teleop, view: ScreenView = VIEW, columns: int = 80, rows: int = 24) -> str:
    return '\n'.join(line.text for line in screen(teleop, view, columns, rows))


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(DEVICES), st.integers(10, 250), st.integers(1, 60))
def test_it_fits_the_terminal(device, columns, rows):
    lines = screen(TELEOPS[device], VIEW, columns, rows)
    assert len(lines) <= rows
    assert all(len(line.text) <= columns and '\n' not in line.text for line in lines)


@pytest.mark.parametrize('device', DEVICES)
def test_who_drives_and_why_recording_widths_and_every_key(device):
    shown = text(TELEOPS[device])
    for part in ('CORRECTION: request engage left', 'left     driven by teleop',
                 'right    driven by policy', '43 mm', '80 mm', 'RECORDING episode 12',
                 '! no joint_states', 'device silent'):
        assert part in shown
    for action in grouped(TELEOPS[device].config.keyboard.actions):
        assert meaning(action) in shown


def test_before_anything_is_heard():
    shown = text(TELEOPS['keyboard'], ScreenView())
    assert 'no arbiter' in shown and 'no recorder' in shown and '? mm' in shown


def test_what_the_operator_chose():
    teleop = Teleop(SPEC, load_teleop_config('keyboard', SPEC))
    assert 'moving left and right, along base, speed 50 %: 100 mm/s' in text(teleop)
    for action in ('mirror', 'frame', 'slower'):
        teleop.act(action)
    assert 'left and right mirrored, along gripper, speed 25 %: 50 mm/s' in text(teleop)
    teleop.act('select right')
    teleop.act('mode')
    shown = text(teleop)
    assert 'moving right, joint by joint' in shown and '* right' in shown and '  left' in shown
    assert 'j1- j1+' in shown and 'x- x+' not in shown
    teleop.keys(b'?', 0.0)
    assert '> ? does nothing' in text(teleop)


def test_danger_is_red():
    lines = screen(TELEOPS['keyboard'], ScreenView(mode='STOPPED', reason='request stop'), 80, 24)
    assert {line.text: line.style for line in lines}['STOPPED: request stop'] == 'alarm'
