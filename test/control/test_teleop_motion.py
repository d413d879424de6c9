"""Laws of one arm's motion: inside the limits, never too fast, where it should go, never stuck."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from il_robot.control.teleop_motion import ArmIntent, ArmModel, advance, mirrored
from il_robot.errors import SpecError
from il_robot.kinematics import Pose
from il_robot.resources import named_config
from il_robot.rotations import matrix_from_vector, rotation_vector
from il_robot.spec import load_robot_spec

SPEC = load_robot_spec(named_config('robots', 'sim_dual_arm'))
LEFT = ArmModel.from_spec(SPEC, 'left')
REST = SPEC.rest[SPEC.arm_slice('left')].astype(np.float64)
DT = SPEC.dt

fractions = st.lists(st.floats(0, 1), min_size=7, max_size=7).map(np.array)
components = st.floats(-2, 2)
twists = st.lists(components, min_size=6, max_size=6).map(np.array)


def target_at(fraction: np.ndarray) -> np.ndarray:
    return LEFT.lower + fraction * (LEFT.upper - LEFT.lower)


def run(target: np.ndarray, intent: ArmIntent, ticks: int) -> np.ndarray:
    for _ in range(ticks):
        target = advance(LEFT, target, intent, DT)
    return target


@settings(max_examples=150, deadline=None)
@given(fractions, twists, st.floats(-1, 1), st.sampled_from(['twist', 'rates', 'joints', 'pose']))
def test_inside_the_limits_and_never_too_fast(fraction, values, gripper, kind):
    target = target_at(fraction)
    if kind == 'twist':
        intent = ArmIntent(twist=values, gripper_rate=gripper)
    elif kind == 'rates':
        intent = ArmIntent(joint_rates=3 * values, gripper=gripper)
    elif kind == 'joints':
        intent = ArmIntent(joints=5 * values, gripper=gripper, gripper_speed=0.1)
    else:
        here = LEFT.eef(target)
        goal = Pose(matrix_from_vector(values[3:]) @ here.rotation, here.position + values[:3])
        intent = ArmIntent(pose=goal, pose_speed=(2.0, 8.0), gripper_rate=gripper)
    for _ in range(4):
        new = advance(LEFT, target, intent, DT)
        assert (new >= LEFT.lower).all() and (new <= LEFT.upper).all()
        assert (np.abs(new - target) <= LEFT.velocity * DT + 1e-12).all()
        target = new


@settings(max_examples=50, deadline=None)
@given(fractions)
def test_nothing_wanted_changes_nothing(fraction):
    target = target_at(fraction)
    np.testing.assert_array_equal(advance(LEFT, target, ArmIntent(), DT), target)
    there = ArmIntent(pose=LEFT.eef(target), pose_speed=(1.0, 1.0))
    np.testing.assert_allclose(advance(LEFT, target, there, DT), target, atol=1e-6)


@pytest.mark.parametrize('intent', [
    ArmIntent(twist=np.full(6, 0.5), gripper_rate=1.0),
    ArmIntent(pose=LEFT.eef(LEFT.lower), pose_speed=(1.0, 1.0), gripper=0.0),
    ArmIntent(joint_rates=np.ones(6), gripper=0.0, gripper_speed=0.1),
    ArmIntent(joints=np.zeros(6)),
])
def test_no_time_no_motion(intent):
    np.testing.assert_array_equal(advance(LEFT, REST, intent, 0.0), REST)


@pytest.mark.parametrize('axis', range(6))
@pytest.mark.parametrize('sign', [-1, 1])
def test_a_twist_moves_the_gripper_along_its_axis(axis, sign):
    twist = np.zeros(6)
    twist[axis] = sign * 0.1
    before = LEFT.eef(REST)
    after = LEFT.eef(run(REST, ArmIntent(twist=twist), 25))
    moved = np.concatenate([
        after.position - before.position, rotation_vector(after.rotation @ before.rotation.T)])
    np.testing.assert_allclose(moved, twist * 25 * DT, atol=1e-9)


def test_there_and_back_ends_where_it_began():
    there = run(REST, ArmIntent(twist=np.array([0.1, 0.05, 0.1, 0.2, 0.1, -0.2])), 40)
    back = run(there, ArmIntent(twist=-np.array([0.1, 0.05, 0.1, 0.0, 0.0, 0.0])), 40)
    np.testing.assert_allclose(LEFT.eef(back).position, LEFT.eef(REST).position, atol=1e-9)


@pytest.mark.parametrize('direction', [[1, 0, 0], [0, 0, 1], [-1, 0, -1], [0, 1, 0], [1, 1, 1]])
def test_out_of_reach_and_back_again(direction):
    """Pushing against the end of the workspace winds nothing up: pulling back works at once."""
    way = 0.3 * np.array(direction) / np.linalg.norm(direction)
    stretched = run(REST, ArmIntent(twist=np.array([*way, 0, 0, 0])), 400)
    end = LEFT.eef(stretched).position
    back = LEFT.eef(run(stretched, ArmIntent(twist=np.array([*-way, 0, 0, 0])), 40)).position
    assert (end - back) @ way / np.linalg.norm(way) > 0.1


def test_elbow_exactly_straight_can_be_left():
    """There the Jacobian has no radial direction at all."""
    straight = np.array([0.0, 0.8, -np.pi / 2, 0.0, 0.3, 0.0, 0.05])
    model = ArmModel(LEFT.lower, LEFT.upper, LEFT.velocity, LEFT.kinematics)
    pose = model.eef(straight)
    wrist = pose.position - LEFT.kinematics.hand * pose.rotation[:, 0]
    shoulder = np.array([-0.45, 0.0, 0.2])
    inwards = (shoulder - wrist) / np.linalg.norm(shoulder - wrist)
    after = run(straight, ArmIntent(twist=np.array([*(0.2 * inwards), 0, 0, 0])), 50)
    assert (model.eef(after).position - pose.position) @ inwards > 0.1


def test_a_turn_through_the_wrist_singularity():
    """A straight wrist cannot turn about one axis; it turns on the spot and goes on."""
    straight = np.array([0.0, -0.3, 0.4, 0.0, 0.0, 0.0, 0.05])
    before = LEFT.eef(straight)
    z = before.rotation[:, 2]
    after = LEFT.eef(run(straight, ArmIntent(twist=np.array([0, 0, 0, *(0.5 * z)])), 100))
    assert np.linalg.norm(rotation_vector(after.rotation @ before.rotation.T)) > 0.4
    np.testing.assert_allclose(after.position, before.position, atol=5e-3)


@settings(max_examples=100, deadline=None)
@given(fractions, twists)
def test_the_gripper_never_swings_away(fraction, twist):
    """Whatever is commanded, the hand ends no further from where it should be than it was."""
    target = target_at(fraction)
    twist = 0.2 * twist
    before = LEFT.eef(target)
    after = LEFT.eef(advance(LEFT, target, ArmIntent(twist=twist), DT))
    limit = max(np.linalg.norm(twist[:3]) * DT, 0.3 * np.linalg.norm(twist[3:]) * DT)
    slack = 0.3 * 0.05 * LEFT.velocity.max() * DT
    assert np.linalg.norm(after.position - before.position) <= 2 * limit + slack + 1e-9


def test_a_pose_is_reached_and_kept():
    here = LEFT.eef(REST)
    goal = Pose(matrix_from_vector([0.3, -0.2, 0.1]) @ here.rotation,
                here.position + [0.05, 0.08, 0.1])
    intent = ArmIntent(pose=goal, pose_speed=(0.5, 2.0))
    reached = run(REST, intent, 60)
    np.testing.assert_allclose(LEFT.eef(reached).position, goal.position, atol=1e-9)
    np.testing.assert_allclose(LEFT.eef(reached).rotation, goal.rotation, atol=1e-9)
    np.testing.assert_allclose(advance(LEFT, reached, intent, DT), reached, atol=1e-9)


def test_gripper_goal_with_its_speed():
    closing = ArmIntent(gripper=0.0, gripper_speed=0.1)
    assert advance(LEFT, REST, closing, DT)[-1] == pytest.approx(REST[-1] - 0.1 * DT)
    assert run(REST, closing, 100)[-1] == 0.0


@settings(max_examples=50, deadline=None)
@given(twists, st.floats(0, 6.3))
def test_mirror_twice_is_the_twist_itself(twist, angle):
    normal = np.array([np.cos(angle), np.sin(angle), 0.0])
    np.testing.assert_allclose(mirrored(mirrored(twist, normal), normal), twist, atol=1e-12)


def test_mirror_across_x():
    np.testing.assert_allclose(
        mirrored(np.arange(1.0, 7.0), np.array([1.0, 0, 0])), [-1, 2, 3, 4, -5, -6])


def test_without_kinematics_only_joints_move():
    model = ArmModel(LEFT.lower, LEFT.upper, LEFT.velocity, None)
    moved = advance(model, REST, ArmIntent(joint_rates=np.full(6, 0.1)), DT)
    np.testing.assert_allclose(moved[:-1], REST[:-1] + 0.1 * DT)
    np.testing.assert_array_equal(advance(model, REST, ArmIntent(twist=np.ones(6)), DT), REST)
    with pytest.raises(SpecError, match='closed-form'):
        model.eef(REST)
