"""What a PyBullet client shows: primitives with size and colour, and where they are now.

PyBullet reports a visual shape relative to the URDF frame of its link, but the pose of a base
as that of its centre of mass; everything here is brought to the URDF (link) frame first.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pybullet

from il_robot.errors import SimulationError, unknown
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


@dataclass(frozen=True)
class Primitive:
    """One thing to draw.

    Attributes:
        shape: ``box``, ``cylinder``, ``tube`` (no caps), ``sphere``, ``hemisphere``, ``plane``,
            or the file of a mesh.
        frame: Row of :meth:`Scene.read_frames` it is fixed to.
        pose: ``(7,)`` in that frame: xyz [m], quaternion xyzw.
        scale: ``(3,)`` factors on the unit shape (boxes: edges; round ones: diameters) [m].
        color: ``(3,)`` RGB in 0..1 as the URDF gives it.
        bevel: How much of the edges is rounded off [m].
    """

    shape: str
    frame: int
    pose: tuple[float, ...]
    scale: tuple[float, float, float]
    color: tuple[float, float, float]
    bevel: float = 0.0


@dataclass
class _Body:
    uid: int
    links: list[int]
    inertial: tuple[float, ...]


@dataclass
class Scene:
    """All bodies of one client, read once; :meth:`read_frames` is what runs per picture."""

    client: int
    bodies: list[_Body] = field(default_factory=list)
    primitives: list[Primitive] = field(default_factory=list)
    frame_of_link: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        rows = 1  # row 0 is the world
        for i in range(pybullet.getNumBodies(physicsClientId=self.client)):
            rows = self._add_body(pybullet.getBodyUniqueId(i, physicsClientId=self.client), rows)
        self._rows = rows

    def _add_body(self, uid: int, rows: int) -> int:
        count = pybullet.getNumJoints(uid, physicsClientId=self.client)
        dynamics = pybullet.getDynamicsInfo(uid, -1, physicsClientId=self.client)
        self.bodies.append(_Body(uid, list(range(count)), (*dynamics[3], *dynamics[4])))
        name = pybullet.getBodyInfo(uid, physicsClientId=self.client)[0].decode()
        self.frame_of_link.setdefault(name, rows)
        for link in range(count):
            info = pybullet.getJointInfo(uid, link, physicsClientId=self.client)
            self.frame_of_link.setdefault(info[12].decode(), rows + 1 + link)
        for shape in pybullet.getVisualShapeData(uid, physicsClientId=self.client):
            self.primitives += _primitives(shape, rows)
        return rows + 1 + count

    def read_frames(self) -> Float64:
        """``(frames, 7)`` poses of the world, then of every base and link, in the world."""
        poses = np.empty((self._rows, 7))
        poses[0] = (0, 0, 0, 0, 0, 0, 1)
        row, bases, inertials = 1, [], []
        for body in self.bodies:
            position, quaternion = pybullet.getBasePositionAndOrientation(
                body.uid, physicsClientId=self.client)
            poses[row] = position + quaternion
            bases.append(row)
            inertials.append(body.inertial)
            row += 1
            if body.links:
                states = pybullet.getLinkStates(
                    body.uid, body.links, computeForwardKinematics=1, physicsClientId=self.client)
                poses[row:row + len(body.links)] = [s[4] + s[5] for s in states]
                row += len(body.links)
        if bases:
            poses[bases] = multiply(poses[bases], inverse(np.array(inertials)))
        return poses

    def camera_pose(self, camera: CameraSpec, frames: Float64) -> Float64:
        """``(7,)`` pose in the world of the frame ``camera`` is fixed in.

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
    frame, pose, color = base_row + 1 + link, (*position, *quaternion), rgba[:3]

    def one(name: str, scale: tuple[float, float, float], bevel: float = 0.0, z: float = 0.0,
            flip: bool = False) -> Primitive:
        local = np.array([0.0, 0.0, z, *((1.0, 0.0, 0.0, 0.0) if flip else (0.0, 0.0, 0.0, 1.0))])
        moved = tuple(multiply(np.array(pose), local).tolist())
        return Primitive(name, frame, moved, scale, color, bevel)

    if kind == pybullet.GEOM_BOX:
        return [one('box', size, min(_BEVEL, 0.12 * min(size)))]
    if kind == pybullet.GEOM_SPHERE:
        return [one('sphere', (2 * size[0],) * 3)]
    if kind == pybullet.GEOM_CYLINDER:
        length, d = size[0], 2 * size[1]
        return [one('cylinder', (d, d, length), min(_BEVEL, 0.12 * min(d, length)))]
    if kind == pybullet.GEOM_CAPSULE:
        length, d = size[0], 2 * size[1]
        return [one('tube', (d, d, length)), one('hemisphere', (d, d, d), z=length / 2),
                one('hemisphere', (d, d, d), z=-length / 2, flip=True)]
    if kind == pybullet.GEOM_PLANE:
        return [one('plane', (2 * FAR, 2 * FAR, 1.0))]
    return [one(mesh.decode(), size)]


