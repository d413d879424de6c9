"""The loops of :mod:`il_robot.control.clearance`, compiled.

Indices: ``A`` arms, ``L`` links of one arm from the base on, ``S`` collision shapes of one arm,
``C`` joints of one arm in the order of the chain, then the gripper; frame ``base``, [m], [rad].
"""

from __future__ import annotations

from math import cos, sin, sqrt
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from il_robot.control.compiled import compiled
from il_robot.types import Float64

Ints = NDArray[np.int64]
FIXED, TURNS, SLIDES = 0, 1, 2
_TINY = 1e-12


class Tree(NamedTuple):
    """Links and joints of equal arms.

    Attributes:
        mounts: ``(A, 4, 4)`` frames of the bases.
        parent: ``(L,)`` of each link; of the base nothing counts.
        turn: ``(L, 3, 3)`` rotation of the joint's origin in the parent's frame.
        shift: ``(L, 3)`` its place there.
        axis: ``(L, 3)`` of the joint; a slide's has length 0.5, its share of the opening.
        kind: ``(L,)`` FIXED, TURNS or SLIDES.
        column: ``(L,)`` which joint of the arm it is.
    """

    mounts: Float64
    parent: Ints
    turn: Float64
    shift: Float64
    axis: Float64
    kind: Ints
    column: Ints


class Shapes(NamedTuple):
    """Collision shapes of one arm, in their links' frames.

    Attributes:
        link: ``(S,)``.
        ends: ``(S, 2, 3)`` of the capsule's segment.
        centre: ``(S, 3)`` of the box.
        turn: ``(S, 3, 3)`` of the box.
        half: ``(S, 3)`` its half sides.
        far: ``(S + 1, C)`` most that a joint's unit moves any point of it; the last: the tool.
    """

    link: Ints
    ends: Float64
    centre: Float64
    turn: Float64
    half: Float64
    far: Float64


class Rows(NamedTuple):
    """What is watched: pairs, shapes above the table, tool points in a box, in that order.

    Attributes:
        first: ``(P,)`` a shape, counted over all arms.
        second: ``(P,)`` the other one.
        beyond: ``(P,)`` for a pair on one arm: first joint that moves one against the other.
        keep: ``(P,)`` what has to remain between their segments.
        over_table: ``(T,)`` shapes of each arm.
        table: What has to remain above the table.
        tool: Link of the tool point; -1: no box.
        box: ``(2, 3)`` its corners.
    """

    first: Ints
    second: Ints
    beyond: Ints
    keep: Float64
    over_table: Ints
    table: float
    tool: int
    box: Float64


@compiled
def place(tree: Tree, arm: int, q: Float64, rotation: Float64, origin: Float64, line: Float64,
          at: Float64) -> None:
    """Forward kinematics of one arm.

    Args:
        tree: The arms.
        arm: Which.
        q: ``(C,)`` its joints.
        rotation: ``(L, 3, 3)`` of the links, written.
        origin: ``(L, 3)`` of the links, written.
        line: ``(C, 3)`` axis of each joint, written; fingers slide along the last, either way.
        at: ``(C, 3)`` a point on those of joints that turn, written.
    """
    # Scalars only: numba compiles whole-array expressions several times as long.
    mounts, turn = tree.mounts, tree.turn
    for r in range(3):
        origin[0, r] = mounts[arm, r, 3]
        for c in range(3):
            rotation[0, r, c] = mounts[arm, r, c]
    offset, frame = np.empty(3), np.empty((3, 3))
    for i in range(1, len(tree.parent)):
        up, column = tree.parent[i], tree.column[i]
        x, y, z = tree.axis[i, 0], tree.axis[i, 1], tree.axis[i, 2]
        for r in range(3):
            offset[r] = tree.shift[i, r]
            if tree.kind[i] == SLIDES:
                offset[r] += q[column] * tree.axis[i, r]
        for r in range(3):
            origin[i, r] = origin[up, r]
            for c in range(3):
                origin[i, r] += rotation[up, r, c] * offset[c]
                frame[r, c] = (
                    rotation[up, r, 0] * turn[i, 0, c] + rotation[up, r, 1] * turn[i, 1, c]
                    + rotation[up, r, 2] * turn[i, 2, c])
        s = k = 0.0
        if tree.kind[i] == SLIDES:
            for r in range(3):
                line[column, r] = (
                    rotation[up, r, 0] * x + rotation[up, r, 1] * y + rotation[up, r, 2] * z)
        elif tree.kind[i] == TURNS:
            s, k = sin(q[column]), 1.0 - cos(q[column])
        for r in range(3):
            # A row times Rodrigues' matrix E + s [n] + k [n]^2.
            a, b, c0 = frame[r, 0], frame[r, 1], frame[r, 2]
            a1, b1, c1 = b * z - c0 * y, c0 * x - a * z, a * y - b * x
            rotation[i, r, 0] = a + s * a1 + k * (b1 * z - c1 * y)
            rotation[i, r, 1] = b + s * b1 + k * (c1 * x - a1 * z)
            rotation[i, r, 2] = c0 + s * c1 + k * (a1 * y - b1 * x)
            if tree.kind[i] == TURNS:
                line[column, r] = a * x + b * y + c0 * z
                at[column, r] = origin[i, r]


