"""Keeps a simulation at the pace of the wall clock without drift; the clock is passed in."""

from __future__ import annotations

import numpy as np

from il_robot.types import Float32


class Pacer:
    """Tells how many ticks are due.

    A late call makes up for what it missed, up to ``most`` ticks; a longer gap (a suspended
    machine, a world slower than the wall) is given up instead of being rushed through.

    Args:
        period: Wall time per tick [s].
        now: Time of the first tick's start [s].
        most: Most ticks made up for at once.

    Attributes:
        lost: Ticks given up so far.
    """

    def __init__(self, period: float, now: float, most: int = 3) -> None:
        if period <= 0 or most < 1:
            raise ValueError(f'period must be > 0 and most >= 1, got {period} and {most}')
        self._most = most
        self.lost = 0
        self.restart(period, now)

    def restart(self, period: float, now: float) -> None:
        """Count from ``now`` on, for example after a pause or at another pace."""
        self._period, self._start, self._done = period, now, 0

    def due(self, now: float) -> int:
        """Ticks to run now; they count as done."""
        due = int((now - self._start) / self._period) - self._done
        if due > self._most:
            self.lost += due - self._most
            self._start += (due - self._most) * self._period
            due = self._most
        due = max(due, 0)
        self._done += due
        return due


class Restraint:
    """Keeps a world that could run faster at the pace of the wall while nothing happens.

    In lockstep, arms that only hold would otherwise keep all cores busy, beside which a policy
    trains several times slower. What happens does not depend on it, only when.

    Args:
        period: Wall time per tick then [s].
        after: Equal commands in a row from which on nothing happens.
    """

    def __init__(self, period: float, after: int) -> None:
        self._period, self._after = period, after
        self._command: Float32 | None = None
        self._same, self._ticked = 0, -np.inf

    def allows(self, command: Float32, now: float) -> bool:
        """Whether to tick with this command ``(D,)`` now [s]; else it is to be asked again."""
        if self._command is None or not np.array_equal(command, self._command):
            self._command, self._same = command.copy(), 0
        elif self._same >= self._after and now < self._ticked + self._period:
            return False
        self._same += 1
        self._ticked = now
        return True
