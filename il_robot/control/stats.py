"""Rates and latency percentiles for diagnostics (REP 107); no clock: times are passed in."""

from __future__ import annotations

from collections import deque

import numpy as np


class Percentiles:
    """Percentiles of the newest values.

    Args:
        size: How many values are remembered.
    """

    def __init__(self, size: int = 1000) -> None:
        self._values: deque[float] = deque(maxlen=size)

    def add(self, value: float) -> None:
        """Remember one more value."""
        self._values.append(value)

    def values(self) -> dict[str, float]:
        """``p50``, ``p95``, ``p99`` and ``max``, in the unit of the values; {} of nothing."""
        if not self._values:
            return {}
        p50, p95, p99, most = np.quantile(self._values, (0.5, 0.95, 0.99, 1.0)).tolist()
        return {'p50': p50, 'p95': p95, 'p99': p99, 'max': most}


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
