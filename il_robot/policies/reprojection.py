"""The pose of a rigid body from where cameras see its points, each as sure as it is.

Minimises the squared reprojection errors, weighted by their information (Hartley and Zisserman,
"Multiple View Geometry", 2004, sections 4.7 and 12.2): a linear triangulation of each point, a
rigid fit to them (Arun et al., PAMI 1987), then Gauss-Newton steps on the six numbers of the pose.
Errors count as if they were of Student's t distribution, reweighted in each step (Lange et al.,
JASA 1989): one camera that is sure of the wrong place cannot pull the others along.

N poses at once; P points, in the units of :mod:`il_robot.policies.views`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from il_robot.policies.views import Frames, project
from il_robot.types import Float64

_STEPS = 8
_FREEDOM = 4.0
"""Degrees of freedom of Student's t."""
_LARGEST_TURN = 0.5
"""Of one step [rad]: further out, the linear model says nothing."""
_NEAREST = 0.05  # [m] from a camera, where the linear model would blow up
_WEAK = 1e-6
"""Information about a turn [1 / rad^2] where no camera says anything."""


@dataclass(frozen=True, eq=False)
class Sight:
    """What one camera saw.

    Attributes:
        image: ``(N, P, 2)`` image coordinates.
        information: ``(N, P, 2, 2)`` their inverse covariance; 0 for a point not seen.
        frames: Of the camera.
        focal: Of the camera.
    """

    image: Float64
    information: Float64
    frames: Frames
    focal: float


@dataclass(frozen=True, eq=False)
class Prior:
    """Where the body usually is, for what no camera says.

    Attributes:
        mean: ``(3,)`` [m] in ``base``.
        information: ``(3, 3)`` inverse covariance [1 / m^2].
    """

    mean: Float64
    information: Float64


def solve_poses(
    points: Float64, sights: Mapping[str, Sight], prior: Prior
) -> tuple[Float64, Float64]:
    """The poses that explain best what was seen.

    Args:
        points: ``(P, 3)`` of the body, in its own frame [m].
        sights: By camera, one or more.
        prior: About the position.

    Returns:
        Rotations ``(N, 3, 3)`` and positions ``(N, 3)`` [m] in ``base``.
    """
    rotation, position = _rigid_fit(points, *_triangulated(sights, prior))
    for _ in range(_STEPS):
        step = _step(points, sights, prior, rotation, position)
        turn = np.linalg.norm(step[:, 3:], axis=1, keepdims=True)
        turned = step[:, 3:] * np.minimum(1.0, _LARGEST_TURN / np.maximum(turn, 1e-12))
        position = position + step[:, :3]
        rotation = _turns(turned) @ rotation
    return rotation, position


def _triangulated(sights: Mapping[str, Sight], prior: Prior) -> tuple[Float64, Float64]:
    """Points ``(N, P, 3)`` and their information ``(N, P, 3, 3)``, each point by itself."""
    shape = next(iter(sights.values())).image.shape[:2]
    information = np.broadcast_to(prior.information, (*shape, 3, 3)).copy()
    target = np.broadcast_to(prior.information @ prior.mean, (*shape, 3)).copy()
    for sight in sights.values():
        rotation, origin = sight.frames
        # focal * (x, y) - image * z = 0, divided by the distance at which the body usually is
        scale = np.maximum((rotation[:, 2] @ prior.mean) + origin[:, 2], _NEAREST)[:, None, None]
        rows = (sight.focal * rotation[:, None, :2]
                - sight.image[..., None] * rotation[:, None, 2:]) / scale[..., None]
        right = (sight.image * origin[:, None, 2:] - sight.focal * origin[:, None, :2]) / scale
        weighed = rows.swapaxes(2, 3) @ sight.information
        information += weighed @ rows
        target += (weighed @ right[..., None])[..., 0]
    points = np.asarray(np.linalg.solve(information, target[..., None])[..., 0], np.float64)
    return points, information


def _rigid_fit(
    points: Float64, seen: Float64, information: Float64
) -> tuple[Float64, Float64]:
    """Rotations and positions that bring ``points`` onto ``(N, P, 3)`` best."""
    weight = np.cbrt(np.linalg.det(information))
    weight = weight / weight.sum(1, keepdims=True)
    middle = (weight[..., None] * seen).sum(1)
    own = weight @ points
    spread = np.einsum('np,npi,npj->nij', weight, points - own[:, None], seen - middle[:, None])
    u, _, vt = np.linalg.svd(spread)
    flip = np.broadcast_to(np.eye(3), spread.shape).copy()
    flip[:, 2, 2] = np.sign(np.linalg.det(u) * np.linalg.det(vt))
    rotation: Float64 = vt.swapaxes(1, 2) @ flip @ u.swapaxes(1, 2)
    return rotation, middle - (rotation @ own[:, :, None])[:, :, 0]


def _step(
    points: Float64, sights: Mapping[str, Sight], prior: Prior,
    rotation: Float64, position: Float64,
) -> Float64:
    """``(N, 6)``: shift [m] and turn [rad] in ``base`` of one Gauss-Newton step."""
    count = len(rotation)
    arms = points @ rotation.swapaxes(1, 2)  # (N, P, 3), from the body's origin, in base
    normal = np.zeros((count, 6, 6))
    target = np.zeros((count, 6))
    normal[:, :3, :3] = prior.information
    normal[:, 3:, 3:] = _WEAK * np.eye(3)
    target[:, :3] = (prior.mean - position) @ prior.information
    for sight in sights.values():
        image, depth = project(arms + position[:, None], sight.frames, sight.focal)
        depth = np.maximum(depth, _NEAREST)
        error = sight.image - image
        by_camera = np.zeros((*depth.shape, 2, 3))
        by_camera[..., 0, 0] = by_camera[..., 1, 1] = sight.focal / depth
        by_camera[..., 2] = -image / depth[..., None]
        by_shift = by_camera @ sight.frames[0][:, None]
        jacobian = np.concatenate([by_shift, -by_shift @ _cross(arms)], -1)
        unlikely = np.einsum('npi,npij,npj->np', error, sight.information, error)
        weight = ((_FREEDOM + 2) / (_FREEDOM + unlikely))[..., None, None]
        weighed = jacobian.swapaxes(2, 3) @ (weight * sight.information)
        normal += (weighed @ jacobian).sum(1)
        target += (weighed @ error[..., None])[..., 0].sum(1)
    solved = np.asarray(np.linalg.solve(normal, target[..., None])[..., 0], np.float64)
    return solved


def _cross(vectors: Float64) -> Float64:
    """``(..., 3, 3)``: the matrices that multiply as the cross product with ``(..., 3)``."""
    x, y, z = np.moveaxis(vectors, -1, 0)
    zero = np.zeros_like(x)
    rows = [[zero, -z, y], [z, zero, -x], [-y, x, zero]]
    return np.stack([np.stack(row, -1) for row in rows], -2)


def _turns(vectors: Float64) -> Float64:
    """``(N, 3, 3)``: rotations by axis times angle ``(N, 3)`` [rad] (Rodrigues)."""
    angle = np.maximum(np.linalg.norm(vectors, axis=1), 1e-12)[:, None, None]
    axis: Float64 = _cross(vectors) / angle
    turned: Float64 = np.eye(3) + np.sin(angle) * axis + (1 - np.cos(angle)) * (axis @ axis)
    return turned
