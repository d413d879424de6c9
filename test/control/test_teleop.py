"""Laws of teleoperation, in a loop with the real arbiter and a robot that obeys it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from il_robot.control.arbiter import Arbiter, ArbiterConfig, Proposal
from il_robot.control.modes import Request
from il_robot.control.teleop import COMMAND_AGE, RobotView, Teleop
from il_robot.control.teleop_config import load_teleop_config
from il_robot.errors import ConfigError
from il_robot.kinematics import Pose
from il_robot.resources import named_config
from il_robot.spec import load_robot_spec
from il_robot.types import ControlMode, Source

SPEC = load_robot_spec(named_config('robots', 'sim_dual_arm'))
DT = SPEC.dt
LEFT, RIGHT = SPEC.arm_slice('left'), SPEC.arm_slice('right')
CONFIGS = {name: load_teleop_config(name, SPEC)
           for name in ('keyboard', 'gamepad', 'leader', 'pose', 'twist')}
IDENTITY = np.eye(3)


def make(device: str = 'keyboard', **options) -> Teleop:
    teleop = Teleop(SPEC, CONFIGS[device], **options)
    teleop.terminal = True
    return teleop


class Loop:
    """Teleop, arbiter and a robot that is where it was commanded, tick by tick."""

    def __init__(self, teleop: Teleop, state: np.ndarray = SPEC.rest) -> None:
        self.teleop, self.state = teleop, state.astype(np.float32)
        self.arbiter = Arbiter(SPEC, ArbiterConfig())
        self.now, self.command, self.stamp = 0.0, None, -np.inf
        self.drivers = dict.fromkeys(teleop.arms, Source.HOLD)
        self.feed = lambda: None
        self.requests: list[str] = []

    def tick(self, *requests: str) -> np.ndarray:
        self.now += DT
        self.feed()
        view = RobotView(self.now, self.state, self.command, self.stamp, self.drivers)
        self.proposal = self.teleop.propose(self.now, view)
        wanted = [Request.parse(r, SPEC) for r in (*requests, *self.requests)]
        self.requests.clear()
        decision = self.arbiter.decide(
            self.now, self.state, {Source.TELEOP: Proposal(self.now, self.proposal)}, wanted)
        self.refused, self.mode = decision.refused, decision.mode
        self.drivers = dict(zip((a.name for a in SPEC.arms), decision.drivers))
        self.command, self.stamp, self.state = decision.command, self.now, decision.command
        return decision.command

    def type(self, text: bytes) -> None:
        self.requests += self.teleop.keys(text, self.now)

    def hold_key(self, key: bytes, ticks: int) -> None:
        for _ in range(ticks):
            self.type(key)
            self.tick()

    def eef(self, arm: str) -> Pose:
        return self.teleop._arms[arm].model.eef(self.command[SPEC.arm_slice(arm)].astype(float))


def engaged(device: str = 'keyboard', state: np.ndarray = SPEC.rest, **options) -> Loop:
    loop = Loop(make(device, **options), state)
    loop.tick()
    loop.tick('engage')
    loop.tick()
    return loop


def far_away(rng: np.random.Generator) -> np.ndarray:
    return (SPEC.lower + rng.random(SPEC.dim) * (SPEC.upper - SPEC.lower)).astype(np.float32)


# -- no jump ------------------------------------------------------------------------------------
@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(['keyboard', 'leader', 'pose', 'twist']))
def test_engaging_moves_nothing_whatever_the_state_and_the_device(seed, device):
    rng = np.random.default_rng(seed)
    loop = Loop(make(device), far_away(rng))
    leader = loop.state + rng.uniform(-0.05, 0.05, SPEC.dim)
    hand = Pose(IDENTITY, rng.normal(size=3))

    def feed() -> None:
        for arm in ('left', 'right'):
            loop.teleop.hand(arm, hand, loop.now, 0.0)
            loop.teleop.clutch(arm, 1.0, loop.now)
            loop.teleop.squeeze(arm, 0.3, loop.now)
            loop.teleop.twist(arm, np.zeros(6), loop.now)
        loop.teleop.leader(SPEC.joint_names, leader, loop.now, 0.0)

    loop.feed = feed
    before = loop.state
    loop.tick()
    loop.tick('engage')
    assert not loop.refused and loop.mode is ControlMode.TELEOP
    for _ in range(3):
        last = loop.command
        loop.tick()
        assert (np.abs(loop.command - last) <= SPEC.velocity * DT + 1e-6).all()
    if device != 'leader':  # whose distance fades
        grippers = [LEFT.stop - 1, RIGHT.stop - 1]
        np.testing.assert_allclose(
            np.delete(loop.command, grippers), np.delete(before, grippers), atol=1e-5)


def test_a_released_arm_follows_its_command_and_is_taken_over_there():
    loop = engaged()
    loop.tick('release')
    elsewhere = SPEC.rest.copy()
    elsewhere[LEFT.start] += 0.5
    # somebody else moved it: the proposal follows, so engaging again does not pull it back
    loop.teleop.propose(loop.now, RobotView(loop.now, elsewhere, elsewhere, loop.now, {}))
    view = RobotView(loop.now + DT, elsewhere, elsewhere, loop.now, {'left': Source.TELEOP})
    np.testing.assert_array_equal(loop.teleop.propose(loop.now, view), elsewhere)


@pytest.mark.parametrize('age', [None, COMMAND_AGE + 0.1])
def test_without_a_fresh_command_the_state_is_followed(age):
    teleop = make()
    state = SPEC.rest + np.float32(0.1)
    state[[LEFT.stop - 1, RIGHT.stop - 1]] = 0.05
    command = None if age is None else SPEC.rest
    for i in range(5):
        teleop.keys(b'l', 1.0)
        drivers = {'left': Source.TELEOP, 'right': Source.TELEOP}
        stamp = -np.inf if age is None else 1.0 + i * DT - age
        proposal = teleop.propose(1.0, RobotView(1.0 + i * DT, state, command, stamp, drivers))
        np.testing.assert_allclose(proposal, state, atol=1e-6)


# -- limits -------------------------------------------------------------------------------------
steps = st.lists(st.tuples(st.sampled_from(
    [b'l', b'j', b'i', b'k', b'u', b'm', b'I', b'K', b'U', b'J', b'o', b'c', b'g', b't', b'e',
     b'4', b'1', b'2', b'3', b'+', b'-', b'\t', b' ', b'h', b'']), st.integers(1, 12)),
    max_size=12)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), steps)
def test_any_keys_stay_inside_the_limits_and_slow_enough(seed, script):
    """Whatever is typed from whatever posture, proposals are valid, and never outrun the arm."""
    loop = engaged(state=far_away(np.random.default_rng(seed)))
    for key, ticks in script:
        for _ in range(ticks):
            last = loop.proposal
            loop.type(key)
            loop.tick()
            assert np.isfinite(loop.proposal).all()
            assert (loop.proposal >= SPEC.lower).all() and (loop.proposal <= SPEC.upper).all()
            if all(d is Source.TELEOP for d in loop.drivers.values()):
                assert (np.abs(loop.proposal - last) <= SPEC.velocity * DT + 2e-6).all()


def test_the_limit_of_the_configuration_holds():
    speed = replace(CONFIGS['keyboard'].speed, joint=3.0, limit=0.2, start=1.0)
    teleop = Teleop(SPEC, replace(CONFIGS['keyboard'], speed=speed))
    teleop.terminal = True
    loop = Loop(teleop)
    loop.tick(), loop.tick('engage'), loop.tick()
    loop.teleop.act('mode')
    last = loop.proposal
    loop.hold_key(b'j', 1)
    moved = loop.proposal - last
    assert moved[LEFT.start] == pytest.approx(0.2 * SPEC.velocity[0] * DT, rel=1e-4)


def test_a_blocked_arm_winds_nothing_up():
    """The command stands still (a safety gate, say): the target stays near it."""
    teleop = make()
    view = RobotView(1.0, SPEC.rest, SPEC.rest, 1.0, {'left': Source.TELEOP})
    for i in range(500):
        teleop.keys(b'l', i * DT)
        proposal = teleop.propose(i * DT, replace(
            view, stamp=1.0 + i * DT, command_stamp=1.0 + i * DT))
    leash = 0.3 * SPEC.velocity[LEFT] + 1e-5
    assert (np.abs(proposal[LEFT] - SPEC.rest[LEFT]) <= leash).all()


# -- keys ---------------------------------------------------------------------------------------
@pytest.mark.parametrize(('key', 'direction'), [
    (b'l', [1, 0, 0]), (b'j', [-1, 0, 0]), (b'i', [0, 1, 0]), (b'k', [0, -1, 0]),
    (b'u', [0, 0, 1]), (b'm', [0, 0, -1])])
@pytest.mark.parametrize('arms', ['left', 'right', 'both'])
def test_keys_move_the_selected_arms_in_base(key, direction, arms):
    loop = engaged()
    loop.teleop.act(f'select {arms}')
    before = {arm: loop.eef(arm).position for arm in loop.teleop.arms}
    loop.hold_key(key, 25)
    for arm in loop.teleop.arms:
        moves = arms in (arm, 'both')
        wanted = 0.5 * 0.2 * 25 * DT * np.array(direction) * moves
        np.testing.assert_allclose(loop.eef(arm).position - before[arm], wanted, atol=2e-4)


def test_in_the_gripper_frame_both_arms_move_along_their_own_axes():
    loop = engaged()
    loop.teleop.act('frame')
    before = {arm: loop.eef(arm) for arm in loop.teleop.arms}
    loop.hold_key(b'l', 20)
    for arm, pose in before.items():
        local = pose.inverse_apply(loop.eef(arm).position)
        np.testing.assert_allclose(local, [0.5 * 0.2 * 20 * DT, 0, 0], atol=2e-4)


@pytest.mark.parametrize('mode', ['cartesian', 'joint'])
@pytest.mark.parametrize('frame', ['base', 'eef'])
def test_mirrored_arms_stay_mirror_images(mode, frame):
    loop = engaged()
    loop.teleop.act('mirror')
    if frame == 'eef':
        loop.teleop.act('frame')
    if mode == 'joint':
        loop.teleop.act('mode')
    for key in (b'l', b'i', b'u', b'J', b'K', b'M', b'c'):
        loop.hold_key(key, 12)
    flip = np.diag([-1.0, 1.0, 1.0])
    left, right = loop.eef('left'), loop.eef('right')
    np.testing.assert_allclose(flip @ left.position, right.position, atol=1e-5)
    # the mirror image of a frame, with its own y turned back (left-handed else)
    np.testing.assert_allclose(
        flip @ left.rotation @ np.diag([1.0, -1.0, 1.0]), right.rotation, atol=1e-4)
    assert loop.command[LEFT.stop - 1] == loop.command[RIGHT.stop - 1] < 0.08
    assert np.linalg.norm(left.position - Loop(make()).teleop._arms['left'].model.eef(
        SPEC.rest[LEFT].astype(float)).position) > 0.02


def test_joint_mode_moves_one_joint():
    loop = engaged()
    loop.teleop.act('select left')
    loop.teleop.act('mode')
    before = loop.command
    loop.hold_key(b'i', 20)
    moved = loop.command - before
    assert moved[1] == pytest.approx(0.5 * 20 * DT, abs=1e-4)
    np.testing.assert_allclose(np.delete(moved, 1), 0.0, atol=1e-6)


def test_speed_goes_through_its_steps_and_stops_at_the_ends():
    teleop = make()
    seen = []
    for action in ['faster'] * 3 + ['slower'] * 5:
        assert teleop.act(action) == ''
        seen.append(teleop.fraction)
    assert seen == [1.0, 1.0, 1.0, 0.5, 0.25, 0.1, 0.1, 0.1]


def test_gripper_by_key_and_by_toggle():
    loop = engaged()
    loop.teleop.act('select right')
    loop.hold_key(b'c', 20)
    assert loop.command[RIGHT.stop - 1] == pytest.approx(0.08 - 0.5 * 0.1 * 20 * DT, abs=1e-5)
    assert loop.command[LEFT.stop - 1] == pytest.approx(0.08)
    loop.type(b'g')
    for _ in range(60):
        loop.tick()
    assert loop.command[RIGHT.stop - 1] == 0.0
    loop.teleop.act('gripper')
    for _ in range(60):
        loop.tick()
    assert loop.command[RIGHT.stop - 1] == pytest.approx(0.08)


def test_space_takes_over_and_gives_back():
    loop = Loop(make())
    loop.tick()
    loop.type(b' ')
    assert loop.requests == ['engage']
    loop.tick(), loop.tick()
    assert loop.mode is ControlMode.TELEOP
    loop.now += 1.0
    loop.stamp = loop.now
    loop.type(b' ')
    assert loop.requests == ['release']


def test_takeover_of_one_arm_names_it():
    loop = Loop(make())
    loop.tick()
    loop.teleop.act('select left')
    assert loop.teleop.act('takeover') == 'engage left'
    loop.tick('engage left')
    loop.tick()
    assert loop.teleop.act('takeover') == 'release left'
    loop.teleop.act('select next')
    assert loop.teleop.act('takeover') == 'engage right'


def test_motion_before_the_takeover_is_explained_and_moves_nothing():
    loop = Loop(make())
    loop.tick()
    before = loop.proposal
    loop.hold_key(b'l', 5)
    np.testing.assert_array_equal(loop.proposal, before)
    assert 'take over first' in loop.teleop.notice
    loop.teleop.act('gripper')
    assert 'not yours' in loop.teleop.notice


def test_unknown_keys_and_actions_are_explained():
    teleop = make()
    teleop.keys(b'R', 0.0)
    assert teleop.notice == 'R does nothing (Caps Lock?)'
    with pytest.raises(ConfigError, match="did you mean 'takeover'"):
        teleop.act('take_over')
    assert teleop.act('quit') == '' and teleop.quit


# -- who is there -------------------------------------------------------------------------------
def test_without_a_terminal_the_keyboard_speaks_for_nobody():
    loop = engaged()
    loop.teleop.terminal = False
    loop.tick()
    assert np.isnan(loop.proposal).all()
    for _ in range(20):
        loop.tick()
    assert loop.mode is ControlMode.HOLD


def test_a_silent_leader_is_absent_and_comes_back_where_the_arm_is():
    loop = Loop(make('leader'))
    leader = {'left': SPEC.rest[LEFT].astype(float)}

    def feed() -> None:
        loop.teleop.leader(SPEC.joint_names[LEFT], leader['left'], loop.now, loop.now)

    loop.feed = feed
    loop.tick()
    assert np.isfinite(loop.proposal[LEFT]).all() and np.isnan(loop.proposal[RIGHT]).all()
    loop.tick('engage left')
    for _ in range(30):
        leader['left'][0] += 0.01
        loop.tick()
    assert loop.command[0] == pytest.approx(leader['left'][0], abs=0.03)
    loop.feed = lambda: None
    for _ in range(20):
        loop.tick()
    assert np.isnan(loop.proposal).all() and loop.mode is ControlMode.HOLD
    leader['left'][0] += 0.5
    loop.feed = feed
    loop.tick()
    loop.tick('engage left')
    held = loop.command
    for _ in range(10):
        loop.tick()
    np.testing.assert_allclose(loop.command, held, atol=1e-6)
    assert 'left_waist is' in loop.teleop.waiting('left')


def test_a_hand_moves_its_arm_while_the_clutch_is_closed():
    loop = Loop(make('pose'))
    hand = {'at': 0.0, 'grip': 1.0}

    def feed() -> None:
        # forward of the hand is +y of base
        loop.teleop.hand('left', Pose(IDENTITY, np.array([hand['at'], 0, 0])), loop.now, 0.0)
        loop.teleop.clutch('left', hand['grip'], loop.now)

    loop.feed = feed
    loop.tick()
    loop.tick('engage left')
    loop.tick()
    before = loop.eef('left').position
    for _ in range(20):
        hand['at'] += 0.004
        loop.tick()
    np.testing.assert_allclose(loop.eef('left').position - before, [0, 0.08, 0], atol=1e-3)
    hand['grip'] = 0.0
    held = loop.command
    for _ in range(20):
        hand['at'] -= 0.004
        loop.tick()
    np.testing.assert_allclose(loop.command, held, atol=2e-3)
    hand['grip'] = 1.0
    held = loop.command
    loop.tick()
    np.testing.assert_allclose(loop.command, held, atol=1e-6)
    assert np.isnan(loop.proposal[RIGHT]).all()


@pytest.mark.parametrize(('frame', 'units', 'value'), [
    ('base', 'fraction', 1.0), ('base', 'speed', 0.25), ('eef', 'fraction', 1.0)])
def test_a_twist_moves_and_its_silence_stops_then_lets_go(frame, units, value):
    config = CONFIGS['twist']
    loop = Loop(Teleop(SPEC, replace(
        config, frame=frame, twist=replace(config.twist, units=units))))
    twist = np.array([0.0, 0.0, value, 0.0, 0.0, 0.03])  # the turn is in the dead zone
    loop.feed = lambda: loop.teleop.twist('left', twist, loop.now)
    loop.tick()
    loop.tick('engage left')
    loop.tick()
    before = loop.eef('left')
    for _ in range(10):
        loop.tick()
    moved = loop.eef('left').position - before.position
    axis = before.rotation[:, 2] if frame == 'eef' else np.array([0.0, 0.0, 1.0])
    np.testing.assert_allclose(moved, 0.5 * 0.25 * 10 * DT * axis, atol=3e-4)
    loop.feed = lambda: None
    for _ in range(round(0.3 / DT)):
        loop.tick()
    still = loop.command
    for _ in range(round(1.0 / DT)):
        loop.tick()
    np.testing.assert_array_equal(loop.command, still)
    assert loop.mode is ControlMode.TELEOP
    for _ in range(round(1.2 / DT)):
        loop.tick()
    assert loop.mode is ControlMode.HOLD


def test_a_squeezed_trigger_closes_once_it_has_met_the_gripper():
    loop = Loop(make('twist'))
    trigger = {'at': 0.5}

    def feed() -> None:
        loop.teleop.twist('left', np.zeros(6), loop.now)
        loop.teleop.squeeze('left', trigger['at'], loop.now)

    loop.feed = feed
    loop.tick()
    loop.tick('engage left')
    for _ in range(10):
        loop.tick()
    assert loop.command[LEFT.stop - 1] == pytest.approx(0.08)  # half squeezed, gripper open
    for at in (0.0, 1.0):
        trigger['at'] = at
        for _ in range(20):
            loop.tick()
    assert loop.command[LEFT.stop - 1] == 0.0


def test_the_pad_needs_its_dead_man():
    loop = Loop(make('gamepad'))
    buttons = [0] * 11
    axes = [0.0, 1.0, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0]
    loop.feed = lambda: loop.teleop.joy(axes, buttons, loop.now)
    loop.tick()
    loop.tick('engage')
    loop.tick()
    before = loop.eef('left').position
    for _ in range(10):
        loop.tick()
    loop.teleop.act('gripper')
    for _ in range(10):
        loop.tick()
    np.testing.assert_allclose(loop.eef('left').position, before, atol=1e-6)
    assert loop.command[LEFT.stop - 1] == SPEC.rest[LEFT.stop - 1]
    buttons[5] = 1
    for _ in range(10):
        loop.tick()
    moved = loop.eef('left').position - before
    np.testing.assert_allclose(moved, [0, 0.5 * 0.25 * 10 * DT, 0], atol=3e-4)


# -- wrong use ----------------------------------------------------------------------------------
@pytest.mark.parametrize(('device', 'options', 'message'), [
    ('keyboard', {'arms': ['middle']}, "unknown arm 'middle'"),
    ('keyboard', {'fraction': 0.3}, 'speed 0.3 is not one of the steps 0.1, 0.25, 0.5, 1'),
])
def test_wrong_options(device, options, message):
    with pytest.raises(ConfigError, match=message):
        make(device, **options)


def test_one_arm_of_two():
    loop = Loop(make(arms=['right']))
    loop.tick()
    assert np.isnan(loop.proposal[LEFT]).all() and np.isfinite(loop.proposal[RIGHT]).all()
    assert loop.teleop.act('takeover') == 'engage right'
    loop.teleop.act('mirror')
    assert 'needs two arms' in loop.teleop.notice
    loop.teleop.act('select left')
    assert "unknown arm 'left'" in loop.teleop.notice


def test_a_robot_without_kinematics_moves_joint_by_joint():
    spec = replace(SPEC, geometry=None)
    with pytest.raises(ConfigError, match='closed-form'):
        Teleop(spec, CONFIGS['pose'])
    teleop = Teleop(spec, CONFIGS['keyboard'])
    assert teleop.joint_mode
    teleop.act('mode')
    assert teleop.joint_mode and 'joint by joint only' in teleop.notice


def test_time_that_goes_back_moves_nothing():
    loop = engaged()
    loop.hold_key(b'l', 3)
    last = loop.proposal
    view = RobotView(loop.now - 5.0, loop.state, loop.command, loop.now - 5.0, loop.drivers)
    np.testing.assert_allclose(loop.teleop.propose(loop.now, view), last, atol=1e-6)
