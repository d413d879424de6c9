"""Rotations as matrices and quaternions ``(x, y, z, w)``; numpy only, float64 inside."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from il_robot.types import Float32, Float64


def matrix_from_quaternion(quaternion: ArrayLike) -> Float64:
    """Rotation matrices of unit quaternions.

    Args:
        quaternion: ``(..., 4)`` as x, y, z, w; normalised here, so that float32 storage and
            sensor noise are harmless.

    Returns:
        ``(..., 3, 3)``.
    """
    q = np.asarray(quaternion, dtype=np.float64)
    if q.shape == (1, 4):
        return matrix_from_quaternion(q[0])[None]
    # Plain numbers are four times as fast as arrays without a dimension.
    x, y, z, w = q.tolist() if q.ndim == 1 else np.moveaxis(q, -1, 0)
    s = 2.0 / (x * x + y * y + z * z + w * w)
    matrix: Float64 = np.array([
        [1 - s * (y * y + z * z), s * (x * y - z * w), s * (x * z + y * w)],
        [s * (x * y + z * w), 1 - s * (x * x + z * z), s * (y * z - x * w)],
        [s * (x * z - y * w), s * (y * z + x * w), 1 - s * (x * x + y * y)],
    ])
    return matrix if q.ndim == 1 else np.moveaxis(matrix, (0, 1), (-2, -1))


def quaternion_from_matrix(matrix: ArrayLike) -> Float64:
    """The unit quaternion ``(4,)`` (x, y, z, w; w >= 0) of a rotation matrix ``(3, 3)``.

    Shepperd's method: divides by the largest of the four components.
    """
    m = np.asarray(matrix, dtype=np.float64)
    diagonal = np.array([m[0, 0], m[1, 1], m[2, 2], m[0, 0] + m[1, 1] + m[2, 2]])
    i = int(np.argmax(diagonal))
    if i == 3:
        q = np.array([m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1], 1 + diagonal[3]])
    else:
        j, k = (i + 1) % 3, (i + 2) % 3
        q = np.empty(4)
        q[i] = 1 - diagonal[3] + 2 * m[i, i]
        q[j] = m[j, i] + m[i, j]
        q[k] = m[k, i] + m[i, k]
        q[3] = m[k, j] - m[j, k]
    q /= np.linalg.norm(q)
    return -q if q[3] < 0 else q


def rotation_6d(quaternion: ArrayLike) -> Float32:
    """The first two columns of the rotation matrix, ``(..., 6)`` float32.

    A continuous representation for networks (Zhou et al. 2019, "On the Continuity of Rotation
    Representations in Neural Networks", eq. 5 inverts it).
    """
    matrix = matrix_from_quaternion(quaternion)
    columns = np.swapaxes(matrix[..., :2], -1, -2)
    return columns.reshape(*columns.shape[:-2], 6).astype(np.float32)


def rotation_z(angle: float) -> Float64:
    """``(3, 3)`` rotation about z by ``angle`` [rad]."""
    c, s = math.cos(angle), math.sin(angle)
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])


def axis_rotations(axes: tuple[int, ...], angles: Float64) -> Float64:
    """Rotations about coordinate axes, many at once.

    Args:
        axes: K axes, each 0, 1 or 2.
        angles: ``(N, K)`` [rad].

    Returns:
        ``(N, K, 3, 3)``.
    """
    rows, width = angles.shape
    numbers = np.empty((rows, 3 * width + 2))
    numbers[:, :width] = np.cos(angles)
    sine = np.sin(angles, out=numbers[:, width:2 * width])
    np.negative(sine, out=numbers[:, 2 * width:-2])
    numbers[:, -2:] = 0.0, 1.0
    return numbers.take(_places(axes), axis=1).reshape(rows, width, 3, 3)


@cache
def _places(axes: tuple[int, ...]) -> NDArray[np.intp]:
    """Which of (cosines, sines, minus sines, 0, 1) stands where in those matrices, flat."""
    width = len(axes)
    places = np.full((width, 3, 3), 3 * width, np.intp)
    for k, axis in enumerate(axes):
        i, j = (axis + 1) % 3, (axis + 2) % 3
        places[k, axis, axis] = 3 * width + 1
        places[k, i, i] = places[k, j, j] = k
        places[k, j, i], places[k, i, j] = width + k, 2 * width + k
    return places.reshape(-1)


def rotation_rpy(rpy: tuple[float, float, float]) -> Float64:
    """``(3, 3)`` from fixed-axis roll, pitch, yaw [rad], as in URDF: Rz(yaw) Ry(p) Rx(r)."""
    (cr, cp, cy), (sr, sp, sy) = np.cos(rpy), np.sin(rpy)
    return np.array([
        [cy * cp, cy * sp * sr - sy * cr, cy * sp * cr + sy * sr],
        [sy * cp, sy * sp * sr + cy * cr, sy * sp * cr - cy * sr],
        [-sp, cp * sr, cp * cr],
    ])


def rotation_vector(matrix: Float64) -> Float64:
    """The axis times the angle ``(3,)`` [rad], angle in [0, pi], of a rotation matrix."""
    q = quaternion_from_matrix(matrix)
    norm = math.sqrt(float(q[0] ** 2 + q[1] ** 2 + q[2] ** 2))
    if norm < 1e-12:
        return np.zeros(3)
    return q[:3] * (2.0 * math.atan2(norm, float(q[3])) / norm)


def matrix_from_vector(vector: ArrayLike) -> Float64:
    """Rodrigues' formula: the rotation matrix of an axis times angle ``(3,)`` [rad]."""
    v = np.asarray(vector, dtype=np.float64)
    angle = float(np.linalg.norm(v))
    half = 0.5 * angle
    scale = math.sin(half) / angle if angle > 1e-12 else 0.5
    return matrix_from_quaternion([v[0] * scale, v[1] * scale, v[2] * scale, math.cos(half)])
