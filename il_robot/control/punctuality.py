"""Who answers an observation soon enough to be waited for.

In real time a command leaves for every observation, whoever is late. But a source that answers
each observation within a few milliseconds is worth those milliseconds: without them its answer
would be executed with the next observation, one control period late.
"""

from __future__ import annotations

from collections.abc import Iterable

from il_robot.types import Source

# Stamps this close are equal: they went through messages of whole nanoseconds [s].
_SAME = 1e-9


class Punctuality:
    """Remembers who answered the last observation in time; see the module. No clock.

    Args:
        patience: Longest wait for an answer [s]; 0: nobody is waited for.
    """

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._stamp = self._seen = float('-inf')
        self._punctual: set[Source] = set()
        self._answered: set[Source] = set()

    def observe(self, stamp: float, now: float) -> None:
        """The observation of ``stamp`` [s] came at ``now`` [s of any steady clock]."""
        self._punctual &= self._answered  # who did not answer at all is not waited for again
        self._answered = set()
        self._stamp, self._seen = stamp, now

    def answer(self, source: Source, stamp: float, now: float) -> None:
        """A source answered the observation of ``stamp`` at ``now``."""
        if abs(stamp - self._stamp) > _SAME:
            return
        self._answered.add(source)
        if now - self._seen <= self._patience:
            self._punctual.add(source)
        else:
            self._punctual.discard(source)

    def awaited(self, sources: Iterable[Source], now: float) -> list[Source]:
        """Which of these sources should be waited for at ``now``."""
        if now - self._seen >= self._patience:
            return []
        return [s for s in sources if s in self._punctual and s not in self._answered]
