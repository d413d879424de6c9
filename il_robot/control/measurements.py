"""What the drivers measure, joined into one state of the robot; silence and jumps are noticed.

Joint states come on one or more topics, in any order, with joints that are none of ours. They are
matched by name, converted to our units and kept per joint. Two clocks are passed in: ``now`` never
steps (silence, jumps), ``stamp`` is ROS time (what the state is stamped with).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from il_robot.types import Float64
from il_robot.wiring import Wiring

# A driver's stamp further off our clock than this is replaced by the time of arrival [s].
CLOCK_TOLERANCE = 0.1
# How far beyond its velocity limit a joint may have moved between two measurements.
_FASTER = 3.0


@dataclass(frozen=True)
class State:
    """One state of the whole robot, in vector order and our units; NaN where nothing is known."""

    stamp: float
    position: Float64
    velocity: Float64
    effort: Float64


class Measurements:
    """Keeps the newest measurement of every joint. No clock and no lock.

    Args:
        wiring: Names, conversion and limits.
        period: States are given out at most this often [s].
        jump_margin: See :class:`il_robot.hardware_spec.HardwareSpec` [rad].

    Attributes:
        position: ``(D,)`` newest positions [rad, m]; NaN before the first.
        arrival: ``(D,)`` when each was measured, on the clock ``now`` [s].
        counts: ``(D,)`` measurements since :meth:`count_from`.
        messages: Messages per source since then.
        extras: Driver's names seen per source that are none of ours.
        skew: Smallest difference of our clock and a source's stamps since then [s].
    """

    def __init__(self, wiring: Wiring, period: float, jump_margin: float) -> None:
        size = len(wiring.joints)
        self._wiring, self._period, self._margin = wiring, period, jump_margin
        self._gain = np.array([j.gain for j in wiring.joints])
        self._offset = np.array([j.offset for j in wiring.joints])
        self._speed = np.array(
            [np.inf if j.gripper else _FASTER * j.velocity for j in wiring.joints])
        self._timeout, self._spacing = np.empty(size), np.empty(size)
        for source in wiring.sources:
            self._timeout[list(source.joints)] = source.timeout
            self._spacing[list(source.joints)] = 1.0 / source.min_rate
        self.position, self._velocity, self._effort = np.full((3, size), np.nan)
        self.arrival = np.full(size, -np.inf)
        self._stamp = -np.inf
        self._due = -np.inf
        self._given = -np.inf
        self._jump = ''
        self.extras: list[set[str]] = [set() for _ in wiring.sources]
        self._orders: dict[tuple[int, tuple[str, ...]], tuple[list[int], list[int]]] = {}
        self.count_from(0.0)

    def count_from(self, now: float) -> None:
        """Count anew from ``now`` on, for :meth:`rates`."""
        self.counts = np.zeros(len(self._wiring.joints), int)
        self.messages = [0 for _ in self._wiring.sources]
        self.skew = [np.inf for _ in self._wiring.sources]
        self._since = now

    def rates(self, now: float) -> Float64:
        """``(D,)`` measurements per second since :meth:`count_from` [Hz]."""
        return self.counts / max(now - self._since, 1e-9)

    def put(
        self, source: int, names: Sequence[str], position: Sequence[float],
        velocity: Sequence[float], effort: Sequence[float], *,
        stamp: float, clock: float, now: float,
    ) -> str:
        """Take one message.

        Args:
            source: Index in ``wiring.sources``.
            names: The driver's joint names, in any order.
            position: As many positions, in the driver's units.
            velocity: As many, or none.
            effort: As many, or none.
            stamp: Of the message [s of ROS time].
            clock: ROS time now [s].
            now: Time that never steps [s].

        Returns:
            What is wrong with it, or an empty string. A message with a number missing or not
            finite is ignored.
        """
        topic = self._wiring.sources[source].topic
        if len(position) != len(names):
            return f'{topic}: {len(names)} names but {len(position)} positions'
        ours, theirs = self._order(source, names)
        self.messages[source] += 1
        if not ours:
            return ''
        gain = self._gain[ours]
        measured = gain * np.asarray(position, float)[theirs] + self._offset[ours]
        if not np.isfinite(measured).all():
            bad = [names[t] for t, m in zip(theirs, measured) if not np.isfinite(m)]
            return f'{topic}: position of {", ".join(bad)} is not a finite number'
        jumped = self._jumped(ours, measured, now)
        self.position[ours] = measured
        if len(velocity) == len(names):
            self._velocity[ours] = gain * np.asarray(velocity, float)[theirs]
        if len(effort) == len(names):
            # Power is the same in both units.
            self._effort[ours] = np.asarray(effort, float)[theirs] / gain
        self.arrival[ours] = now
        self.counts[ours] += 1
        self.skew[source] = min(self.skew[source], clock - stamp, key=abs)
        shared = abs(clock - stamp) <= CLOCK_TOLERANCE
        self._stamp = max(self._stamp, stamp if shared else clock)
        self._jump = jumped or self._jump
        return jumped

    def _order(self, source: int, names: Sequence[str]) -> tuple[list[int], list[int]]:
        """Vector indices of the joints in a message, and where they stand in it."""
        key = source, tuple(names)
        if key not in self._orders:
            joints = self._wiring.joints
            index = {joints[i].driver: i for i in self._wiring.sources[source].joints}
            where = [i for i, name in enumerate(names) if name in index]
            shared = {
                joints[i].driver for s in self._wiring.sources
                if s.topic == self._wiring.sources[source].topic for i in s.joints}
            self.extras[source] |= set(names) - shared
            if len(self._orders) > 100:
                self._orders.clear()
            self._orders[key] = [index[names[i]] for i in where], where
        return self._orders[key]

    def _jumped(self, ours: list[int], measured: Float64, now: float) -> str:
        elapsed = np.maximum(now - self.arrival[ours], self._spacing[ours])
        step = np.abs(measured - self.position[ours])
        far = step > self._margin + self._speed[ours] * elapsed
        return 'jump of the measured position: ' + ', '.join(
            f'{self._wiring.joints[i].name} by {d:.3f}'
            for i, d in zip(np.array(ours)[far], step[far])) if far.any() else ''

    def fault(self, now: float) -> str:
        """Why the arms must not be moved now, or an empty string; a jump stays until accepted."""
        late = np.flatnonzero(now - self.arrival > self._timeout)
        if not late.size:
            return self._jump
        topics = [s.topic for s in self._wiring.sources if set(s.joints) & set(late.tolist())]
        age = float((now - self.arrival[late]).max())
        since = f'for {age:.2f} s' if np.isfinite(age) else 'yet'
        return f'no joint states on {", ".join(topics)} {since}'

    def accept(self) -> None:
        """Take the present position for the true one, after a jump."""
        self._jump = ''

    @property
    def stamp(self) -> float:
        """Of the newest measurement [s of ROS time]; -inf before the first."""
        return self._stamp

    def take(self, now: float) -> State | None:
        """The state, when all joints are sound and one is due; each is given out once."""
        slack = 0.1 * self._period
        if self._stamp < self._due - slack or self._stamp <= self._given or self.fault(now):
            return None
        # On a grid where the measurements allow it; after a gap from here on.
        late = self._stamp - self._due > self._period
        self._due = (self._stamp if late else self._due) + self._period
        self._given = self._stamp
        return State(
            self._stamp, self.position.copy(), self._velocity.copy(), self._effort.copy())