@compiled
def lever(line: Float64, at: Float64, j: int, px: float, py: float, pz: float) -> float:
    """Distance of a point from a joint's axis: how far it moves per unit of the joint."""
    x, y, z = px - at[j, 0], py - at[j, 1], pz - at[j, 2]
    a = line[j, 1] * z - line[j, 2] * y
    b = line[j, 2] * x - line[j, 0] * z
    c = line[j, 0] * y - line[j, 1] * x
    return sqrt(a * a + b * b + c * c)


@compiled
def distance(ends: Float64, one: int, other: int) -> float:
    """Between two of the segments ``(A S, 2, 3)``.

    Closest points as in Ericson, "Real-Time Collision Detection" (2005), section 5.1.9.
    """
    dd = ee = _TINY
    de = dr = er = 0.0
    for i in range(3):
        d, e = ends[one, 1, i] - ends[one, 0, i], ends[other, 1, i] - ends[other, 0, i]
        r = ends[one, 0, i] - ends[other, 0, i]
        dd += d * d
        ee += e * e
        de += d * e
        dr += d * r
        er += e * r
    s = min(max((de * er - dr * ee) / max(dd * ee - de * de, _TINY), 0.0), 1.0)
    t = min(max((de * s + er) / ee, 0.0), 1.0)
    s = min(max((de * t - dr) / dd, 0.0), 1.0)
    square = 0.0
    for i in range(3):
        gap = ((1.0 - s) * ends[one, 0, i] + s * ends[one, 1, i]
               - (1.0 - t) * ends[other, 0, i] - t * ends[other, 1, i])
        square += gap * gap
    return sqrt(square)


@compiled
def spread(levers: Float64, own: float, far: Float64, s: int, half: Float64, out: Float64,
           row: int) -> None:
    """How far something may move while joints stay within ``half`` of where they are.

    Args:
        levers: ``(C,)`` per unit of each joint, as the joints stand.
        own: 0.5 where a joint changes its own lever, because only part of its motion counts.
        far: ``(S + 1, C)`` the most they can be.
        s: Which shape it is.
        half: ``(C,)`` half widths.
        out: ``(..., C + 1)`` one row written: by the joints from each one on.
        row: Which.
    """
    size = len(levers)
    moved = tail = out[row, size] = 0.0
    for j in range(size - 1, -1, -1):
        moved += half[j] * (levers[j] + tail + own * half[j] * far[s, j])
        out[row, j] = moved
        tail += half[j] * far[s, j]


@compiled
def ends_of(shapes: Shapes, s: int, rotation: Float64, origin: Float64, out: Float64,
            row: int) -> None:
    """Where a shape's segment ends: written to a row of ``(A S, 2, 3)``."""
    link = shapes.link[s]
    for e in range(2):
        for r in range(3):
            out[row, e, r] = origin[link, r]
            for c in range(3):
                out[row, e, r] += rotation[link, r, c] * shapes.ends[s, e, c]


