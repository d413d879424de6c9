"""Leader arms, hands and triggers: no jump when they take over, clear words when they cannot."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from il_robot.control.teleop_config import HandConfig, LeaderConfig, LeaderJoint
from il_robot.control.teleop_follow import Hand, Leader, LeaderMap, Pickup, Stream
from il_robot.errors import ConfigError
from il_robot.kinematics import Pose
from il_robot.resources import named_config
from il_robot.rotations import matrix_from_vector
from il_robot.spec import load_robot_spec

SPEC = load_robot_spec(named_config('robots', 'sim_dual_arm'))
DT = SPEC.dt
EEF = Pose(matrix_from_vector([0.1, 0.2, 0.3]), np.array([0.0, 0.1, 0.3]))

vectors = st.lists(st.floats(-0.5, 0.5), min_size=3, max_size=3).map(np.array)


def pose(position=(0.0, 0.0, 0.0), turn=(0.0, 0.0, 0.0)) -> Pose:
    return Pose(matrix_from_vector(turn), np.array(position, dtype=float))


def test_stream_counts_only_news():
    stream: Stream[int] = Stream(timeout=0.2)
    assert stream.fresh(0.0) is None
    assert stream.offer(1, now=0.0, stamp=10.0)
    assert not stream.offer(2, now=0.1, stamp=10.0)  # the same measurement again
    assert not stream.offer(3, now=0.1, stamp=9.9)  # late
    assert stream.fresh(0.2) == 1
    assert stream.fresh(0.21) is None
    assert stream.offer(4, now=0.3, stamp=0.5)  # the driver was started again
    assert stream.offer(5, now=0.3) and stream.offer(6, now=0.3)  # drivers without stamps
    assert stream.fresh(0.3) == 6


# -- trigger ------------------------------------------------------------------------------------
def test_a_trigger_does_not_open_a_gripper_that_holds_something():
    pickup = Pickup(0.008)
    width = 0.0
    for wanted in (0.08, 0.05, 0.02):
        assert pickup.goal(wanted, width) is None
    assert pickup.goal(0.005, width) == 0.005  # met: from here on it is in charge
    assert pickup.goal(0.08, 0.005) == 0.08
    pickup.release()
    assert pickup.goal(0.08, 0.0) is None


def test_a_trigger_that_passes_between_two_readings_counts():
    pickup = Pickup(0.001)
    assert pickup.goal(0.08, 0.04) is None
    assert pickup.goal(0.00, 0.04) == 0.0


# -- hand ---------------------------------------------------------------------------------------
@settings(max_examples=60, deadline=None)
@given(vectors, vectors, vectors)
def test_closing_the_clutch_never_moves_the_arm(position, turn, frame):
    hand = Hand(HandConfig(rotation=tuple(frame)))
    hand.offer(pose(position, turn), 0.0, 0.0)
    goal = hand.goal(EEF, 1.0, 0.0)
    np.testing.assert_allclose(goal.position, EEF.position, atol=1e-12)
    np.testing.assert_allclose(goal.rotation, EEF.rotation, atol=1e-12)


def test_the_arm_moves_as_the_hand_in_base_and_scaled():
    hand = Hand(HandConfig(scale=0.5, rotation=(0.0, 0.0, np.pi / 2)))
    hand.offer(pose(), 0.0, 0.0)
    hand.goal(EEF, 1.0, 0.0)
    hand.offer(pose((0.08, 0.0, 0.02), (0.3, 0.0, 0.0)), 0.02, 0.0)
    goal = hand.goal(EEF, 1.0, 0.02)
    # forward of the hand is +y of base; half as far; turns are not scaled
    np.testing.assert_allclose(goal.position - EEF.position, [0.0, 0.04, 0.01], atol=1e-12)
    np.testing.assert_allclose(
        goal.rotation, matrix_from_vector([0.0, 0.3, 0.0]) @ EEF.rotation, atol=1e-12)


def test_clutch_open_move_the_hand_clutch_closed_the_arm_stays():
    hand = Hand(HandConfig())
    hand.offer(pose(), 0.0, 0.0)
    hand.goal(EEF, 1.0, 0.0)
    hand.release()
    for i in range(10):
        hand.offer(pose((0.05 * i, 0.0, 0.0)), 0.02 * i, 0.0)
    np.testing.assert_allclose(hand.goal(EEF, 1.0, 0.2).position, EEF.position, atol=1e-12)


@pytest.mark.parametrize('jump', [pose((0.3, 0.0, 0.0)), pose(turn=(0.0, 1.0, 0.0))])
def test_lost_tracking_does_not_move_the_arm(jump):
    hand = Hand(HandConfig(jump=0.1, turn=0.5))
    hand.offer(pose(), 0.0, 0.0)
    hand.goal(EEF, 1.0, 0.0)
    assert 'jumped' in hand.offer(jump, 0.02, 0.0)
    goal = hand.goal(EEF, 1.0, 0.02)
    np.testing.assert_allclose(goal.position, EEF.position, atol=1e-12)
    np.testing.assert_allclose(goal.rotation, EEF.rotation, atol=1e-12)


def test_a_hand_that_was_gone_starts_anew():
    hand = Hand(HandConfig(timeout=0.2))
    hand.offer(pose(), 0.0, 0.0)
    hand.goal(EEF, 1.0, 0.0)
    assert not hand.alive(0.3)
    assert hand.goal(EEF, 1.0, 0.3) is None
    assert hand.offer(pose((0.5, 0.0, 0.0)), 0.4, 0.0) == ''
    np.testing.assert_allclose(hand.goal(EEF, 1.0, 0.4).position, EEF.position, atol=1e-12)


def test_changing_the_scale_does_not_move_the_arm():
    hand = Hand(HandConfig())
    hand.offer(pose(), 0.0, 0.0)
    hand.goal(EEF, 1.0, 0.0)
    hand.offer(pose((0.09, 0.0, 0.0)), 0.02, 0.0)
    there = hand.goal(EEF, 1.0, 0.02)
    np.testing.assert_allclose(hand.goal(there, 0.5, 0.02).position, there.position, atol=1e-12)


# -- leader -------------------------------------------------------------------------------------
NAMES = SPEC.joint_names[SPEC.arm_slice('left')][:-1]
HERE = SPEC.rest[SPEC.arm_slice('left')][:-1].astype(float)


def test_a_leader_that_does_not_match_is_waited_for_and_named():
    leader = Leader(LeaderConfig(tolerance=0.1), NAMES)
    off = HERE.copy()
    off[1] += 0.4
    assert leader.goal(off, HERE, DT) is None
    assert leader.waiting == 'move the leader: left_shoulder is 0.40 off'
    off[1] = HERE[1] + 0.09
    np.testing.assert_allclose(leader.goal(off, HERE, DT), HERE, atol=0.3 * DT + 1e-12)
    assert leader.waiting == ''


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-1, 1), min_size=6, max_size=6).map(np.array),
       st.sampled_from(['match', 'converge']))
def test_engaging_never_jumps_and_the_distance_fades_at_its_speed(apart, engage):
    config = LeaderConfig(engage=engage, tolerance=0.1, converge_speed=0.5)
    leader = Leader(config, NAMES)
    position = HERE + apart * (0.1 if engage == 'match' else 1.0)
    target = HERE
    for _ in range(round(2.2 / (0.5 * DT))):
        new = leader.goal(position, target, DT)
        assert (np.abs(new - target) <= 0.5 * DT + 1e-9).all()
        target = new
    np.testing.assert_allclose(target, position, atol=1e-9)


def test_the_offset_can_be_kept_for_ever():
    leader = Leader(LeaderConfig(engage='converge', converge_speed=0.0), NAMES)
    leader.goal(HERE + 0.5, HERE, DT)
    np.testing.assert_allclose(leader.goal(HERE + 0.7, HERE, DT), HERE + 0.2)


def test_release_then_move_the_leader_then_engage_does_not_move():
    leader = Leader(LeaderConfig(engage='converge', converge_speed=0.0), NAMES)
    leader.goal(HERE, HERE, DT)
    leader.release()
    np.testing.assert_allclose(leader.goal(HERE + 0.9, HERE, DT), HERE)


def test_map_by_name_with_sign_scale_and_offset():
    config = LeaderConfig(joints={
        'left_waist': LeaderJoint('a_waist', sign=-1, offset=0.1),
        'left_gripper': LeaderJoint('a_gripper', scale=0.05)}, arms=('left',))
    names = ['a_gripper', 'other', *reversed(NAMES[1:]), 'a_waist']
    values = [1.0, 9.0, 5.0, 4.0, 3.0, 2.0, 1.0, 0.5]
    read = LeaderMap(SPEC, config).read(names, values)
    np.testing.assert_allclose(read['left'], [-0.4, 1, 2, 3, 4, 5, 0.05])


def test_one_of_two_leaders_speaks_for_its_arm_alone():
    names = SPEC.joint_names[SPEC.arm_slice('right')]
    assert list(LeaderMap(SPEC, LeaderConfig()).read(names, [0.0] * 7)) == ['right']


LEFT_NAMES = list(SPEC.joint_names[SPEC.arm_slice('left')])


@pytest.mark.parametrize(('names', 'values', 'message'), [
    (LEFT_NAMES[:-1], [0.0] * 6, 'no left_gripper for the left arm'),
    (['lef_waist', *LEFT_NAMES[1:]], [0.0] * 7, "did you mean 'lef_waist'"),
    (LEFT_NAMES, [0.0] * 6, '7 names .* and 6 positions'),
    ([*LEFT_NAMES, 'left_waist'], [0.0] * 8, '8 names \\(7 different\\)'),
    (LEFT_NAMES, [*[0.0] * 6, np.nan], 'NaN'),
    (['x'], [0.0], 'no joint of any arm among x; needs left_waist'),
    ([], [], 'no joint of any arm among none'),
])
def test_messages_that_do_not_fit_say_what_would(names, values, message):
    with pytest.raises(ConfigError, match=message):
        LeaderMap(SPEC, LeaderConfig()).read(names, values)
