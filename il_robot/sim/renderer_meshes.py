"""Triangles of the unit shapes and of mesh files: ``(3 T, 6)`` float32 positions and normals.

Unit shapes have edge or diameter 1 and their axis along z, as PyBullet's do.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from il_robot.errors import SimulationError
from il_robot.types import Float32, Float64

SEGMENTS = 24
"""Sides of what stands for a circle."""


def triangles(shape: str, segments: int = SEGMENTS) -> Float32:
    """``(3 T, 6)`` vertices of a unit shape, or of the ``.obj`` or ``.stl`` file of that name.

    Args:
        shape: ``box``, ``plane``, ``cylinder``, ``tube``, ``sphere``, ``hemisphere``, or a file.
        segments: Sides of what stands for a circle.

    Raises:
        SimulationError: a mesh file of another format, unreadable, or without a triangle.
    """
    unit = _UNIT.get(shape)
    return unit(segments) if unit else _mesh_file(Path(shape))


def solid(vertices: Float32) -> Float32:
    """``(3 T, 3)``: the positions alone, without the strips that only a bevel opens."""
    corners = vertices[:, :3].reshape(-1, 3, 3)
    area = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    return corners[np.abs(area).max(1) > 0].reshape(-1, 3)


def _plane(_: int) -> Float32:
    corners = np.array([[-.5, -.5], [.5, -.5], [.5, .5], [-.5, -.5], [.5, .5], [-.5, .5]])
    return _with_normals(np.pad(corners, ((0, 0), (0, 1))), np.tile([0., 0., 1.], (6, 1)))


def _box(_: int) -> Float32:
    """Six faces, and the strips along edges and corners that open when the edges are bevelled."""
    out = []
    for x, y, z in itertools.product((-.5, .5), repeat=3):
        corner, normals = np.array([x, y, z]), np.diag(np.sign([x, y, z]))
        out += [(corner, normals[k]) for k in ((0, 1, 2) if x * y * z > 0 else (0, 2, 1))]
    for axis in range(3):
        u, v = np.eye(3)[(axis + 1) % 3], np.eye(3)[(axis + 2) % 3]
        n = np.eye(3)[axis]
        for side in (-1.0, 1.0):
            out += _quad([((side * n + side * i * u + j * v) / 2, side * n)
                          for i, j in ((-1, -1), (1, -1), (1, 1), (-1, 1))])
        for i, j in itertools.product((-1.0, 1.0), repeat=2):
            edge, turn = (i * u + j * v) / 2, i * j
            out += _quad([(edge - turn * n / 2, i * u), (edge - turn * n / 2, j * v),
                          (edge + turn * n / 2, j * v), (edge + turn * n / 2, i * u)])
    return np.array([(*p, *n) for p, n in out], np.float32)


def _quad(corners: list[Any]) -> list[Any]:
    a, b, c, d = corners
    return [a, b, c, a, c, d]


def _cylinder(segments: int) -> Float32:
    """Caps, side and the two strips between them that open when the rims are bevelled."""
    return _revolve([(0., -.5, 0., -1.), (.5, -.5, 0., -1.), (.5, -.5, 1., 0.),
                     (.5, .5, 1., 0.), (.5, .5, 0., 1.), (0., .5, 0., 1.)], segments)


def _dome(start: float, segments: int) -> Float32:
    """The part of a sphere above the latitude ``start`` [rad]."""
    rings = round(segments * (np.pi / 2 - start) / (1.5 * np.pi))
    angle = np.linspace(start, np.pi / 2, rings + 1)
    r, z = np.cos(angle), np.sin(angle)
    return _revolve(np.column_stack([r / 2, z / 2, r, z]), segments)


def _revolve(profile: Any, segments: int) -> Float32:
    """A profile ``(P, 4)`` of radius, z and their normal, from the bottom up, around z."""
    angle = np.linspace(0.0, 2 * np.pi, segments + 1)
    circle = np.column_stack([np.cos(angle), np.sin(angle)])
    out: list[Any] = []
    for low, high in zip(profile[:-1], profile[1:]):
        for c0, c1 in zip(circle[:-1], circle[1:]):
            a, b, c, d = ((*(u * p[0]), p[1], *(u * p[2]), p[3])
                          for u, p in ((c0, low), (c1, low), (c1, high), (c0, high)))
            out += ([a, b, c] if low[0] > 1e-9 else []) + ([a, c, d] if high[0] > 1e-9 else [])
    return np.array(out, np.float32)


def _mesh_file(path: Path) -> Float32:
    readers = {'.obj': _read_obj, '.stl': _read_stl}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise SimulationError(
            f'cannot draw the mesh {path}: only {", ".join(readers)} are read; convert it')
    try:
        vertices = reader(path.read_bytes())
    except (OSError, ValueError, IndexError, struct.error) as error:
        raise SimulationError(f'cannot read the mesh {path}: {error}') from None
    if not len(vertices):
        raise SimulationError(f'the mesh {path} has no triangle')
    return vertices


def _read_obj(data: bytes) -> Float32:
    positions: list[list[float]] = []
    normals: list[list[float]] = []
    corners: list[tuple[int, int | None]] = []
    for line in data.decode(errors='replace').splitlines():
        word, *rest = line.split() or ['']
        if word == 'v':
            positions.append([float(x) for x in rest[:3]])
        elif word == 'vn':
            normals.append([float(x) for x in rest[:3]])
        elif word == 'f':
            face = [_obj_corner(text, len(positions), len(normals)) for text in rest]
            for i in range(1, len(face) - 1):
                corners += [face[0], face[i], face[i + 1]]
    xyz = np.array([positions[i] for i, _ in corners]).reshape(-1, 3)
    flat = _flat_normals(xyz)
    for k, (_, j) in enumerate(corners):
        if j is not None:
            flat[k] = normals[j]
    return _with_normals(xyz, flat)


def _obj_corner(text: str, positions: int, normals: int) -> tuple[int, int | None]:
    """Zero-based (position, normal) of ``v``, ``v/t``, ``v//n`` or ``v/t/n``; may be negative."""
    parts = text.split('/')
    v = int(parts[0])
    n = int(parts[2]) if len(parts) > 2 and parts[2] else None
    return (v - 1 if v > 0 else positions + v,
            n if n is None else n - 1 if n > 0 else normals + n)


