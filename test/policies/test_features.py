import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from il_robot.errors import SpecError
from il_robot.kinematics import Pose
from il_robot.policies.features import (
    FeatureLayout,
    batch_features,
    observation_features,
    robot_hands,
)
from il_robot.resources import named_config
from il_robot.rotations import matrix_from_quaternion
from il_robot.spec import load_robot_spec
from il_robot.types import Observation

LAYOUT = FeatureLayout(('a', 'b', 'c'), ('cube', 'peg'))


def _recording(rows, seed):
    rng = np.random.default_rng(seed)
    state = rng.normal(size=(rows, 3)).astype(np.float32)
    objects = {}
    for name in ('peg', 'cube', 'unused'):
        quaternion = rng.normal(size=(rows, 4))
        quaternion /= np.linalg.norm(quaternion, axis=1, keepdims=True)
        objects[name] = np.c_[rng.normal(size=(rows, 3)), quaternion].astype(np.float32)
    return state, objects


@settings(max_examples=30, deadline=None)
@given(rows=st.integers(1, 70), seed=st.integers(0, 10_000))
def test_live_and_recorded_observations_give_the_same_bits(rows, seed):
    state, objects = _recording(rows, seed)
    batch = batch_features(state, objects, LAYOUT)
    for i in range(rows):
        observation = Observation(0.0, state[i], {name: v[i] for name, v in objects.items()})
        assert observation_features(observation, LAYOUT).tobytes() == batch[i].tobytes()


def test_entries_stand_where_their_names_say():
    state, objects = _recording(4, 0)
    batch = batch_features(state, objects, LAYOUT)
    assert batch.shape == (4, LAYOUT.dim) and batch.dtype == np.float32
    assert len(LAYOUT.names) == len(set(LAYOUT.names)) == LAYOUT.dim == 21
    column = dict(zip(LAYOUT.names, batch.T))
    np.testing.assert_array_equal(column['b'], state[:, 1])
    np.testing.assert_array_equal(column['peg.z'], objects['peg'][:, 2])
    R = matrix_from_quaternion(objects['cube'][:, 3:])
    np.testing.assert_allclose(column['cube.r20'], R[:, 2, 0], atol=1e-6)
    np.testing.assert_allclose(column['cube.r01'], R[:, 0, 1], atol=1e-6)


def test_the_sign_of_a_quaternion_does_not_matter():
    state, objects = _recording(5, 1)
    flipped = {n: np.c_[v[:, :3], -v[:, 3:]].astype(np.float32) for n, v in objects.items()}
    np.testing.assert_array_equal(
        batch_features(state, objects, LAYOUT), batch_features(state, flipped, LAYOUT))


def test_missing_object_and_wrong_state_are_named():
    state, objects = _recording(2, 0)
    del objects['peg']
    with pytest.raises(SpecError, match='needs the pose of peg.*given: cube, unused'):
        batch_features(state, objects, LAYOUT)
    with pytest.raises(SpecError, match=r'expected \(N, 3\) for a, b, c'):
        batch_features(state[:, :2], objects, LAYOUT)


ROBOT = load_robot_spec(named_config('robots', 'sim_dual_arm'))
HANDS = robot_hands(ROBOT)
WITH_HANDS = FeatureLayout(ROBOT.joint_names, ('cube', 'peg'), ('left', 'right'), (0.01, 0.1))


def _robot_recording(rows, seed):
    _, objects = _recording(rows, seed)
    state = np.random.default_rng(seed).uniform(ROBOT.lower, ROBOT.upper, (rows, ROBOT.dim))
    return state.astype(np.float32), objects


@settings(max_examples=30, deadline=None)
@given(rows=st.integers(1, 70), seed=st.integers(0, 10_000))
def test_hands_live_and_recorded_give_the_same_bits(rows, seed):
    state, objects = _robot_recording(rows, seed)
    batch = batch_features(state, objects, WITH_HANDS, HANDS)
    for i in range(rows):
        observation = Observation(0.0, state[i], {name: v[i] for name, v in objects.items()})
        live = observation_features(observation, WITH_HANDS, HANDS)
        assert live.tobytes() == batch[i].tobytes()


def test_poses_are_relative_to_what_their_names_say():
    state, objects = _robot_recording(5, 3)
    batch = batch_features(state, objects, WITH_HANDS, HANDS)
    names = WITH_HANDS.names
    assert batch.shape == (5, len(names)) and len(set(names)) == len(names) == WITH_HANDS.dim
    assert WITH_HANDS.poses == (
        'cube', 'peg', 'left_hand', 'right_hand', 'cube@left_hand', 'peg@left_hand',
        'right_hand@left_hand', 'cube@right_hand', 'peg@right_hand', 'peg@cube')
    column = dict(zip(names, batch.T))
    for row in range(5):
        frames = {
            f'{arm}_hand': HANDS[arm].kinematics.fk(state[row, ROBOT.arm_slice(arm)][:6])
            for arm in ('left', 'right')}
        for name in ('cube', 'peg'):
            pose = objects[name][row].astype(float)
            frames[name] = Pose(matrix_from_quaternion(pose[3:]), pose[:3])
        for pose in WITH_HANDS.poses:
            name, _, base = pose.partition('@')
            expected = frames[base].inverse() @ frames[name] if base else frames[name]
            position = [column[f'{pose}.{axis}'][row] for axis in 'xyz']
            np.testing.assert_allclose(position, expected.position, atol=1e-5)
            np.testing.assert_allclose(
                column[f'{pose}.r20'][row], expected.rotation[2, 0], atol=1e-5)
            if pose in WITH_HANDS.near:
                near = column[f'{pose}.y/0.1'][row]
                assert near == pytest.approx(np.tanh(expected.position[1] / 0.1), abs=1e-5)
    assert WITH_HANDS.near == ('cube@left_hand', 'peg@left_hand', 'cube@right_hand',
                               'peg@right_hand', 'peg@cube')


def test_relative_poses_do_not_change_when_everything_is_moved_together():
    state, objects = _robot_recording(6, 4)
    batch = batch_features(state, objects, WITH_HANDS, HANDS)
    shift = np.array([0.1, -0.2, 0.3], np.float32)
    moved = {n: np.c_[v[:, :3] + shift, v[:, 3:]].astype(np.float32) for n, v in objects.items()}
    after = batch_features(state, moved, WITH_HANDS, HANDS)
    same = [i for i, name in enumerate(WITH_HANDS.names) if name.startswith('peg@cube')]
    other = [i for i, name in enumerate(WITH_HANDS.names) if name.startswith('peg@left')]
    np.testing.assert_allclose(after[:, same], batch[:, same], atol=1e-5)
    assert np.abs(after[:, other] - batch[:, other]).max() > 0.1


def test_a_robot_without_known_kinematics_has_no_hands_and_is_told_so():
    other = load_robot_spec(named_config('robots', 'aloha_viperx'))
    assert other.geometry is None and robot_hands(other) == robot_hands(None) == {}
    state, objects = _robot_recording(1, 0)
    with pytest.raises(SpecError, match=r'hand of arm .left.*observation\.hands=false'):
        batch_features(state, objects, WITH_HANDS)
