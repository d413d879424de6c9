"""Keeps a simulation at the pace of the wall clock without drift; the clock is passed in."""

from __future__ import annotations


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
