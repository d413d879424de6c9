"""Who answers an observation soon enough to be waited for.

In real time a command leaves for every observation, whoever is late. But a source that answers
each observation within a few milliseconds is worth those milliseconds: without them its answer
would be executed with the next observation, one control period late.

A source that was waited for in vain must be quick more often before it is waited for again,
four times as often each time: one that answers the command instead of the observation, or is slow
now and then, costs next to nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from il_robot.types import Source

# Stamps this close are equal: they went through messages of whole nanoseconds [s].
_SAME = 1e-9
# Quick answers in a row that are asked for, at first and at most; so many good waits clear the
# record.
_FIRST, _MOST, _CLEARED = 4, 512, 50


@dataclass
class _Record:
    """Quick answers in a row, how many are asked for, and waits in a row that were worth it."""

    quick: int = 0
    asked: int = _FIRST
    good: int = 0


class Punctuality:
    """Remembers how quickly the sources answered; see the module. No clock.

    Args:
        patience: Longest wait for an answer [s]; 0: nobody is waited for.
    """

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._stamp = self._seen = float('-inf')
        self._records: dict[Source, _Record] = {}
        self._answered: set[Source] = set()
        self._waited: set[Source] = set()
        self._late: set[Source] = set()

    def observe(self, stamp: float, now: float) -> None:
        """The observation of ``stamp`` [s] came at ``now`` [s of any steady clock]."""
        self.decided()
        for source, record in self._records.items():
            if source not in self._answered:
                record.quick = 0
        self._answered, self._waited, self._late = set(), set(), set()
        self._stamp, self._seen = stamp, now

    def answer(self, source: Source, stamp: float, now: float) -> None:
        """A source answered the observation of ``stamp`` at ``now``; late is as good as never."""
        if abs(stamp - self._stamp) > _SAME or now - self._seen > self._patience:
            return
        record = self._records.setdefault(source, _Record())
        if source not in self._answered | self._late:
            self._answered.add(source)
            record.quick += 1
            record.good += source in self._waited
            if record.good >= _CLEARED:
                record.asked = _FIRST

    def decided(self) -> None:
        """The command has left: who was waited for and has not answered is late."""
        for source in self._waited - self._answered:
            record = self._records[source]
            record.quick, record.asked, record.good = 0, min(4 * record.asked, _MOST), 0
        self._late |= self._waited - self._answered
        self._waited &= self._answered

    def awaited(self, sources: Iterable[Source], now: float) -> list[Source]:
        """Which of these sources should be waited for at ``now``."""
        if now - self._seen >= self._patience:
            return []
        found = [s for s in sources if s not in self._answered
                 and (r := self._records.get(s)) is not None and r.quick >= r.asked]
        self._waited.update(found)
        return found
