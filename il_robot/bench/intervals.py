"""Intervals of means over training seeds and evaluation episodes.

All training seeds of all methods are evaluated on the same episodes, so a mean over seeds varies
for two reasons: with the seeds that were trained, and with the episodes, whose luck all seeds have
in common, so that it does not become less with more seeds. Both are random effects of a table of
seeds by episodes; what is within their crossings alone is in both and counted once. The interval
is Student's, its freedom Satterthwaite's (Biometrics Bulletin 1946). That holds the truth as often
as it says (test_measures.py), but not far out: where few seeds agree by chance the freedom is that
of the episodes, which are many, and p < 0.001 comes up four times too often. Probabilities, of
which many are compared, therefore have no more freedom than the seeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from il_robot.statistics import t_quantile, t_tail
from il_robot.types import Float64


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval.

    Attributes:
        value, low, high: The bounds are NaN where one seed tells nothing about others.
        p: Probability of a value so far from 0 where the truth is 0; NaN likewise.
        over: Environments and seeds of each, at least, that it comes from; 0 where not counted.
    """

    value: float
    low: float
    high: float
    p: float = float('nan')
    over: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class Part:
    """Of a variance, with its degrees of freedom, and whether it is that of seeds."""

    variance: float
    freedom: float
    seeds: bool = True

    def times(self, weight: float) -> Part:
        """Of a value that counts so much."""
        return replace(self, variance=weight**2 * self.variance)


def table(runs: Sequence[Sequence[float]]) -> Float64:
    """``(S, E)`` of the episodes that all seeds have."""
    count = min(map(len, runs))
    return np.array([run[:count] for run in runs], float)


def by_seeds(scores: Float64) -> Part:
    """Of a mean over so many training seeds, ``(S, E)``."""
    seeds = len(scores)
    return Part(float(scores.mean(1).var(ddof=1)) / seeds, seeds - 1)


def by_episodes(scores: Float64) -> Part:
    """Of it by the luck of the episodes that all seeds share, less what :func:`by_seeds` has."""
    seeds, count = scores.shape
    if count < 2:
        return Part(0.0, 1, seeds=False)
    means = scores.mean(0)
    left = scores - scores.mean(1, keepdims=True) - means + means.mean()
    within = float((left**2).sum()) / ((seeds - 1) * (count - 1)) / (seeds * count)
    return Part(max(0.0, float(means.var(ddof=1)) / count - within), count - 1, seeds=False)


def least_of_shares(successes: int, count: int) -> float:
    """Least variance of a share: all alike by chance is not certain (Agresti and Coull 1998)."""
    share = (successes + 2) / (count + 4)
    return share * (1 - share) / count


def least_of_differences(better: int, worse: int, count: int) -> float:
    """Of a difference of shares of the same episodes (Agresti and Min, Stat. in Medicine 2005)."""
    up, down = (better + 0.5) / (count + 2), (worse + 0.5) / (count + 2)
    return (up + down - (up - down)**2) / count


def estimate(value: float, parts: Sequence[Part], at_least: float = 0.0,
             over: tuple[int, int] = (0, 0)) -> Estimate:
    """A number whose variance is the sum of these, or ``at_least`` so much."""
    known = [p for p in parts if p.variance > 0]
    total = sum(p.variance for p in known)
    seeds = sum(p.freedom for p in parts if p.seeds)
    freedom = 1 / sum((p.variance / total)**2 / p.freedom for p in known) if known else seeds
    deviation = float(np.sqrt(max(total, at_least)))
    half = t_quantile(freedom) * deviation
    p = (t_tail(value / deviation, min(freedom, seeds)) if deviation
         else float(value == 0.0))
    return Estimate(value, value - half, value + half, p, over)
