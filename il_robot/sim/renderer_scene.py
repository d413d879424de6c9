"""What a PyBullet client shows: primitives with size and colour, and where they are now.

PyBullet reports a visual shape relative to the URDF frame of its link, but the pose of a base
as that of its centre of mass; everything here is brought to the URDF (link) frame first.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from il_robot.errors import SimulationError, unknown
from il_robot.rotations import matrix_from_quaternion
from il_robot.sim.bullet import p
from il_robot.spec import CameraSpec
from il_robot.types import Float32, Float64

NEAR = 0.01
"""Nearest distance a camera sees [m]."""

FAR = 10.0
"""Farthest distance a camera sees [m]; the depth of pixels that show no body."""

WORLD = 'base'
"""The parent name of a camera that stands still."""

_HIDDEN_ALPHA = 1e-3
_BEVEL = 0.0025


@dataclass(frozen=True, eq=False)
class Primitive:
    """One thing to draw.

    Attributes:
        shape: ``box``, ``cylinder``, ``tube`` (no caps), ``sphere``, ``hemisphere``, ``plane``,
            or the file of a mesh.
        frame: Row of :meth:`Scene.read_frames` it is fixed to.
        pose: ``(4, 4)`` in that frame.
        scale: ``(3,)`` factors on the unit shape (boxes: edges; round ones: diameters) [m].
        color: ``(3,)`` RGB in 0..1 as the URDF gives it.
        bevel: How much of the edges is rounded off [m].
    """

    shape: str
    frame: int
    pose: Float64
    scale: tuple[float, float, float]
    color: tuple[float, float, float]
    bevel: float = 0.0


class Scene:
    """All bodies of one client, read once; :meth:`read_frames` is what runs per picture.

    Attributes:
        client: PyBullet's ``physicsClientId``.
        primitives: Everything to draw.
        frame_of_link: Row of :meth:`read_frames` by link name; the first body wins.
    """

    def __init__(self, client: int) -> None:
        self.client = client
        self.primitives: list[Primitive] = []
        self.frame_of_link: dict[str, int] = {}
        self._bodies: list[tuple[int, int, range]] = []  # body, row of its base, its links
        self._rows = 1  # row 0 is the world
        to_urdf = []
        for i in range(p.getNumBodies(physicsClientId=client)):
            body = p.getBodyUniqueId(i, physicsClientId=client)
            xyz, quaternion = p.getDynamicsInfo(body, -1, physicsClientId=client)[3:5]
            to_urdf.append(inverse(transform(np.array(xyz + quaternion))))
            self._add_body(body)
        self._bases = [row for _, row, _ in self._bodies]
        self._to_urdf = np.array(to_urdf).reshape(-1, 4, 4)

    def _add_body(self, body: int) -> None:
        links = range(p.getNumJoints(body, physicsClientId=self.client))
        base = self._rows
        self._bodies.append((body, base, links))
        self._rows += 1 + len(links)
        name = p.getBodyInfo(body, physicsClientId=self.client)[0]
        self.frame_of_link.setdefault(name.decode(), base)
        for link in links:
            name = p.getJointInfo(body, link, physicsClientId=self.client)[12]
            self.frame_of_link.setdefault(name.decode(), base + 1 + link)
        for shape in p.getVisualShapeData(body, physicsClientId=self.client):
            self.primitives += _primitives(shape, base)

    def read_frames(self) -> Float64:
        """``(frames, 4, 4)`` poses of the world, then of every base and link, in the world.

        Raises:
            SimulationError: a body is gone, or the client.
        """
        poses = np.empty((self._rows, 7))
        poses[0] = (0, 0, 0, 0, 0, 0, 1)
        try:
            for body, row, links in self._bodies:
                self._read_body(body, links, poses[row:])
        except p.error as error:
            raise SimulationError(
                f'cannot read where the bodies are ({error}): after removing a body call '
                f'rebuild(), after disconnecting make another renderer') from None
        frames = transform(poses)
        frames[self._bases] = frames[self._bases] @ self._to_urdf
        return frames

    def _read_body(self, body: int, links: range, poses: Float64) -> None:
        position, quaternion = p.getBasePositionAndOrientation(
            body, physicsClientId=self.client)
        poses[0] = position + quaternion
        if links:
            states = p.getLinkStates(
                body, links, computeForwardKinematics=1, physicsClientId=self.client)
            poses[1:1 + len(links)] = [s[4] + s[5] for s in states]

    def camera_pose(self, camera: CameraSpec, frames: Float64) -> Float64:
        """``(4, 4)`` pose in the world of the frame ``camera`` is fixed in.

        Raises:
            SimulationError: no link has the name of the camera's parent.
        """
        if camera.parent == WORLD:
            return frames[0]
        try:
            return frames[self.frame_of_link[camera.parent]]
        except KeyError:
            raise SimulationError(unknown(
                'link', camera.parent, [WORLD, *self.frame_of_link], f'camera {camera.name}',
            )) from None


def _primitives(shape: tuple[Any, ...], base_row: int) -> list[Primitive]:
    """The primitives of one row of getVisualShapeData (a capsule is three of them)."""
    _, link, kind, size, mesh, position, quaternion, rgba = shape[:8]
    if rgba[3] < _HIDDEN_ALPHA:
        return []
    frame, pose, color = base_row + 1 + link, transform(np.array(position + quaternion)), rgba[:3]

    def one(name: str, scale: tuple[float, float, float], bevel: float = 0.0,
            inside: Float64 | None = None) -> Primitive:
        place = pose if inside is None else pose @ inside
        return Primitive(name, frame, place, scale, color, bevel)

    if kind == p.GEOM_BOX:
        return [one('box', size, min(_BEVEL, 0.12 * min(size)))]
    if kind == p.GEOM_SPHERE:
        return [one('sphere', (2 * size[0],) * 3)]
    if kind == p.GEOM_CYLINDER:
        length, d = size[0], 2 * size[1]
        return [one('cylinder', (d, d, length), min(_BEVEL, 0.12 * min(d, length)))]
    if kind == p.GEOM_CAPSULE:
        length, d = size[0], 2 * size[1]
        ends = [transform(np.array([0, 0, z, flip, 0, 0, 1 - flip]))
                for z, flip in ((length / 2, 0.0), (-length / 2, 1.0))]
        return [one('tube', (d, d, length)),
                *(one('hemisphere', (d, d, d), inside=end) for end in ends)]
    if kind == p.GEOM_PLANE:
        return [one('plane', (2 * FAR, 2 * FAR, 1.0))]
    return [one(mesh.decode(), size)]


def transform(pose: Float64) -> Float64:
    """Poses ``(..., 7)`` of xyz [m] and quaternion xyzw as ``(..., 4, 4)`` matrices."""
    out = np.zeros((*pose.shape[:-1], 4, 4))
    out[..., :3, :3] = matrix_from_quaternion(pose[..., 3:])
    out[..., :3, 3] = pose[..., :3]
    out[..., 3, 3] = 1.0
    return out


def inverse(pose: Float64) -> Float64:
    """The rigid ``(4, 4)`` that undoes ``pose``."""
    out = np.eye(4)
    out[:3, :3] = pose[:3, :3].T
    out[:3, 3] = -pose[:3, :3].T @ pose[:3, 3]
    return out


def view_matrix(camera: CameraSpec, parent: Float64) -> Float64:
    """``(4, 4)`` world to camera (OpenGL axes: x right, y up, z backwards).

    Args:
        camera: Where it looks from, at what, and what is up, in ``parent``.
        parent: ``(4, 4)`` pose of the parent frame in the world.
    """
    view: Float64 = _to_camera(camera) @ inverse(parent)
    return view


@lru_cache(maxsize=64)
def _to_camera(camera: CameraSpec) -> Float64:
    eye, target, up = (np.array(v, float) for v in (camera.xyz, camera.target, camera.up))
    back = eye - target
    right = np.cross(up, back)
    back /= np.linalg.norm(back)
    right /= np.linalg.norm(right)
    view = np.eye(4)
    view[:3, :3] = right, np.cross(back, right), back
    view[:3, 3] = -view[:3, :3] @ eye
    view.setflags(write=False)
    return view


@lru_cache(maxsize=64)
def projection_matrix(fovy: float, aspect: float) -> Float64:
    """``(4, 4)`` OpenGL perspective; ``fovy`` [deg] vertical, ``aspect`` width / height."""
    f = 1.0 / np.tan(np.radians(fovy) / 2.0)
    projection = np.array([
        [f / aspect, 0.0, 0.0, 0.0],
        [0.0, f, 0.0, 0.0],
        [0.0, 0.0, (FAR + NEAR) / (NEAR - FAR), 2.0 * FAR * NEAR / (NEAR - FAR)],
        [0.0, 0.0, -1.0, 0.0],
    ])
    projection.setflags(write=False)
    return projection


def metres(depth: Float32) -> Float32:
    """Distances along the line of sight [m] of a depth buffer's values in 0..1."""
    # FAR NEAR / (FAR - (FAR - NEAR) depth), in place but for one array
    out = depth * np.float32((NEAR - FAR) / (FAR * NEAR))
    out += np.float32(1.0 / NEAR)
    return np.reciprocal(out, out=out)
