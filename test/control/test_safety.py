"""Laws of the safety gate: whatever comes in, what goes out keeps every limit and can stop."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from il_robot.control.body import Body
from il_robot.control.clearance import Clearances
from il_robot.control.safety import SafetyGate
from il_robot.sim import default_robot
from il_robot.sim.description import urdf_text

SPEC = default_robot()
DT, INSTANT = SPEC.dt, 0.1 * SPEC.dt
BODY = Body(SPEC, urdf_text(SPEC))
JOINTS = np.array([name not in SPEC.gripper_names for name in SPEC.joint_names])
# Positions are float32: 2.4e-7 rad, differentiated three times.
ROUNDING = 2.4e-7


def with_mode(mode, **changes):
    return replace(SPEC, safety=replace(SPEC.safety, mode=mode, **changes))


class Wire:
    """A gate, and everything that it sent."""

    def __init__(self, spec=SPEC, clearances=True, start=None):
        self.gate = SafetyGate(spec, 1.0, Clearances(BODY) if clearances else None)
        self.spec = spec
        self.watch = Clearances(BODY)
        if start is not None:
            self.gate.restart(start)
        self.sent, self.times, self.why = [self.gate.command], [0.0], []
        self.waiting = 0.0

    def send(self, command, dt=DT):
        command, limited = self.gate.limit(command, dt)
        self.waiting += max(dt, 0.0) if np.isfinite(dt) else 0.0
        self.why.append(limited)
        if self.waiting >= INSTANT:
            self.sent.append(command)
            self.times.append(self.times[-1] + self.waiting)
            self.waiting = 0.0
        else:
            np.testing.assert_array_equal(command, self.sent[-1])
        return command

    def check(self):
        """Every limit, at every step of the stream."""
        spec, hard = self.spec, self.spec.safety
        x = np.array(self.sent, np.float64)
        assert np.isfinite(x).all()
        assert (x >= spec.lower).all() and (x <= spec.upper).all()
        h = np.diff(self.times)[:, None]
        h[:1] = np.minimum(h[:1], DT)  # it stood still before
        zero = np.zeros((1, spec.dim))
        v = np.diff(x, axis=0) / h
        a = np.diff(v, axis=0, prepend=zero) / h
        j = np.diff(a, axis=0, prepend=zero) / h
        # What rounding of three neighbouring positions leaves open, for these times.
        near = np.minimum(h, np.concatenate([h[:1], h[:-1]]))
        near = np.minimum(near, np.concatenate([near[:1], near[:-1]]))
        most = hard.acceleration * spec.acceleration
        for value, limit, order in (
                (v, spec.velocity, 1), (a, most, 2), (j, most / hard.jerk_time, 3)):
            slack = limit * 1e-4 + 4 ** order * ROUNDING / near ** order
            over = (np.abs(value) - limit - slack)[:, JOINTS]
            assert over.max() <= 0, (order, np.unravel_index(over.argmax(), over.shape))

    def rooms(self):
        """Room of every command that was sent [m]."""
        return np.array([self.watch.exact(x.astype(np.float64)).min() for x in self.sent])

    def rest(self):
        """Nobody speaks any more: ticks until the command stands."""
        for i in range(60):
            before = self.sent[-1]
            self.send(np.full(SPEC.dim, np.nan, np.float32))
            if (self.sent[-1] == before).all():
                return i
        raise AssertionError('it does not come to rest')


VALUE = st.one_of(
    st.sampled_from([np.nan, np.inf, -np.inf, 0.0, 1e30, -10.0, 10.0]), st.floats(-4, 4, width=32))
TIME = st.one_of(st.just(DT), st.sampled_from([0.0, -1.0, np.nan, 1e-5, 0.9 * DT, 1.1 * DT, 2 * DT,
                                               0.2, 3.0, 1e6]), st.floats(0.001, 0.1))
SCRIPT = st.lists(st.tuples(
    st.sampled_from(['all', 'one', 'drift', 'rest', 'short']), VALUE, st.integers(0, SPEC.dim - 1),
    TIME, st.integers(1, 25)), min_size=1, max_size=8)


@settings(max_examples=150, deadline=None)
@given(SCRIPT, st.sampled_from(['clip', 'slow', 'reject']), st.booleans())
def test_for_any_input_whatever_the_output_keeps_all_limits_and_comes_to_rest(
        script, mode, watched):
    wire = Wire(with_mode(mode), clearances=watched)
    for how, value, joint, dt, ticks in script:
        for i in range(ticks):
            command = SPEC.rest.astype(np.float64)
            if how == 'all':
                command += value * JOINTS * (1 if i % 3 else -1)
            elif how == 'one':
                command[joint] = value
            elif how == 'drift':
                command = wire.sent[-1] + DT * value * np.roll(JOINTS, joint)
            elif how == 'short':
                command = command[:joint]
            with np.errstate(over='ignore'):
                wire.send(command.astype(np.float32), dt)
    assert wire.rest() <= 40
    wire.check()
    if watched:
        assert wire.rooms().min() >= -1e-6


@pytest.mark.parametrize('mode', ['clip', 'slow', 'reject'])
def test_what_is_admissible_goes_through_bit_for_bit(mode):
    wire = Wire(with_mode(mode))
    for i in range(200):
        wanted = (SPEC.rest + 0.3 * np.sin(2.0 * i * DT) * JOINTS).astype(np.float32)
        sent = wire.send(wanted)
        if i > 10:
            np.testing.assert_array_equal(sent, wanted)
            assert not wire.why[-1]


def test_a_jump_is_approached_within_the_limits_and_reached_exactly():
    wire = Wire(clearances=False)
    wire.send(SPEC.rest + np.float32(1e-3) * JOINTS)
    goal = (SPEC.rest + 0.4 * JOINTS).astype(np.float32)
    for _ in range(60):
        wire.send(goal)
    np.testing.assert_array_equal(wire.sent[-1], goal)
    assert {'velocity', 'acceleration'} & {k for why in wire.why for k in why.joints}
    wire.check()


def test_a_first_command_far_away_is_approached_slowly():
    wire = Wire(clearances=False)
    far = (SPEC.rest + 1.0 * JOINTS).astype(np.float32)
    far = np.minimum(far, SPEC.upper)
    for _ in range(30):
        wire.send(far)
    speed = np.abs(np.diff(np.array(wire.sent, float), axis=0)[:, JOINTS]).max() / DT
    assert speed <= SPEC.safety.start_speed * SPEC.velocity[0] + 1e-4
    assert 'start' in wire.why[0].joints
    for _ in range(200):
        wire.send(far)
    np.testing.assert_allclose(wire.sent[-1], far, atol=1e-5)


def test_bad_commands_are_named():
    wire = Wire()
    broken = SPEC.rest.copy()
    broken[3] = np.nan
    wire.send(broken)
    assert wire.why[-1].joints == {'not finite': ('left_forearm_roll',)}
    wire.send(SPEC.rest[:5])
    assert 'shape' in wire.why[-1].joints
    np.testing.assert_array_equal(wire.sent[-1], SPEC.rest)


def test_slow_keeps_the_direction():
    """All joints go the same part of their way."""
    wire = Wire(with_mode('slow'), clearances=False)
    wire.send(SPEC.rest + np.float32(1e-4) * JOINTS)
    way = np.where(JOINTS, np.linspace(-0.4, 0.4, SPEC.dim), 0.0)
    for _ in range(8):
        before = wire.sent[-1].astype(np.float64)
        step = wire.send((before + way).astype(np.float32)) - before
    assert np.abs(step).max() > 0.01
    cosine = step @ way / np.linalg.norm(step) / np.linalg.norm(way)
    assert cosine > 0.999


def test_arms_driven_against_each_other_and_the_table_keep_their_distance():
    rng = np.random.default_rng(5)
    wire = Wire()
    for _ in range(60):
        goal = SPEC.rest.astype(np.float64)
        for arm in SPEC.arms:
            goal[SPEC.arm_slice(arm.name)][:3] = [0, rng.uniform(0, 1.6), rng.uniform(-1.5, 1.2)]
        for _ in range(20):
            wire.send(goal.astype(np.float32))
    wire.check()
    assert wire.rooms().min() >= -1e-6
    assert any('distance' in k for why in wire.why for k in why.joints)


# -- too close already, and blocked ---------------------------------------------------------
LEFT, RIGHT = (SPEC.arm_slice(arm.name) for arm in SPEC.arms)
TABLE = np.array([name.endswith('table') for name in Clearances(BODY).names])


def lowered(depth, arms=(LEFT, RIGHT)):
    """The rest posture with hands so far below the table [m]."""
    watch, low = Clearances(BODY), SPEC.rest.astype(np.float64)
    for arm in arms:
        while True:
            low[arm][1] += 1e-3
            only = SPEC.rest.astype(np.float64)
            only[arm] = low[arm]
            if watch.exact(only)[TABLE].min() < -depth:
                break
    return low.astype(np.float32)


def test_an_arm_leaves_the_table_while_the_other_still_lies_on_it():
    start = lowered(0.006)
    wire = Wire(start=start)
    goal = start.copy()
    goal[LEFT] = SPEC.rest[LEFT]
    begun = wire.rooms()[0]
    for _ in range(150):
        wire.send(goal)
        watch = wire.watch.exact(wire.sent[-1].astype(np.float64))
        assert (watch >= np.minimum(wire.watch.exact(start.astype(np.float64)), 0) - 1e-5).all()
    assert begun < -0.005
    np.testing.assert_allclose(wire.sent[-1], goal, atol=1e-4)


def test_what_is_too_close_switches_nothing_else_off():
    """The left arm comes out of the table slowly; the right one is driven into it meanwhile."""
    start = lowered(0.006, [LEFT])
    wire = Wire(start=start)
    right = np.array([n.startswith('right') and n.endswith('table') for n in wire.watch.names])
    deep = lowered(0.1, [RIGHT])
    for i in range(200):
        goal = start + (SPEC.rest - start) * np.float32(min(i / 200, 1))
        goal[RIGHT] = deep[RIGHT]
        room = wire.watch.exact(wire.send(goal).astype(np.float64))
        assert room[right].min() >= -1e-6
    assert room[right].min() < 0.03, 'it came near'


def test_where_one_arm_is_blocked_the_other_goes_on_and_grippers_close():
    wire = Wire()
    goal = lowered(0.02, [LEFT])
    goal[RIGHT][0] += 0.5
    goal[~JOINTS] = 0.02
    wire.send(SPEC.rest + np.float32(1e-3) * JOINTS)
    for _ in range(150):
        wire.send(goal)
    wire.check()
    assert any('distance' in k for why in wire.why for k in why.joints)
    np.testing.assert_allclose(wire.sent[-1][RIGHT], goal[RIGHT], atol=1e-3)
    np.testing.assert_allclose(wire.sent[-1][~JOINTS], 0.02, atol=1e-3)


def test_what_is_in_the_margin_may_stay_there_and_comes_no_further_out():
    spec = with_mode('clip', position_margin=0.3)
    start = SPEC.rest.copy()
    start[0] = SPEC.upper[0] - 0.1
    wire = Wire(spec, clearances=False, start=start)
    for _ in range(20):
        np.testing.assert_array_equal(wire.send(start), start)
    out = start.copy()
    out[0] = SPEC.upper[0]
    for _ in range(20):
        assert wire.send(out)[0] <= start[0] + 1e-6
    for _ in range(300):
        wire.send(SPEC.rest)
    np.testing.assert_allclose(wire.sent[-1], SPEC.rest, atol=1e-4)
    with pytest.raises(ValueError, match='leaves no room for'):
        replace(SPEC, joints=(replace(SPEC.joints[0], lower=-0.2, upper=0.2), *SPEC.joints[1:]),
                safety=replace(SPEC.safety, position_margin=0.3))


def test_reject_is_no_dead_end():
    wire = Wire(with_mode('reject'), clearances=False)
    closed = SPEC.rest.copy()
    closed[~JOINTS] = 0.0
    closed[0] += 0.002
    for _ in range(30):
        wire.send(closed)
    np.testing.assert_allclose(wire.sent[-1], closed, atol=1e-4)
    far = closed.copy()
    far[0] += 0.4
    for _ in range(150):
        wire.send(far)
    assert any('velocity' in why.joints for why in wire.why)
    np.testing.assert_allclose(wire.sent[-1], far, atol=1e-3)
    wire.check()
