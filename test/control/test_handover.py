"""Laws of a handover: whatever drivers propose, the limits hold, of acceleration too."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from il_robot.control.arbiter import Arbiter, ArbiterConfig, Proposal
from il_robot.control.modes import Request
from il_robot.resources import named_config
from il_robot.spec import load_robot_spec
from il_robot.types import ControlMode, Source

SPEC = load_robot_spec(named_config('robots', 'sim_dual_arm'))
DT, T = SPEC.dt, ArbiterConfig().handover_time
LEFT, RIGHT = SPEC.arm_slice('left'), SPEC.arm_slice('right')
JOINTS = np.array([name not in SPEC.gripper_names for name in SPEC.joint_names])
ROUNDING = 2e-3
"""Of float32 positions, twice differentiated: 2.4e-7 rad / (0.01 s)^2, relative to the limits."""


class Ride:
    """An arbiter whose robot follows perfectly; keeps what went out."""

    def __init__(self, **config):
        self.arbiter = Arbiter(SPEC, ArbiterConfig(**config))
        self.now, self.state = 0.0, SPEC.rest
        self.commands, self.times, self.decisions, self.wanted = [], [], [], []
        self.tick({})

    def tick(self, targets, *requests, dt=DT):
        """One tick; ``targets``: source to ``(D,)``, NaN for arms it does not speak for."""
        self.now += dt
        proposals = {s: Proposal(self.now, np.asarray(p, np.float32)) for s, p in targets.items()}
        decision = self.arbiter.decide(
            self.now, self.state, proposals, [Request.parse(r, SPEC) for r in requests])
        self.state = decision.command
        self.commands.append(decision.command)
        self.times.append(self.now)
        wanted = np.full(SPEC.dim, np.nan)
        for arm, driver in zip((LEFT, RIGHT), decision.drivers):
            if driver is not Source.HOLD:
                wanted[arm] = np.clip(proposals[driver].position, SPEC.lower, SPEC.upper)[arm]
        self.wanted.append(wanted)
        self.decisions.append(decision)
        return decision

    def check(self):
        """Every tick at which a joint was handed over or braked, or was about to.

        At the one with which a handover ends, a driver's own change may be larger; and who drove
        alone before may have accelerated more, which then falls as fast as the jerk limit allows.
        Who drove fast towards a position limit leaves no choice but to brake harder before it.
        """
        x = np.array(self.commands, np.float64)
        dt = np.diff(self.times)[:, None]
        assert (x >= SPEC.lower).all() and (x <= SPEC.upper).all()
        v = np.diff(x, axis=0) / dt
        assert (np.abs(v) <= SPEC.velocity * (1 + ROUNDING))[:, JOINTS].all()
        a = np.abs(np.diff(v, axis=0, prepend=np.zeros((1, SPEC.dim)))) / dt
        changing = np.array([d.changing for d in self.decisions])
        drivers = np.array([d.drivers for d in self.decisions])
        new = np.repeat(drivers[1:] != drivers[:-1], SPEC.dim // len(SPEC.arms), axis=1)
        watched = (changing[1:] | changing[:-1] | new) & JOINTS
        pace = np.diff(self.wanted, axis=0, prepend=np.full((1, SPEC.dim), np.nan))[1:] / dt
        own = np.abs(np.diff(pace, axis=0, prepend=np.full((1, SPEC.dim), np.nan))) / dt
        last = changing[:-1] & ~changing[1:] & ~new
        limit = np.where(last, np.fmax(own, SPEC.acceleration), SPEC.acceleration)
        fall = SPEC.safety.acceleration * SPEC.acceleration / SPEC.safety.jerk_time * dt
        before = np.concatenate([np.zeros((1, SPEC.dim)), a[:-1]])
        limit = np.maximum(limit, before - fall)
        ending = np.array([[name in d.limited.joints.get('braking', ()) for name in
                            SPEC.joint_names] for d in self.decisions])
        limit = np.where(ending[1:], np.inf, limit)
        share = np.where(watched, a / limit, 0.0)
        assert share.max() <= 1 + ROUNDING, np.unravel_index(share.argmax(), share.shape)
        return share


def wave(now, speed, phase=0.0):
    """A smooth drive around the rest posture, ``speed`` [rad/s] at most, within all limits."""
    position = SPEC.rest.astype(np.float64)
    position[JOINTS] += speed / 4.0 * np.sin(4.0 * now + phase)
    return position


def test_who_drives_alone_within_the_limits_is_obeyed_exactly():
    ride = Ride()
    ride.tick({Source.POLICY: wave(ride.now + DT, 1.0)}, 'run')
    for i in range(150):
        wanted = wave(ride.now + DT, 1.0).astype(np.float32)
        decision = ride.tick({Source.POLICY: wanted})
        if i * DT > T:
            np.testing.assert_array_equal(decision.command, wanted)
            assert not decision.changing.any()
    ride.check()


@pytest.mark.parametrize('request_', ['engage', 'engage left', 'hold', 'freeze', 'help it is new'])
@pytest.mark.parametrize('jump', [0.0, 0.3, 0.9])
@pytest.mark.parametrize('when', np.linspace(0, 1, 5))
def test_a_takeover_in_full_motion_and_the_return(request_, jump, when):
    ride = Ride()

    def both(i):
        now = ride.now + DT
        return {Source.POLICY: wave(now, 2.5), Source.EXPERT: wave(now, 0.5, 1.0) + jump * JOINTS}

    ride.tick(both(0), 'run')
    for i in range(60 + round(40 * when)):
        ride.tick(both(i))
    ride.tick(both(0), request_)
    for i in range(50):
        decision = ride.tick(both(i))
    if request_ == 'engage':
        wanted = both(0)
        np.testing.assert_array_equal(
            ride.tick(wanted).command,
            np.clip(wanted[Source.EXPERT].astype(np.float32), SPEC.lower, SPEC.upper))
    if request_ == 'engage left':
        assert decision.drivers == (Source.EXPERT, Source.POLICY)
    assert not ride.tick(both(0), 'run').refused
    for i in range(60):
        ride.tick(both(i))
    ride.check()
    assert not ride.decisions[-1].changing.any()


def test_the_other_arm_follows_the_policy_bit_for_bit_through_takeover_and_return():
    ride = Ride()
    ride.tick({Source.POLICY: wave(DT, 2.0)}, 'run')
    for i in range(200):
        now = ride.now + DT
        policy = wave(now, 2.0).astype(np.float32)
        mine = np.where(np.arange(SPEC.dim) < LEFT.stop, wave(now, 1.0, 2.0), np.nan)
        request = {60: ('engage left',), 130: ('release left',)}.get(i, ())
        decision = ride.tick({Source.POLICY: policy, Source.TELEOP: mine}, *request)
        if i > 40:
            np.testing.assert_array_equal(decision.command[RIGHT], policy[RIGHT])
        if 60 <= i < 130:
            assert decision.drivers == (Source.TELEOP, Source.POLICY)
    ride.check()


@pytest.mark.parametrize('loss', ['policy', 'hold', 'robot frozen'])
def test_it_slows_to_a_hold_and_both_arms_rest_at_once(loss):
    ride = Ride(policy_timeout=0.05)
    position = SPEC.rest.astype(np.float64)
    speed = np.where(JOINTS, np.linspace(-2.0, 2.0, SPEC.dim), 0.0)
    ride.tick({Source.POLICY: position}, 'run')
    for i in range(30):
        position = position + DT * speed * min(1.0, 0.1 * i)
        ride.tick({Source.POLICY: position})
    request = {'hold': ('hold',), 'robot frozen': ('freeze',)}.get(loss, ())
    old = {Source.POLICY: Proposal(ride.now, position.astype(np.float32))}
    ride.tick({}, *request) if request else ride.arbiter.decide(ride.now, ride.state, old)
    while ride.decisions[-1].mode is not ControlMode.HOLD or ride.decisions[-1].changing.any():
        ride.tick({})
        assert len(ride.commands) < 60
    share = ride.check()
    resting = [np.flatnonzero(np.abs(np.diff(np.array(ride.commands)[:, j])) > 1e-6)[-1]
               for j in np.flatnonzero(np.abs(speed) > 0.1)]
    assert max(resting) - min(resting) <= 1
    assert share[-10:].max() > 0.5, 'it stops as soon as the limits allow'


def test_a_stop_is_at_once():
    ride = Ride()
    for i in range(60):
        decision = ride.tick({Source.POLICY: wave(ride.now + DT, 2.5)}, *(['run'] * (i == 0)))
    stopped = ride.tick({Source.POLICY: wave(ride.now + DT, 2.5)}, 'stop')
    np.testing.assert_array_equal(stopped.command, decision.command)


def test_an_interrupted_handover_is_one_too():
    """Button bounce: engage and release, tick by tick and within one tick."""
    ride = Ride()

    def both():
        now = ride.now + DT
        return {Source.POLICY: wave(now, 2.0), Source.TELEOP: wave(now, 1.0, 2.0) + 0.4 * JOINTS}

    ride.tick(both(), 'run')
    for i in range(200):
        pressed = {'engage': i % 7 == 0 or i % 3 == 0, 'release': i % 5 == 0}
        ride.tick(both(), *(word for word, is_pressed in pressed.items() if is_pressed))
    ride.check()


TARGET = st.one_of(st.sampled_from([-10.0, -0.5, 0.0, 0.2, 10.0]), st.floats(-3, 3, width=32))
SCRIPT = st.lists(st.tuples(
    st.lists(TARGET, min_size=3, max_size=3), st.sampled_from(['jump', 'drift', 'absent']),
    st.sampled_from(['', '', 'run', 'engage', 'engage left', 'release', 'release right', 'hold',
                     'freeze', 'help because', 'discard_correction']),
    st.sampled_from([0.5, 0.9, 1.0, 1.0, 1.1, 2.0]), st.integers(1, 30)), min_size=1, max_size=14)


@settings(max_examples=60, deadline=None)
@given(SCRIPT, st.booleans())
def test_whatever_drivers_do_the_limits_hold(script, always):
    ride = Ride(acceleration='always' if always else 'handover')
    sources = (Source.POLICY, Source.EXPERT, Source.TELEOP)
    targets = {s: SPEC.rest.astype(np.float64) for s in sources}
    for values, how, request, scale, ticks in script:
        for i in range(ticks):
            for k, (source, value) in enumerate(zip(sources, values)):
                if how == 'jump':
                    targets[source] = SPEC.rest + value * JOINTS * np.where(i % 2, 1.0, -0.3)
                elif how == 'drift':
                    targets[source] = targets[source] + DT * value * np.roll(JOINTS, k)
            present = {} if how == 'absent' else targets
            ride.tick(present, *([request] if request and i == 0 else []), dt=scale * DT)
    ride.check()
    if always:
        x = np.array(ride.commands, np.float64)
        dt = np.diff(ride.times)[:, None]
        v = np.diff(x, axis=0, prepend=x[:1])[1:] / dt
        a = np.abs(np.diff(v, axis=0)) / dt[1:]
        assert (a <= SPEC.acceleration * (1 + ROUNDING))[:, JOINTS].all()