def multiply(a: Float64, b: Float64) -> Float64:
    """Poses ``a * b``, ``(..., 7)`` each: ``b`` given in the frame ``a``."""
    product = np.empty(np.broadcast_shapes(a.shape, b.shape))
    product[..., :3] = a[..., :3] + rotate(a[..., 3:], b[..., :3])
    u, v, w, z = a[..., 3:6], b[..., 3:6], a[..., 6:], b[..., 6:]
    product[..., 3:6] = w * v + z * u + _cross(u, v)
    product[..., 6] = (w * z)[..., 0] - (u * v).sum(-1)
    return product


def inverse(pose: Float64) -> Float64:
    """The poses ``(..., 7)`` that undo ``pose``."""
    conjugate = pose[..., 3:] * (-1.0, -1.0, -1.0, 1.0)
    return np.concatenate([-rotate(conjugate, pose[..., :3]), conjugate], -1)


def rotate(quaternion: Float64, vector: Float64) -> Float64:
    """``(..., 3)`` vectors turned by unit quaternions ``(..., 4)`` xyzw."""
    u, w = quaternion[..., :3], quaternion[..., 3:]
    t = 2.0 * _cross(u, vector)
    return vector + w * t + _cross(u, t)


def _cross(a: Float64, b: Float64) -> Float64:
    # np.cross costs ten times this for the few dozen rows of a scene
    a, b = np.broadcast_arrays(a, b)
    out = np.empty(a.shape)
    out[..., 0] = a[..., 1] * b[..., 2] - a[..., 2] * b[..., 1]
    out[..., 1] = a[..., 2] * b[..., 0] - a[..., 0] * b[..., 2]
    out[..., 2] = a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]
    return out


def view_matrix(camera: CameraSpec, parent: Float64) -> Float64:
    """``(4, 4)`` world to camera (OpenGL axes: x right, y up, z backwards), row by column.

    Args:
        camera: Where it looks from, at what, and what is up, in ``parent``.
        parent: ``(7,)`` pose of the parent frame in the world.

    Raises:
        SimulationError: ``up`` is along the line of sight, or ``target`` is ``xyz``.
    """
    eye, target, up = (np.array(v, float) for v in (camera.xyz, camera.target, camera.up))
    back = eye - target
    right = np.cross(up, back)
    if np.linalg.norm(right) < 1e-9:
        raise SimulationError(
            f'camera {camera.name}: target must differ from xyz, and up must not lie along the '
            f'line of sight (xyz {camera.xyz}, target {camera.target}, up {camera.up})')
    back /= np.linalg.norm(back)
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3] = np.column_stack([right, np.cross(back, right), back, eye])
    pose = matrix(parent) @ pose
    view = np.eye(4)
    view[:3, :3] = pose[:3, :3].T
    view[:3, 3] = -pose[:3, :3].T @ pose[:3, 3]
    return view


def projection_matrix(fovy: float, aspect: float) -> Float64:
    """``(4, 4)`` OpenGL perspective; ``fovy`` [deg] vertical, ``aspect`` width / height."""
    f = 1.0 / np.tan(np.radians(fovy) / 2.0)
    return np.array([
        [f / aspect, 0.0, 0.0, 0.0],
        [0.0, f, 0.0, 0.0],
        [0.0, 0.0, (FAR + NEAR) / (NEAR - FAR), 2.0 * FAR * NEAR / (NEAR - FAR)],
        [0.0, 0.0, -1.0, 0.0],
    ])


def matrix(pose: Float64) -> Float64:
    """The pose ``(7,)`` as a ``(4, 4)`` matrix."""
    out = np.eye(4)
    out[:3, :3] = rotate(pose[None, 3:], np.eye(3)).T
    out[:3, 3] = pose[:3]
    return out


def metres(depth: Float32) -> Float32:
    """Distances along the line of sight [m] of a depth buffer's values in 0..1."""
    scale = np.float32((FAR - NEAR) / (FAR * NEAR))
    return 1.0 / (np.float32(1.0 / NEAR) - scale * depth)