@compiled
def height(shapes: Shapes, s: int, rotation: Float64, origin: Float64, line: Float64,
           at: Float64, levers: Float64) -> float:
    """Of a shape's lowest corner; ``levers`` ``(C,)`` get how fast any corner rises or falls."""
    link, size = shapes.link[s], len(levers)
    side, point, down = np.empty((3, 3)), np.empty(3), 0.0
    for r in range(3):
        point[r] = origin[link, r]
        for c in range(3):
            point[r] += rotation[link, r, c] * shapes.centre[s, c]
            side[r, c] = 0.0
            for k in range(3):
                side[r, c] += rotation[link, r, k] * shapes.turn[s, k, c]
    for k in range(3):
        down += abs(side[2, k]) * shapes.half[s, k]
    for j in range(size):
        if shapes.far[s, j] == 0.0:
            levers[j] = 0.0
            continue
        if j == size - 1:
            levers[j] = abs(line[j, 2])
            continue
        x, y = line[j, 0], line[j, 1]  # the vertical part of n x r, for all corners
        levers[j] = abs(x * (point[1] - at[j, 1]) - y * (point[0] - at[j, 0]))
        for k in range(3):
            levers[j] += abs(x * side[1, k] - y * side[0, k]) * shapes.half[s, k]
    return float(point[2] - down)


@compiled
def rooms(low: Float64, high: Float64, tree: Tree, shapes: Shapes, rows: Rows,
          out: Float64) -> bool:
    """The least room of every row in a range of positions, or a lower bound of it.

    Args:
        low: ``(A C,)`` lower ends of the range.
        high: Its upper ends.
        tree: The arms.
        shapes: Of one of them.
        rows: What is watched.
        out: ``(P + A T [+ 6 A],)`` written.

    Returns:
        Whether there is room in every row.
    """
    arms, count, size = len(tree.mounts), len(shapes.link), shapes.far.shape[1]
    rotation, origin = np.empty((len(tree.parent), 3, 3)), np.empty((len(tree.parent), 3))
    line, at = np.zeros((size, 3)), np.zeros((size, 3))
    ends, moves = np.empty((arms * count, 2, 3)), np.empty((arms * count + 1, size + 1))
    levers, middle, half, last = np.empty(size), np.empty(size), np.empty(size), arms * count
    row = len(rows.first)
    box = row + arms * len(rows.over_table)
    for a in range(arms):
        for j in range(size):
            middle[j] = 0.5 * (low[a * size + j] + high[a * size + j])
            half[j] = 0.5 * (high[a * size + j] - low[a * size + j])
        place(tree, a, middle, rotation, origin, line, at)
        for s in range(count):
            i = a * count + s
            ends_of(shapes, s, rotation, origin, ends, i)
            for j in range(size):
                levers[j] = shapes.far[s, j]
                if levers[j] > 0.0 and j < size - 1:
                    # Largest at an end: the distance from a line is convex.
                    levers[j] = max(
                        lever(line, at, j, ends[i, 0, 0], ends[i, 0, 1], ends[i, 0, 2]),
                        lever(line, at, j, ends[i, 1, 0], ends[i, 1, 1], ends[i, 1, 2]))
            spread(levers, 0.0, shapes.far, s, half, moves, i)
        for k in range(len(rows.over_table)):
            s = rows.over_table[k]
            out[row] = height(shapes, s, rotation, origin, line, at, levers) - rows.table
            spread(levers, 0.5, shapes.far, s, half, moves, last)
            out[row] -= moves[last, 0]
            row += 1
        if rows.tool >= 0:
            t = rows.tool
            for j in range(size):
                levers[j] = shapes.far[count, j]
                if levers[j] > 0.0:
                    levers[j] = lever(line, at, j, origin[t, 0], origin[t, 1], origin[t, 2])
            spread(levers, 0.0, shapes.far, count, half, moves, last)
            for r in range(3):
                out[box] = origin[t, r] - rows.box[0, r] - moves[last, 0]
                out[box + 1] = rows.box[1, r] - origin[t, r] - moves[last, 0]
                box += 2
    for i in range(len(rows.first)):
        a, b = rows.first[i], rows.second[i]
        gap = distance(ends, a, b) - rows.keep[i] - moves[a, rows.beyond[i]]
        out[i] = gap if a // count == b // count else gap - moves[b, 0]
    free = True
    for i in range(len(out)):
        free = free and out[i] >= 0.0
    return free
