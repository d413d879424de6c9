import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from il_robot.errors import SpecError
from il_robot.policies.features import FeatureLayout, batch_features, observation_features
from il_robot.rotations import matrix_from_quaternion
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
