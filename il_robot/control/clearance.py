"""Distances between arms, to the table and to the edges of a box, for whole ranges of joints.

A *range* is a middle ``m`` and half widths ``w`` of all joints: everything a robot may pass on its
way to rest. A point of a shape moves by ``l_j`` per unit of joint ``j``, its distance from the
joint's axis at ``m``, which the joints ``k`` behind change by at most ``f_k w_k``, where ``f_k``
is the largest ``l_k`` of any posture. So in the whole range no distance is less than the one at
``m`` minus ``sum_j w_j (l_j + sum_k>j f_k w_k)``. Above the table ``l_j`` is the vertical part
alone, which the joint itself changes as well: ``f_j w_j^2 / 2`` more. A range inside another one
never has less room by this bound (for the distance alone half of the second term would do), which
is what makes the gate's braking always admissible (docs/safety.md).

Between shapes of arms distances are those of their capsules; above the table they are those of
the boxes themselves. Not watched: base and shoulder against the table, and links of one arm other
than a hand against its own base, shoulder and upper arm.
"""

from __future__ import annotations

import numpy as np

from il_robot.control.body import Body
from il_robot.control.clearance_kernel import Rows, rooms
from il_robot.control.compiled import warm
from il_robot.errors import SpecError
from il_robot.types import Float64


class Clearances:
    """What is watched of one robot, and how much room is left.

    Args:
        body: The arms.

    Attributes:
        names: What each row watches, in words.
        arms: ``(A, D)`` the joints of each arm.
        moves: ``(R, D)`` the joints of the arms that a row is about.
    """

    def __init__(self, body: Body) -> None:
        spec, links = body.spec, body.shape_links
        self._body, wanted, box = body, spec.safety.clearance, spec.safety.workspace
        count = len(body.shapes)
        moved = body.moved[links]
        self._hand, self._finger = moved[:, :len(spec.joints)].all(1), moved[:, -1]
        held = np.where(self._finger, wanted.held, 0.0)
        radius = np.array([s.radius for s in body.shapes]) + held
        self.names: list[str] = []
        about: list[tuple[int, ...]] = []  # the arms
        first, second, beyond, keep = [], [], [], []
        for a, one in enumerate(spec.arms):
            for b in range(a, len(spec.arms)):
                for i, k in np.ndindex(count, count):
                    margin = self._margin(a == b, i, k)
                    if margin is None:
                        continue
                    first.append(a * count + i)
                    second.append(b * count + k)
                    # What moves both moves neither against the other.
                    beyond.append(int(body.moved[links[k]].sum()) if a == b else 0)
                    keep.append(radius[i] + radius[k] + margin)
                    about.append((a, b))
                    self.names.append(f'{one.prefix}{body.shapes[i].link} - '
                                      f'{spec.arms[b].prefix}{body.shapes[k].link}')
        over_table = np.flatnonzero(body.moved[links].sum(axis=1) > 1)
        for a, arm in enumerate(spec.arms):
            about += [(a,)] * len(over_table)
            self.names += [f'{arm.prefix}{body.shapes[i].link} - table' for i in over_table]
        tool = body.tool if box is not None else -1
        if box is not None:
            if tool < 0:
                raise SpecError(f'{spec.name}: safety.workspace needs to know the tool point: '
                                f'name its link in safety.model.tool, one of {body.links}')
            about += [(a,) for a in range(len(spec.arms)) for _ in range(6)]
            self.names += [f'workspace {arm.name}' for arm in spec.arms for _ in range(6)]
        corners = np.array([box.lower, box.upper] if box is not None else np.zeros((2, 3)))
        self._tree, self._shapes = body.tree(), body.shape_arrays(max(tool, 0), held)
        self._rows = Rows(
            np.array(first, np.int64), np.array(second, np.int64), np.array(beyond, np.int64),
            np.array(keep, float), over_table, wanted.table, tool, corners)
        self.arms = np.zeros((len(spec.arms), spec.dim), bool)
        for own, arm in zip(self.arms, spec.arms):
            own[spec.arm_slice(arm.name)] = True
        self.moves = np.array([self.arms[list(who)].any(axis=0) for who in about])
        warm(lambda: self.exact(spec.rest.astype(np.float64)))  # now and not on the way

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

    # -- how much room ----------------------------------------------------------------------
    def exact(self, position: Float64) -> Float64:
        """Room of every row ``(R,)`` at one position ``(D,)`` [m]."""
        return self.rooms(position, position)

    def rooms(self, low: Float64, high: Float64) -> Float64:
        """Room of every row ``(R,)`` in a range of positions, or a lower bound of it [m].

        Args:
            low: ``(D,)`` the range's lower ends [rad, m].
            high: Its upper ends.

        Returns:
            Room beyond what is to be kept, negative where that is not so.
        """
        out = np.empty(len(self.names))
        rooms(low, high, self._tree, self._shapes, self._rows, out)
        return out

    def free(self, low: Float64, high: Float64) -> bool:
        """Whether there is room in every row of :meth:`rooms`."""
        out = np.empty(len(self.names))
        return bool(rooms(low, high, self._tree, self._shapes, self._rows, out))
