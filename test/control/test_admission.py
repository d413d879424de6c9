"""The quick look at a command decides as the gate itself does, bit for bit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from il_robot.control.body import Body
from il_robot.control.clearance import Clearances
from il_robot.control.safety import SafetyGate
from il_robot.sim import default_robot
from il_robot.sim.description import urdf_text

SPEC = default_robot()
DT = SPEC.dt
BODY = Body(SPEC, urdf_text(SPEC))
JOINTS = np.array([name not in SPEC.gripper_names for name in SPEC.joint_names])
SPAN = SPEC.upper - SPEC.lower


def pair(mode):
    """Two gates of which one never looks quickly."""
    spec = replace(SPEC, safety=replace(SPEC.safety, mode=mode))
    quick, slow = (SafetyGate(spec, 1.0, Clearances(BODY)) for _ in range(2))
    admitted = []
    look = quick._admission

    def counted(*args, **named):
        admitted.append(look(*args, **named))
        return admitted[-1]

    quick._admission, slow._admission = counted, lambda *_, **__: None
    return quick, slow, admitted


def same(quick, slow, command, dt, measured, target):
    sent = [gate.limit(command, dt, measured, target) for gate in (quick, slow)]
    np.testing.assert_array_equal(sent[0][0], sent[1][0])
    assert sent[0][1] == sent[1][1]
    np.testing.assert_array_equal(quick._state, slow._state)
    np.testing.assert_array_equal(quick._wanted, slow._wanted)
    assert quick._starting is slow._starting


PIECE = st.tuples(
    st.floats(0.0, 1.2), st.integers(0, SPEC.dim - 1), st.floats(0.1, 6.0),
    st.sampled_from([DT, DT, DT, 0.5 * DT, 2.0 * DT, 0.2, 0.0, 1e-4]),
    st.sampled_from(['itself', 'ahead', 'nobody', 'none', 'odd']), st.integers(1, 40))


@settings(max_examples=120, deadline=None)
@given(st.lists(PIECE, min_size=1, max_size=6), st.sampled_from(['clip', 'slow', 'reject']))
def test_a_gate_that_looks_quickly_sends_what_one_does_that_never_does(pieces, mode):
    quick, slow, _ = pair(mode)
    t = 0.0
    for size, joint, rate, dt, kind, ticks in pieces:
        for i in range(ticks):
            t += dt
            wave = np.sin(rate * t + np.arange(SPEC.dim)) * np.where(JOINTS, size, 0.05)
            command = quick.command + (0.02 * rate * wave).astype(np.float32)
            target = {'itself': command, 'ahead': command + 0.01, 'none': None,
                      'nobody': np.full(SPEC.dim, np.nan), 'odd': command}[kind]
            if kind == 'odd' and i % 5 == 0:
                command = command.copy()
                command[joint] = (np.nan, 9.0, -9.0)[i % 3]
            measured = None if kind == 'none' else quick.command + np.float32(0.01) * ~JOINTS
            same(quick, slow, command, dt, measured,
                 None if target is None else target.astype(np.float64))


def test_a_usual_motion_is_seen_to_by_the_quick_look():
    quick, slow, admitted = pair('clip')
    for i in range(200):
        wave = np.where(JOINTS, 0.05 * SPAN, 0.1 * SPAN) * (1 - np.cos(0.04 * i))
        inward = np.where(SPEC.rest > 0.5 * (SPEC.lower + SPEC.upper), -wave, wave)
        command = (SPEC.rest + 0.3 * inward).astype(np.float32)
        same(quick, slow, command, DT, command, command.astype(np.float64))
    assert sum(new is not None for new in admitted) >= 190


def test_a_joint_beside_its_limits_may_come_in():
    quick, slow, _ = pair('clip')
    start = SPEC.rest.copy()
    start[1] = SPEC.upper[1] + np.float32(0.3)
    for gate in (quick, slow):
        gate.restart(start)
    for i in range(60):
        command = start.copy()
        command[1] -= np.float32(0.0001 * i * i)
        same(quick, slow, command, DT, command, None)


def test_what_was_given_is_not_kept():
    gate = SafetyGate(SPEC, 1.0, None)
    command = SPEC.rest.copy()
    gate.limit(command, DT)
    command[:] = 1.0
    np.testing.assert_array_equal(gate.command, SPEC.rest)
