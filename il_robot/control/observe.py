"""Joins streams that arrive apart (joint states, object poses) into observations.

To joint states of time ``t`` belongs the newest pose that is not newer than ``t`` while it is
not too old: that is how recorded streams are aligned, too. A stream that comes in step with the
joint states (a simulator's, with the very same stamps) is waited for, so that no message that
arrives a little late replaces a pose by the one before.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from il_robot.types import Float32, Observation

# Stamps this close are equal: they went through messages of whole nanoseconds [s].
_SAME = 1e-9
# Enough to find the pose that belongs to joint states which arrive late.
_KEPT = 16
# Stamps that jump back by more than this come from a robot that started anew [s].
_RESTART = 1.0


class ObservationAssembler:
    """Puts observations together; see the module. No clock and no lock.

    Args:
        objects: Names of the objects an observation needs.
        period: Control period [s]; joint states that come faster are thinned to it.
        max_age: Oldest pose that counts [s].
    """

    def __init__(self, objects: Sequence[str], *, period: float, max_age: float) -> None:
        self._period, self._max_age = period, max_age
        self._poses: dict[str, deque[tuple[float, Float32]]] = {
            name: deque(maxlen=_KEPT) for name in objects}
        self._start()

    def _start(self) -> None:
        self._pending: tuple[float, Float32] | None = None
        self._taken = self._newest = self._before = float('-inf')

    def put_state(self, stamp: float, state: Float32) -> str:
        """Take measured joints ``(D,)`` [rad, m].

        Returns:
            Why they were not taken, or an empty string. States that come faster than the
            control period are thinned silently; stamps that jump far back start anew.
        """
        if stamp < self._newest - _RESTART:
            self._start()
        elif stamp <= self._newest:
            return f'stamp {stamp:.9f} s is not newer than the last, {self._newest:.9f} s'
        self._before, self._newest = self._newest, stamp
        if stamp - self._taken > 0.9 * self._period:
            self._pending = (stamp, state)
        return ''

    def put_object(self, name: str, stamp: float, pose: Float32) -> None:
        """Take the pose ``(7,)`` of an object."""
        poses = self._poses[name]
        if poses and stamp < poses[-1][0] - _RESTART:
            poses.clear()
        poses.append((stamp, pose))

    def take(self) -> Observation | None:
        """The observation of the newest joint states, once; None while it is incomplete."""
        if self._pending is None:
            return None
        stamp, state = self._pending
        objects = {}
        for name in self._poses:
            found = self._find(name, stamp)
            if found is None:
                return None
            objects[name] = found
        self._pending, self._taken = None, stamp
        return Observation(stamp, state, objects)

    def missing(self) -> tuple[str, ...]:
        """Objects whose pose keeps the newest joint states waiting."""
        if self._pending is None:
            return ()
        stamp = self._pending[0]
        return tuple(name for name in self._poses if self._find(name, stamp) is None)

    def _find(self, name: str, stamp: float) -> Float32 | None:
        known = [p for p in self._poses[name] if p[0] <= stamp + _SAME]
        if not known:
            return None
        newest, pose = max(known, key=lambda p: p[0])
        if newest > stamp - _SAME:
            return pose
        in_step = abs(newest - self._before) < _SAME
        return None if in_step or newest < stamp - self._max_age else pose
