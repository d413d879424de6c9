"""What is believed of measured positions, and when a robot does not follow."""

import numpy as np
import pytest

from il_robot.control.tracking import CONFIRMED, Tracking
from il_robot.resources import named_config
from il_robot.spec import load_robot_spec

SPEC = load_robot_spec(named_config('robots', 'sim_dual_arm'))
DT, REST = SPEC.dt, SPEC.rest
ELBOW, GRIPPER = SPEC.index('left_elbow'), SPEC.arm_slice('left').stop - 1


def moved(joint, by):
    state = REST.copy()
    state[joint] += np.float32(by)
    return state


def begun():
    tracking = Tracking(SPEC)
    assert tracking.believe(0.0, REST, REST).size == SPEC.dim and tracking.begun
    return tracking


def test_a_joint_at_its_velocity_limit_is_believed():
    tracking = begun()
    for tick in range(1, 20):
        state = moved(ELBOW, tick * DT * SPEC.velocity[ELBOW])
        assert not tracking.doubts(tick * DT, state, state)
        assert not tracking.believe(tick * DT, state, state).size


def test_a_jump_names_its_joints_once_it_is_believed():
    tracking, there, now = begun(), moved(ELBOW, -1.0), DT
    while tracking.doubts(now, there, REST):
        now += DT
    assert now == pytest.approx(DT + CONFIRMED)
    assert tracking.believe(now, there, REST).tolist() == [ELBOW]
    assert not tracking.believe(now + DT, there, there).size


def test_it_may_be_anywhere_on_its_way_after_a_silence():
    tracking, command = begun(), moved(ELBOW, -1.0)
    assert not tracking.doubts(2.0, moved(ELBOW, -0.6), command)
    assert tracking.doubts(2.0, moved(ELBOW, 0.8), command)


@pytest.mark.parametrize(('joint', 'off', 'names'), [
    (ELBOW, 0.55, [ELBOW]), (ELBOW, 0.45, []), (GRIPPER, 0.08, [])])
def test_far_from_the_command_for_too_long(joint, off, names):
    tracking, command = begun(), moved(joint, off)
    found = [tracking.lagging(tick * DT, REST, command).tolist() for tick in range(1, 40)]
    silent = round(SPEC.safety.following_time / DT) - 1
    assert not any(found[:silent]) and found[silent] == names
    assert found.count([ELBOW]) == bool(names)  # then it begins anew


def test_near_in_between_begins_anew():
    tracking, command = begun(), moved(ELBOW, 0.6)
    for tick in range(1, 200):
        near = tick % 20 == 0
        assert not tracking.lagging(tick * DT, REST, REST if near else command).size
