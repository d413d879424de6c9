"""Honest numbers: intervals for what was counted."""

from __future__ import annotations

import math


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
