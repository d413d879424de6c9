"""Capsules and boxes around the collision shapes of a URDF."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from il_robot.errors import SpecError
from il_robot.rotations import rotation_rpy
from il_robot.types import Float64

Vertices = Callable[[str], Float64]
"""The vertices ``(N, 3)`` [m] of a mesh, by its file name in the URDF."""

# A capsule's radius over the least that encloses the box: longer ends cost more than that.
_ROUND = 1.1


@dataclass(frozen=True)
class Shape:
    """A box around a collision shape, in its link's frame.

    Attributes:
        link: Its link without the arm's prefix.
        centre: ``(3,)`` [m].
        rotation: ``(3, 3)``.
        half: ``(3,)`` half sides [m].
        ends: ``(2, 3)`` of the capsule's segment, in the link's frame [m].
        radius: Of the capsule [m].
    """

    link: str
    centre: Float64
    rotation: Float64
    half: Float64
    ends: Float64
    radius: float

    @property
    def reach(self) -> float:
        """Distance of its farthest corner from the link's origin [m]."""
        return float(np.linalg.norm(self.centre)) + float(np.linalg.norm(self.half))


def numbers(text: str | None, count: int, default: float = 0.0) -> Float64:
    """``(count,)`` numbers of an attribute; all the default where it has not so many."""
    values = np.array([float(v) for v in (text or '').split()])
    return values if values.size == count else np.full(count, default)


def frame(origin: ElementTree.Element | None) -> Float64:
    """A frame ``(4, 4)`` from a URDF's origin."""
    out = np.eye(4)
    if origin is not None:
        out[:3, :3] = rotation_rpy(tuple(numbers(origin.get('rpy'), 3).tolist()))
        out[:3, 3] = numbers(origin.get('xyz'), 3)
    return out


def shape(link: str, collision: ElementTree.Element, vertices: Vertices) -> Shape:
    """What encloses one ``<collision>`` of a link.

    Raises:
        SpecError: it has no known geometry, or a mesh that cannot be read.
    """
    at, geometry = frame(collision.find('origin')), collision.find('geometry')
    found = {} if geometry is None else {child.tag: child for child in geometry}
    if 'box' in found:
        return _box(link, at, 0.5 * numbers(found['box'].get('size'), 3))
    if 'cylinder' in found or 'capsule' in found:
        round_one = found.get('cylinder', found.get('capsule'))
        assert round_one is not None
        radius, length = float(round_one.get('radius', 0)), float(round_one.get('length', 0))
        half = np.array([radius, radius, 0.5 * length])
        axis = at[:3, :3] @ (0.0, 0.0, half[2])
        if 'capsule' in found:
            half[2] += radius
        ends = np.array([at[:3, 3] + axis, at[:3, 3] - axis])
        return Shape(link, at[:3, 3], at[:3, :3], half, ends, radius)
    if 'sphere' in found:
        radius = float(found['sphere'].get('radius', 0))
        return Shape(link, at[:3, 3], at[:3, :3], np.full(3, radius),
                     np.array([at[:3, 3], at[:3, 3]]), radius)
    if 'mesh' in found:
        points = vertices(str(found['mesh'].get('filename')))
        points = points * numbers(found['mesh'].get('scale'), 3, 1.0)
        return _around(link, points @ at[:3, :3].T + at[:3, 3])
    raise SpecError(f'{link}: a collision shape must be a box, cylinder, capsule, sphere or mesh, '
                    f'got {", ".join(found) or "none"}')


def _box(link: str, at: Float64, half: Float64) -> Shape:
    long = int(np.argmax(half))
    least = float(np.linalg.norm(np.delete(half, long)))
    radius = _ROUND * least
    beyond = np.sqrt(radius * radius - least * least)
    axis = np.zeros(3)
    axis[long] = max(half[long] - beyond, 0.0)
    if axis[long] == 0.0:
        radius = float(np.linalg.norm(half))
    ends = np.array([at[:3, :3] @ s + at[:3, 3] for s in (axis, -axis)])
    return Shape(link, at[:3, 3], at[:3, :3], half, ends, float(radius))


def _around(link: str, points: Float64) -> Shape:
    """The smaller box of two, and the smallest capsule of six, around points ``(N, 3)``.

    Boxes and the capsules' axes lie along the link's frame or along the points' principal axes.
    """
    own = np.linalg.eigh(np.cov(points.T))[1] if len(points) > 3 else np.eye(3)
    own = own * np.sign(np.linalg.det(own))
    boxes, capsules = [], []
    for rotation in (np.eye(3), own):
        local = points @ rotation
        low, high = local.min(0), local.max(0)
        middle, half = 0.5 * (low + high), 0.5 * (high - low)
        boxes.append((float(np.prod(half)), rotation, middle, half))
        capsules += [(_capsule(local, k, middle), rotation) for k in range(3)]
    _, rotation, middle, half = min(boxes, key=lambda b: b[0])
    (ends, radius), along = min(capsules, key=lambda c: _volume(*c[0]))
    return Shape(link, rotation @ middle, rotation, half, ends @ along.T, radius)


def _capsule(points: Float64, k: int, middle: Float64) -> tuple[Float64, float]:
    """The shortest segment along axis ``k`` through ``middle``, and the radius, around points."""
    beside: NDArray[np.float64] = np.linalg.norm(np.delete(points - middle, k, axis=1), axis=1)
    radius = float(beside.max())
    round_end = np.sqrt(np.maximum(radius * radius - beside * beside, 0.0))
    high, low = (points[:, k] - round_end).max(), (points[:, k] + round_end).min()
    if high < low:  # one sphere there holds all
        high = low = 0.5 * (high + low)
    ends = np.array([middle, middle])
    ends[:, k] = high, low
    return ends, radius


def _volume(ends: Float64, radius: float) -> float:
    length = float(np.linalg.norm(ends[0] - ends[1]))
    return float(np.pi * radius * radius * (length + 4.0 / 3.0 * radius))
