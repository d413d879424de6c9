"""Set-points between commands: a path through the targets, slow at first, never too fast.

Commands come at the control rate, set-points leave faster. A target is to be reached ``lookahead``
after it arrived; in between the path is straight. What is sent follows the path with at most the
velocity limit, stays inside the position limits, and does not run further ahead of the measured
arm than ``max_lead``. The way to the first target is a straight line in joint space, slow enough
for every joint. Grippers are free of the last two rules: a closed hand stops at the part.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np

from il_robot.types import Float64
from il_robot.wiring import WiredJoint

# The first target is reached when no joint is further off than it moves in so long, slowly [s].
_REACHED = 0.05
# Rows beyond the path's end: a late message must not find its trajectory over.
_SPARE = 2


class Setpoints:
    """The set-points of all joints, in vector order and our units. No clock.

    Args:
        joints: Limits.
        period: Time between two set-points [s].
        lookahead: See the module [s].
        start_speed: Part of the velocity limits until the first target is reached.
        max_lead: See the module [rad].

    Attributes:
        starting: Still on the way to the first target.
        leading: Names of joints that were held back because the arm does not follow.
    """

    def __init__(
        self, joints: Sequence[WiredJoint], *, period: float, lookahead: float,
        start_speed: float, max_lead: float,
    ) -> None:
        self._names = [j.name for j in joints]
        self._lower = np.array([j.lower for j in joints])
        self._upper = np.array([j.upper for j in joints])
        self._speed = np.array([j.velocity for j in joints])
        self._gripper = np.array([j.gripper for j in joints])
        self._lead = np.where(self._gripper, np.inf, max_lead)
        self._period, self._lookahead = period, lookahead
        self._start_speed = start_speed
        self.ahead = round(lookahead / period) + _SPARE
        self._knots: deque[tuple[float, Float64]] = deque()
        self._sent: Float64 | None = None
        self._time = 0.0
        self.starting = False
        self._aimless = True  # no target since start or freeze
        self.leading: tuple[str, ...] = ()

    @property
    def active(self) -> bool:
        """Whether there is anything to send."""
        return bool(self._knots)

    def start(self, measured: Float64, now: float) -> None:
        """Begin where the arms are, at the slow speed; from outside the limits back into them.

        A gripper keeps its last set-point: the measured width would let go of the part.
        """
        at = measured if self._sent is None else np.where(self._gripper, self._sent, measured)
        self._sent, self._time = at.copy(), now
        self._knots = deque([(now, self._sent)])
        self.starting, self._aimless, self.leading = True, True, ()

    def stop(self) -> None:
        """Send nothing until the next :meth:`start`."""
        self._knots.clear()

    def target(self, position: Float64, now: float) -> None:
        """A new target ``(D,)``, to be reached ``lookahead`` from now."""
        target = np.clip(position, self._lower, self._upper)
        due, last = self._knots[-1]
        if due < now:
            self._knots.append((now, last))
        self._knots.append((max(now + self._lookahead, self._knots[-1][0] + 1e-6), target))
        self._aimless = False

    def freeze(self, now: float) -> None:
        """Stay at the set-point sent last; the next target is approached slowly again."""
        assert self._sent is not None
        self._knots = deque([(now, self._sent)])
        self.starting = self._aimless = True

    @property
    def goal(self) -> Float64:
        """The newest target ``(D,)``."""
        return self._knots[-1][1]

    def advance(self, measured: Float64, now: float) -> Float64:
        """The set-points from now on.

        Args:
            measured: ``(D,)`` where the joints are.
            now: Time [s], increasing from call to call.

        Returns:
            ``(1 + ahead, D)``: what holds now, then one row per period ahead.
        """
        assert self._sent is not None
        # After a stall of the caller the arms must not make up for it at once.
        elapsed = min(max(now - self._time, 0.0), 3 * self._period)
        self._time = now
        while len(self._knots) > 1 and self._knots[1][0] <= now:
            self._knots.popleft()
        low, high = measured - self._lead, measured + self._lead
        free = self._toward(self._path(now), self._sent, elapsed)
        self._sent = np.clip(free, low, high)
        self.leading = tuple(
            self._names[i] for i in np.flatnonzero(np.abs(free - self._sent) > 1e-9))
        rows = [self._sent]
        for k in range(1, self.ahead + 1):
            row = self._toward(self._path(now + k * self._period), rows[-1], self._period)
            rows.append(np.clip(row, low, high))
        near = np.abs(self.goal - self._sent) <= _REACHED * self._start_speed * self._speed
        self.starting &= self._aimless or not (near | self._gripper).all()
        return np.array(rows)

    def _toward(self, target: Float64, at: Float64, elapsed: float) -> Float64:
        """One step from ``at`` to ``target``, as far as the speed allows."""
        step = self._speed * elapsed
        way = target - at
        if self.starting:
            distance = np.abs(np.where(self._gripper, 0.0, way))
            part = self._start_speed * step / np.maximum(distance, 1e-12)
            way = np.where(self._gripper, way, way * min(1.0, float(part.min())))
        return at + np.clip(way, -step, step)

    def _path(self, when: float) -> Float64:
        """Where the path is at that time."""
        before, at = self._knots[0]
        for due, position in self._knots:
            if when < due:
                part = (when - before) / (due - before) if due > before else 1.0
                return at + max(part, 0.0) * (position - at)
            before, at = due, position
        return at
