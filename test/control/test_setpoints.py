"""Laws of set-points: inside limits, never too fast, slow at first, never far ahead of the arm."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from il_robot.control.setpoints import Setpoints
from il_robot.resources import named_config
from il_robot.spec import load_robot_spec

SPEC = load_robot_spec(named_config('robots', 'openarm'))
JOINTS = SPEC.wiring.joints
LOWER, UPPER, SPEED = np.array([(j.lower, j.upper, j.velocity) for j in JOINTS]).T
GRIPPER = np.array([j.gripper for j in JOINTS])
PERIOD = 0.01
MIDDLE = 0.5 * (LOWER + UPPER)

parts = hnp.arrays(np.float64, SPEC.dim, elements=st.floats(-0.2, 1.2))


def make(**changes):
    values = {'period': PERIOD, 'lookahead': 0.02, 'start_speed': 0.2, 'max_lead': np.inf}
    return Setpoints(JOINTS, **values | changes)


def run(setpoints, seconds, now, measured=None):
    """Rows sent; the arm follows perfectly where ``measured`` is None."""
    sent, at = [], MIDDLE if measured is None else measured
    for _ in range(round(seconds / PERIOD)):
        now += PERIOD
        rows = setpoints.advance(at, now)
        sent.append(rows)
        at = rows[0] if measured is None else measured
    return np.array(sent), now


@settings(max_examples=30)
@given(st.lists(st.tuples(parts, st.floats(0.0, 0.1)), min_size=1, max_size=20), parts)
def test_whatever_is_asked_limits_of_position_and_velocity_hold(targets, start):
    """Also from row to row of what is sent ahead, and when ticks come late.

    An arm that starts outside the limits only comes back.
    """
    setpoints = make()
    start = LOWER + start * (UPPER - LOWER)
    setpoints.start(start, 0.0)
    now, before = 0.0, start
    for part, gap in targets:
        setpoints.target(LOWER + part * (UPPER - LOWER), now)
        elapsed = PERIOD + gap
        now += elapsed
        rows = setpoints.advance(MIDDLE, now)
        assert (rows >= np.minimum(LOWER, before) - 1e-9).all()
        assert (rows <= np.maximum(UPPER, before) + 1e-9).all()
        assert (np.abs(np.diff(rows, axis=0)) <= SPEED * PERIOD + 1e-9).all()
        step = np.abs(rows[0] - before)
        assert (step <= SPEED * min(elapsed, 3 * PERIOD) + 1e-9).all()
        before = rows[0]


def test_a_target_is_reached_after_the_lookahead_on_a_straight_line():
    setpoints = make()
    setpoints.start(MIDDLE, 0.0)
    near = MIDDLE + 0.01 * np.where(GRIPPER, 0.1, 1.0)
    for k in range(1, 11):  # fifty commands a second, each a little further
        now = 0.02 * k
        setpoints.target(MIDDLE + k * (near - MIDDLE), now)
        half = setpoints.advance(MIDDLE, now + 0.01)[0]
        full = setpoints.advance(MIDDLE, now + 0.02)[0]
        np.testing.assert_allclose(half, MIDDLE + (k - 0.5) * (near - MIDDLE), atol=1e-6)
        np.testing.assert_allclose(full, MIDDLE + k * (near - MIDDLE), atol=1e-6)


def test_what_was_sent_ahead_is_what_comes():
    """So a trajectory that is replaced at every tick still is one smooth motion."""
    setpoints = make(lookahead=0.06)
    setpoints.start(MIDDLE, 0.0)
    setpoints.starting = False
    ahead, now = None, 0.0
    for k in range(60):
        now += PERIOD
        if k % 2 == 0:
            wave = np.where(GRIPPER, 0.001, 0.1) * np.sin(3 * now)
            setpoints.target(MIDDLE + wave, now)
        rows = setpoints.advance(MIDDLE, now)
        if ahead is not None:
            np.testing.assert_allclose(rows[0], ahead[1], atol=1e-9)
        ahead = rows


def test_a_late_command_with_lookahead_to_spare_does_not_stop_the_arm():
    def slowest(lookahead):
        setpoints, now, speeds = make(lookahead=lookahead), 0.0, []
        setpoints.start(MIDDLE, 0.0)
        setpoints.starting, before = False, MIDDLE
        for k in range(100):
            now += PERIOD
            # Every fourth command comes 20 ms late.
            due = [n for n in range(50) if round(2 * n + (2 if n % 4 == 3 else 0)) == k]
            for n in due:
                setpoints.target(MIDDLE + 0.02 * 0.5 * n * ~GRIPPER, now)
            row = setpoints.advance(MIDDLE, now)[0]
            speeds.append((row - before)[0] / PERIOD)
            before = row
        return min(speeds[20:])

    assert slowest(0.02) == pytest.approx(0.0, abs=1e-6)
    assert slowest(0.06) > 0.1


def test_the_way_to_the_first_target_is_straight_and_slow():
    setpoints = make(start_speed=0.1)
    setpoints.start(MIDDLE, 0.0)
    goal = MIDDLE.copy()
    goal[:3] += [1.0, 0.5, -0.3]
    setpoints.target(goal, 0.0)
    sent, now = run(setpoints, 1.0, 0.0)
    assert setpoints.starting
    way = sent[:, 0] - MIDDLE
    assert np.abs(np.diff(sent[:, 0], axis=0)).max() <= 0.1 * 3.14 * PERIOD + 1e-9
    np.testing.assert_allclose(way[:, 1], 0.5 * way[:, 0], atol=1e-9)
    np.testing.assert_allclose(way[:, 2], -0.3 * way[:, 0], atol=1e-9)
    run(setpoints, 3.0, now)
    assert not setpoints.starting
    np.testing.assert_allclose(setpoints.advance(MIDDLE, now + 3.01)[0], goal, atol=1e-6)


def test_the_first_target_where_the_arm_is_needs_no_slow_start():
    setpoints = make()
    setpoints.start(MIDDLE, 0.0)
    setpoints.target(MIDDLE, 0.0)
    setpoints.advance(MIDDLE, PERIOD)
    assert not setpoints.starting


def test_frozen_set_points_stay_and_the_next_target_is_approached_slowly():
    setpoints = make()
    setpoints.start(MIDDLE, 0.0)
    setpoints.starting = False
    setpoints.target(MIDDLE + 0.5 * ~GRIPPER, 0.0)
    sent, now = run(setpoints, 0.05, 0.0)
    setpoints.freeze(now)
    still, now = run(setpoints, 0.5, now)
    np.testing.assert_allclose(still[:, :], np.broadcast_to(sent[-1, 0], still.shape))
    setpoints.target(MIDDLE, now)
    back, _ = run(setpoints, 0.05, now)
    assert np.abs(np.diff(back[:, 0], axis=0)).max() <= 0.2 * 3.14 * PERIOD + 1e-9


def test_a_blocked_arm_is_not_left_behind():
    """After a protective stop the arm finds a set-point near by, and the joints are named."""
    setpoints = make(max_lead=0.3)
    setpoints.start(MIDDLE, 0.0)
    setpoints.starting = False
    goal = MIDDLE + np.where(GRIPPER, 0.02, 1.0)
    setpoints.target(goal, 0.0)
    sent, _ = run(setpoints, 1.0, 0.0, measured=MIDDLE)
    ahead = np.abs(sent - MIDDLE)[..., ~GRIPPER]
    assert ahead.max() <= 0.3 + 1e-9
    assert 'left_joint1' in setpoints.leading
    np.testing.assert_allclose(sent[-1, 0][GRIPPER], goal[GRIPPER])


def test_a_new_start_is_where_the_arms_are_but_the_hands_keep_their_grip():
    setpoints = make()
    setpoints.start(MIDDLE, 0.0)
    setpoints.starting = False
    closed = np.where(GRIPPER, 0.0, MIDDLE)
    setpoints.target(closed, 0.0)
    run(setpoints, 1.0, 0.0)
    setpoints.stop()
    assert not setpoints.active
    elsewhere = MIDDLE + np.where(GRIPPER, 0.0, 0.2)  # the fingers stopped at the part
    setpoints.start(elsewhere, 5.0)
    row = setpoints.advance(elsewhere, 5.0 + PERIOD)[0]
    np.testing.assert_allclose(row[~GRIPPER], elsewhere[~GRIPPER])
    np.testing.assert_allclose(row[GRIPPER], 0.0)
