"""Joins streams that arrive apart (joint states, object poses, pictures) into observations.

To joint states of time ``t`` belongs the newest pose, and the newest picture of each camera, that
is not newer than ``t`` while it is not too old: that is how recorded streams are aligned, too. A
stream that comes in step with the joint states (a simulator's, with the very same stamps) is
waited for, so that no message that arrives a little late replaces one by the one before.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Generic, TypeVar

from il_robot.types import Float32, Observation, UInt8

T = TypeVar('T')

# Stamps this close are equal: they went through messages of whole nanoseconds [s].
_SAME = 1e-9
# Enough to find what belongs to joint states which arrive late.
_KEPT = 16
# Stamps that jump back by more than this come from a robot that started anew [s].
_RESTART = 1.0
# A stream is in step when as many of its newest stamps are those of successive joint states:
# two can be so by chance, of a camera that is a little slower than the control.
_IN_STEP = 3


class _Stream(Generic[T]):
    """The newest messages of one topic."""

    def __init__(self, max_age: float) -> None:
        self._max_age = max_age
        self._kept: deque[tuple[float, T]] = deque(maxlen=_KEPT)

    def put(self, stamp: float, value: T) -> None:
        """Take a message."""
        if self._kept and stamp < self._kept[-1][0] - _RESTART:
            self._kept.clear()
        self._kept.append((stamp, value))

    def find(self, stamp: float, before: Sequence[float]) -> T | None:
        """What belongs to joint states of ``stamp``, which came after those of ``before``."""
        known = sorted((k for k in self._kept if k[0] <= stamp + _SAME), key=lambda k: k[0])
        if not known:
            return None
        newest, value = known[-1]
        if newest > stamp - _SAME:
            return value
        pairs = list(zip(reversed(known[-_IN_STEP:]), reversed(before)))
        in_step = bool(pairs) and all(abs(k[0] - b) < _SAME for k, b in pairs)
        return None if in_step or newest < stamp - self._max_age else value


class ObservationAssembler:
    """Puts observations together; see the module. No clock and no lock.

    Args:
        objects: Names of the objects an observation needs.
        period: Control period [s]; joint states that come faster are thinned to it.
        max_age: Oldest pose that counts [s].
        cameras: Names of the cameras an observation needs.
        max_image_age: Oldest picture that counts [s].
    """

    def __init__(
        self, objects: Sequence[str], *, period: float, max_age: float,
        cameras: Sequence[str] = (), max_image_age: float = 0.2,
    ) -> None:
        self._period = period
        self._poses: dict[str, _Stream[Float32]] = {name: _Stream(max_age) for name in objects}
        self._pictures: dict[str, _Stream[UInt8]] = {
            name: _Stream(max_image_age) for name in cameras}
        self._start()

    def _start(self) -> None:
        self._pending: tuple[float, Float32] | None = None
        self._taken = self._newest = float('-inf')
        self._before: deque[float] = deque(maxlen=_IN_STEP)

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
        self._before.append(self._newest)
        self._newest = stamp
        if stamp - self._taken > 0.9 * self._period:
            self._pending = (stamp, state)
        return ''

    def put_object(self, name: str, stamp: float, pose: Float32) -> None:
        """Take the pose ``(7,)`` of an object."""
        self._poses[name].put(stamp, pose)

    def put_image(self, name: str, stamp: float, picture: UInt8) -> None:
        """Take a picture ``(H, W, 3)`` of a camera."""
        self._pictures[name].put(stamp, picture)

    def take(self) -> Observation | None:
        """The observation of the newest joint states, once; None while it is incomplete."""
        if self._pending is None:
            return None
        stamp, state = self._pending
        objects, images = self._found(self._poses, stamp), self._found(self._pictures, stamp)
        if len(objects) < len(self._poses) or len(images) < len(self._pictures):
            return None
        self._pending, self._taken = None, stamp
        return Observation(stamp, state, objects, images)

    def missing(self) -> tuple[str, ...]:
        """Objects whose pose keeps the newest joint states waiting."""
        return self._missing(self._poses)

    def missing_cameras(self) -> tuple[str, ...]:
        """Cameras whose picture keeps the newest joint states waiting."""
        return self._missing(self._pictures)

    def _missing(self, streams: Mapping[str, _Stream[T]]) -> tuple[str, ...]:
        if self._pending is None:
            return ()
        found = self._found(streams, self._pending[0])
        return tuple(name for name in streams if name not in found)

    def _found(self, streams: Mapping[str, _Stream[T]], stamp: float) -> dict[str, T]:
        found = {name: stream.find(stamp, self._before) for name, stream in streams.items()}
        return {name: value for name, value in found.items() if value is not None}
