"""Cameras whose place is known, as pinholes: where a point of ``base`` appears in a picture.

The place comes from the robot's file (:class:`il_robot.spec.CameraSpec`), for a camera at a wrist
together with the joints. Image coordinates (x right, y down) have their origin in the middle of
the picture and half its height as the unit, so that they do not depend on its size. N is the
number of observations, P that of points.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from il_robot.errors import SpecError, unknown
from il_robot.policies.features import Hand, Hands
from il_robot.spec import CameraSpec, RobotSpec
from il_robot.types import Float32, Float64

NEAREST = 0.02
"""Least distance along the line of sight [m]: behind it, a point is not in view."""

Frames: TypeAlias = tuple[Float64, Float64]
"""``base`` as seen from a camera: rotations ``(N, 3, 3)``, positions ``(N, 3)`` [m]; x right, y
down, z along the line of sight."""


@dataclass(frozen=True, eq=False)
class View:
    """A camera whose place is known.

    Attributes:
        rotation: ``(3, 3)``, of its parent's axes into its own.
        position: ``(3,)`` its parent's origin as seen by it [m].
        focal: Focal length in half heights of the picture.
        hand: What it is fixed to; None for ``base``.
    """

    rotation: Float64
    position: Float64
    focal: float
    hand: Hand | None

    def frames(self, state: Float32) -> Frames:
        """``base`` as seen from the camera, of states ``(N, D)``."""
        if self.hand is None:
            n = len(state)
            return (np.broadcast_to(self.rotation, (n, 3, 3)),
                    np.broadcast_to(self.position, (n, 3)))
        rotation, tool = self.hand.frames(state)
        # the link `<arm>_hand` begins at the wrist, the tool frame is at its other end
        position = tool - self.hand.kinematics.hand * rotation[:, :, 0]
        turned = self.rotation @ rotation.swapaxes(1, 2)
        return turned, self.position - (turned @ position[:, :, None])[:, :, 0]


def project(points: Float64, frames: Frames, focal: float) -> tuple[Float64, Float64]:
    """Where points of ``base`` appear.

    Args:
        points: ``(N, P, 3)`` [m] in ``base``.
        frames: Of :meth:`View.frames`.
        focal: Of the :class:`View`.

    Returns:
        Image coordinates ``(N, P, 2)`` and distances along the line of sight ``(N, P)`` [m];
        nearer than :data:`NEAREST`, the coordinates mean nothing.
    """
    rotation, position = frames
    seen = points @ rotation.swapaxes(1, 2) + position[:, None]
    depth = seen[..., 2]
    image: Float64 = focal * seen[..., :2] / np.maximum(depth, NEAREST)[..., None]
    return image, depth


def robot_views(
    robot: RobotSpec | None, cameras: Sequence[str], hands: Hands
) -> dict[str, View]:
    """The cameras of a robot, by name.

    Raises:
        SpecError: the robot is not known, lacks a camera, or does not say where its parent is.
    """
    given: Mapping[str, CameraSpec] = {} if robot is None else {c.name: c for c in robot.cameras}
    views = {}
    for name in cameras:
        if name not in given:
            raise SpecError(
                f'{unknown("camera", name, given, "cameras of the robot")}: to estimate poses, '
                f'the place of every camera must be known')
        parent = given[name].parent
        hand = hands.get(parent.removesuffix('_hand')) if parent.endswith('_hand') else None
        if hand is None and parent != 'base':
            raise SpecError(
                f'camera {name} is fixed to {parent}, and where that is, is not known; to '
                f'estimate poses, use cameras fixed to base, or to the hand of an arm whose '
                f'kinematics is known')
        views[name] = _view(given[name], hand)
    return views


def _view(camera: CameraSpec, hand: Hand | None) -> View:
    eye, target, up = (np.array(v, np.float64) for v in (camera.xyz, camera.target, camera.up))
    ahead = (target - eye) / np.linalg.norm(target - eye)
    right = np.cross(ahead, up)
    right /= np.linalg.norm(right)
    rotation = np.stack([right, np.cross(ahead, right), ahead])
    focal = 1.0 / np.tan(np.radians(camera.fovy) / 2.0)
    return View(rotation, -rotation @ eye, float(focal), hand)
