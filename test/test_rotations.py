import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from il_robot.rotations import (
    axis_rotations,
    matrix_from_quaternion,
    matrix_from_vector,
    quaternion_from_matrix,
    rotation_6d,
    rotation_rpy,
    rotation_vector,
    rotation_z,
)

quaternions = st.tuples(*[st.floats(-1, 1)] * 4).filter(lambda q: np.linalg.norm(q) > 1e-3).map(
    lambda q: np.array(q) / np.linalg.norm(q))
vectors = st.tuples(*[st.floats(-1, 1)] * 3).map(np.array)
angles = st.floats(-math.pi, math.pi)


def proper(matrix):
    identity = np.eye(3)
    return np.allclose(matrix @ matrix.T, identity, atol=1e-12) and np.linalg.det(matrix) > 0


@given(q=quaternions)
def test_a_quaternion_survives_the_way_through_the_matrix_with_w_positive(q):
    matrix = matrix_from_quaternion(q)
    assert proper(matrix)
    back = quaternion_from_matrix(matrix)
    assert back[3] >= 0 and abs(np.linalg.norm(back) - 1) < 1e-12
    assert min(np.abs(back - q).max(), np.abs(back + q).max()) < 1e-9


@given(q=quaternions, scale=st.floats(0.01, 100))
def test_a_quaternion_and_its_negative_or_multiple_are_one_rotation(q, scale):
    matrix = matrix_from_quaternion(q)
    np.testing.assert_allclose(matrix_from_quaternion(-q), matrix, atol=1e-12)
    np.testing.assert_allclose(matrix_from_quaternion(scale * q), matrix, atol=1e-12)


@given(q=quaternions)
def test_float32_storage_is_normalised_before_use(q):
    assert proper(matrix_from_quaternion(q.astype(np.float32) * np.float32(1.001)))


@pytest.mark.parametrize('axis', range(3))
@pytest.mark.parametrize('angle', [0.0, 1e-9, math.pi / 2, math.pi - 1e-7, math.pi])
def test_turns_about_the_axes_up_to_half_a_turn(axis, angle):
    vector = angle * np.eye(3)[axis]
    matrix = matrix_from_vector(vector)
    assert proper(matrix)
    np.testing.assert_allclose(matrix[:, axis], np.eye(3)[axis], atol=1e-12)
    back = rotation_vector(matrix)
    np.testing.assert_allclose(np.abs(back), np.abs(vector), atol=1e-9)
    np.testing.assert_allclose(matrix_from_vector(back), matrix, atol=1e-9)


@given(v=vectors.filter(lambda v: np.linalg.norm(v) < 3.1), scale=st.floats(0, 1.7))
def test_a_rotation_vector_survives_the_way_through_the_matrix(v, scale):
    v = scale * v
    np.testing.assert_allclose(rotation_vector(matrix_from_vector(v)), v, atol=1e-7)


@given(roll=angles, pitch=angles, yaw=angles)
def test_rpy_turns_about_fixed_axes_in_the_order_of_urdf(roll, pitch, yaw):
    x, y = matrix_from_vector([roll, 0, 0]), matrix_from_vector([0, pitch, 0])
    np.testing.assert_allclose(
        rotation_rpy((roll, pitch, yaw)), rotation_z(yaw) @ y @ x, atol=1e-12)


@given(angle=angles)
def test_rotations_about_an_axis_are_those_of_a_vector_along_it(angle):
    axes = (2, 0, 1, 0)
    one, turned = axis_rotations(axes, np.array([[0.0] * 4, [angle] * 4]))
    for k, axis in enumerate(axes):
        np.testing.assert_array_equal(one[k], np.eye(3))
        np.testing.assert_allclose(
            turned[k], matrix_from_vector(angle * np.eye(3)[axis]), atol=1e-12)


@given(q=quaternions)
def test_rotation_6d_is_two_orthonormal_columns_that_give_the_third(q):
    six = rotation_6d(q)
    assert six.shape == (6,) and six.dtype == np.float32
    a, b = six[:3].astype(float), six[3:].astype(float)
    assert abs(a @ b) < 1e-6 and abs(a @ a - 1) < 1e-6 and abs(b @ b - 1) < 1e-6
    np.testing.assert_allclose(
        np.column_stack([a, b, np.cross(a, b)]), matrix_from_quaternion(q), atol=1e-6)


@settings(max_examples=20)
@given(seed=st.integers(0, 999))
def test_batches_are_rows_of_single_ones(seed):
    q = np.random.default_rng(seed).normal(size=(2, 3, 4))
    matrices, sixes = matrix_from_quaternion(q), rotation_6d(q)
    assert matrices.shape == (2, 3, 3, 3) and sixes.shape == (2, 3, 6)
    for index in np.ndindex(2, 3):
        np.testing.assert_array_equal(matrices[index], matrix_from_quaternion(q[index]))
        np.testing.assert_array_equal(sixes[index], rotation_6d(q[index]))