def _read_stl(data: bytes) -> Float32:
    count = struct.unpack_from('<I', data, 80)[0] if len(data) >= 84 else -1
    if len(data) == 84 + 50 * count:
        facet = np.dtype([('normal', '<f4', 3), ('xyz', '<f4', (3, 3)), ('attribute', '<u2')])
        xyz = np.frombuffer(data, facet, offset=84)['xyz'].reshape(-1, 3).astype(float)
    else:
        lines = (line.split() for line in data.decode('ascii', errors='replace').splitlines())
        xyz = np.array([[float(x) for x in w[1:4]] for w in lines if w and w[0] == 'vertex'])
        xyz = xyz.reshape(-1, 3)
    return _with_normals(xyz, _flat_normals(xyz))


def _flat_normals(xyz: Float64) -> Float64:
    corner = xyz.reshape(-1, 3, 3)
    normal = np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])
    length = np.linalg.norm(normal, axis=1, keepdims=True)
    return np.repeat(normal / np.maximum(length, 1e-30), 3, axis=0)


def _with_normals(xyz: Float64, normals: Float64) -> Float32:
    return np.concatenate([xyz, normals], 1).astype(np.float32)


_UNIT: dict[str, Callable[[int], Float32]] = {
    'box': _box,
    'plane': _plane,
    'cylinder': _cylinder,
    'tube': lambda segments: _revolve([(.5, -.5, 1., 0.), (.5, .5, 1., 0.)], segments),
    'sphere': lambda segments: _dome(-np.pi / 2, segments),
    'hemisphere': lambda segments: _dome(0.0, segments),
}
