"""Rates for diagnostics (REP 107); no clock: times are passed in."""

from __future__ import annotations

from collections import deque

import numpy as np


class Rate:
    """How often something happened lately.

    Args:
        window: Over how long the rate is taken [s].
    """

    def __init__(self, window: float = 2.0) -> None:
        self._window = window
        self._times: deque[float] = deque()
        self._since = np.inf

    def tick(self, now: float) -> None:
        """It happened at ``now`` [s]."""
        self._since = min(self._since, now)
        self._times.append(now)
        self._forget(now)

    def hertz(self, now: float) -> float:
        """Events per second over the window, or since the first one where that is shorter."""
        self._forget(now)
        span = min(self._window, now - self._since)
        return len(self._times) / span if span > 0 else 0.0

    def _forget(self, now: float) -> None:
        while self._times and self._times[0] <= now - self._window:
            self._times.popleft()
