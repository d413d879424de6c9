"""Honest numbers: intervals for what was counted, percentiles of what was measured."""

from __future__ import annotations

import math
from collections import deque

import numpy as np


def wilson(successes: int, episodes: int, z: float = 1.959964) -> tuple[float, float]:
    """The Wilson score interval of a proportion (95 % by default); (0, 1) of nothing.

    Wilson, "Probable Inference, the Law of Succession, and Statistical Inference", 1927.
    """
    if episodes == 0:
        return 0.0, 1.0
    n, p = episodes, successes / episodes
    center = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return max(0.0, center - half), min(1.0, center + half)


def t_tail(t: float, df: float) -> float:
    """Two-sided probability of Student's t beyond ``|t|``, by integration of its density."""
    if not math.isfinite(t):
        return 0.0
    # x = tan(u) sqrt(df) maps the tail onto a finite interval
    u = np.linspace(math.atan(abs(t) / math.sqrt(df)), math.pi / 2, 2001)
    density = np.cos(u) ** (df - 1)
    scale = math.exp(math.lgamma((df + 1) / 2) - math.lgamma(df / 2)) / math.sqrt(math.pi)
    area = float((0.5 * (density[1:] + density[:-1]) * np.diff(u)).sum())
    return min(1.0, 2 * scale * area)


def t_quantile(df: float, tail: float = 0.05) -> float:
    """``t`` beyond which ``tail`` of Student's distribution lies, on both sides together."""
    low, high = 0.0, 1e4
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if t_tail(middle, df) > tail else (low, middle)
    return high


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
