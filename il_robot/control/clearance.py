"""Distances between arms, to the table and to the edges of a box, for whole ranges of joints.

A *range* is a middle ``m`` and half widths ``w`` of all joints: everything a robot may pass on its
way to rest. A point of a shape moves by at most ``l_j`` per unit of joint ``j``, so in the whole
range no distance is less than the one at ``m`` minus ``sum_j l_j w_j`` (a Lipschitz bound). The
same bound says how long an exact evaluation remains good enough: it is repeated only when the
bound could be used up. A range inside another one never has less slack, which is what makes the
gate's braking always admissible (docs/safety.md).

Between shapes of arms distances are those of their capsules; above the table they are those of
the boxes themselves. Not watched: base and shoulder against the table, and links of one arm other
than a hand against its own base, shoulder and upper arm.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from il_robot.control.body import Body
from il_robot.types import Float64

_TINY = 1e-12


class Clearances:
    """What is watched of one robot, and how much room is left.

    Args:
        body: The arms.

    Attributes:
        names: What each row watches, in words.
        evaluations: Exact ones so far.
    """

    def __init__(self, body: Body) -> None:
        self._body, spec = body, body.spec
        wanted, self._size = spec.safety.clearance, len(spec.joints) + 1
        self._shapes = len(body.shapes)
        self._ends = np.array([s.ends.T for s in body.shapes])  # (S, 3, 2)
        hand = {i for i, name in enumerate(body.links)
                if body.moved[i, :len(spec.joints)].all()}
        self._hand = [int(link) in hand for link in body.shape_links]
        self._finger = [bool(body.moved[link, -1]) for link in body.shape_links]
        radius = [s.radius + (wanted.held * f) for s, f in zip(body.shapes, self._finger)]
        self.names: list[str] = []
        first, second, room, levers = [], [], [], []
        for a, one in enumerate(spec.arms):
            for b in range(a, len(spec.arms)):
                for i in range(self._shapes):
                    for k in range(self._shapes):
                        margin = self._margin(a == b, i, k)
                        if margin is None:
                            continue
                        first.append(a * self._shapes + i)
                        second.append(b * self._shapes + k)
                        room.append(radius[i] + radius[k] + margin)
                        row = self._lever(a, i)
                        if a == b:  # what moves both moves neither against the other
                            row = row * ~self._moves(a, k)
                        else:
                            row = row + self._lever(b, k)
                        levers.append(row)
                        self.names.append(
                            f'{one.prefix}{body.shapes[i].link} - '
                            f'{spec.arms[b].prefix}{body.shapes[k].link}')
        self._pairs = len(first)
        self._first, self._second, self._room = np.array(first), np.array(second), np.array(room)
        self._over_table = [
            i for i, link in enumerate(body.shape_links) if body.moved[link].sum() > 1]
        for a, arm in enumerate(spec.arms):
            for i in self._over_table:
                levers.append(self._lever(a, i))
                self.names.append(f'{arm.prefix}{body.shapes[i].link} - table')
        self._table = wanted.table
        self._half = np.array([body.shapes[i].half for i in self._over_table])
        self._turn = np.array([body.shapes[i].rotation for i in self._over_table])
        self._centre = np.array([body.shapes[i].centre for i in self._over_table])
        self._table_links = body.shape_links[self._over_table]
        self._box = spec.safety.workspace
        if self._box is not None:
            self._tool = body.links.index('eef')
            for a, arm in enumerate(spec.arms):
                levers += [self._lever(a, self._shapes + self._tool)] * 6
                self.names += [f'workspace {arm.name}'] * 6
        self._levers = np.array(levers)
        self.evaluations = 0
        self._at: Float64 | None = None
        self._slack = np.zeros(len(levers))

    def _margin(self, same: bool, i: int, k: int) -> float | None:
        """What is kept between two shapes [m]; None: they are not watched."""
        wanted, body = self._body.spec.safety.clearance, self._body
        if same:
            near = body.moved[body.shape_links[k]].sum() <= 2
            return wanted.own if self._hand[i] and near else None
        fixed = [not body.moved[body.shape_links[s]].any() for s in (i, k)]
        if all(fixed):
            return None
        if self._hand[i] and self._hand[k] and self._finger[i] and self._finger[k]:
            return wanted.fingers
        return wanted.hands if self._hand[i] and self._hand[k] else wanted.links

    def _lever(self, arm: int, row: int) -> Float64:
        out = np.zeros(self._body.spec.dim)
        out[arm * self._size:(arm + 1) * self._size] = self._body.levers[row]
        return out

    def _moves(self, arm: int, shape: int) -> NDArray[np.bool_]:
        out = np.zeros(self._body.spec.dim, bool)
        out[arm * self._size:(arm + 1) * self._size] = self._body.moved[
            self._body.shape_links[shape]]
        return out

    # -- how much room ----------------------------------------------------------------------
    def slack(self, low: Float64, high: Float64) -> tuple[float, str]:
        """The least room in a range of positions, a lower bound where there is plenty.

        Args:
            low: ``(D,)`` its lower ends [rad, m].
            high: Its upper ends.

        Returns:
            Room beyond what is to be kept [m], negative where that is not so; and of what.
        """
        middle, half = 0.5 * (low + high), 0.5 * (high - low)
        if self._at is not None:
            bound = self._slack - self._levers @ (np.abs(middle - self._at) + half)
            least = bound.min()
            if least >= 0.0:
                return float(least), ''
        self._slack, self._at = self.exact(middle), middle
        bound = self._slack - self._levers @ half
        worst = int(bound.argmin())
        return float(bound[worst]), self.names[worst]

    def exact(self, position: Float64) -> Float64:
        """Room of every row ``(R,)`` at one position ``(D,)`` [m]."""
        self.evaluations += 1
        body = self._body
        rotations, origins = body.frames(position)
        links = body.shape_links
        ends = rotations[:, links] @ self._ends + origins[:, links, :, None]
        ends = ends.reshape(-1, 3, 2)
        parts = [_distances(ends[self._first], ends[self._second]) - self._room]
        # Height of a box: that of its centre less what its half sides reach down.
        up = rotations[:, self._table_links, 2]  # (A, T, 3)
        middle = (up * self._centre).sum(-1) + origins[:, self._table_links, 2]
        down = np.abs((up[:, :, None, :] @ self._turn)[:, :, 0]) * self._half
        parts.append((middle - down.sum(-1) - self._table).ravel())
        if self._box is not None:
            tool = origins[:, self._tool]
            parts.append(np.concatenate(
                [tool - self._box.lower, np.subtract(self._box.upper, tool)], 1).ravel())
        return np.concatenate(parts)


def _distances(one: Float64, other: Float64) -> Float64:
    """Distances ``(P,)`` of segments given by their ends ``(P, 3, 2)``.

    Closest points as in Ericson, "Real-Time Collision Detection" (2005), section 5.1.9.
    """
    p, q = one[:, :, 0], other[:, :, 0]
    d, e = one[:, :, 1] - p, other[:, :, 1] - q
    r = p - q
    dd = np.einsum('ij,ij->i', d, d) + _TINY
    ee = np.einsum('ij,ij->i', e, e) + _TINY
    de, dr, er = (np.einsum('ij,ij->i', x, y) for x, y in ((d, e), (d, r), (e, r)))
    s = np.clip((de * er - dr * ee) / np.maximum(dd * ee - de * de, _TINY), 0.0, 1.0)
    t = np.clip((de * s + er) / ee, 0.0, 1.0)
    s = np.clip((de * t - dr) / dd, 0.0, 1.0)
    gap = r + s[:, None] * d - t[:, None] * e
    distances: Float64 = np.sqrt(np.einsum('ij,ij->i', gap, gap))
    return distances
