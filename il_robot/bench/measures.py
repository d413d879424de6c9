"""What the results of a suite say, with intervals.

Scores are normalised: 0 is acting at random, 1 the expert. Over environments and seeds the
interquartile mean of Agarwal et al., "Deep Reinforcement Learning at the Edge of the Statistical
Precipice", NeurIPS 2021, whose deviation comes from their stratified bootstrap: seeds are drawn
anew within each environment. With three to five seeds the quantiles of a bootstrap are far too
narrow (they hold the truth three times of four instead of 19 times of 20); here its deviation is
corrected for the number of seeds and the interval is Student's, which test_measures.py holds
against simulated truths. One seed has no interval. Methods are compared by seeds that both have,
paired, and pairs by Holm's rule, so that of many comparisons of equals few say "better".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from il_robot.bench.outcome import EXPERT, RANDOM, REFERENCES
from il_robot.statistics import t_quantile, t_tail
from il_robot.types import Float64

DRAWS = 2000
CONVERGED = 0.9
"""Normalised score that counts as nearly the expert."""


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval.

    Attributes:
        value, low, high: The bounds are NaN where one seed tells nothing about others.
        p: Probability of a value so far from 0 where the truth is 0; NaN likewise.
    """

    value: float
    low: float
    high: float
    p: float = float('nan')


@dataclass(frozen=True, eq=False)
class Curve:
    """What one method did on one environment with one seed.

    Attributes:
        environment, method, seed: Which.
        labels, steps, seconds, switches: ``(K,)`` what it had taken.
        score: ``(K,)`` normalised means of the evaluation.
        raw: ``(K,)`` not normalised.
        ends: Raw scores of acting at random and of the expert.
        cell: The result itself.
    """

    environment: str
    method: str
    seed: int
    labels: NDArray[Any]
    steps: NDArray[Any]
    seconds: NDArray[Any]
    switches: NDArray[Any]
    score: Float64
    raw: Float64
    ends: tuple[float, float]
    cell: Mapping[str, Any]

    @property
    def best(self) -> int:
        """Point that counts: the last one."""
        return len(self.score) - 1

    @property
    def noise(self) -> float:
        """Standard error of the last score by the number of its episodes."""
        return standard_error(self.cell['points'][self.best]['scores'], self.ends)

    def to_converge(self, what: str) -> float:
        """Of ``labels``, ``steps`` or ``seconds``, until it stayed nearly the expert; inf: never.

        NaN where the curve is a single point, which does not say when.
        """
        if len(self.score) == 1:
            return float('nan')
        below = np.flatnonzero(self.score < CONVERGED)
        first = below[-1] + 1 if below.size else 0
        return float(getattr(self, what)[first]) if first < len(self.score) else float('inf')


def scales(cells: Sequence[Mapping[str, Any]]) -> dict[str, tuple[float, float]]:
    """Mean scores of acting at random and of the expert, by environment that has such a scale."""
    return {name: (ends[RANDOM], ends[EXPERT]) for name, ends in _ends(cells).items()
            if len(ends) == len(REFERENCES) and ends[EXPERT] > ends[RANDOM]}


def without_scale(cells: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Environments whose results cannot be compared, and why."""
    ends: dict[str, dict[str, float]] = {c['environment']: {} for c in cells}
    ends |= _ends(cells)
    found = {}
    for name, known in sorted(ends.items()):
        missing = [r for r in REFERENCES if r not in known]
        if missing:
            found[name] = f'no result of {" and ".join(missing)}'
        elif known[EXPERT] <= known[RANDOM]:
            found[name] = (f'its expert ({known[EXPERT]:.4g}) is not better than acting at random '
                           f'({known[RANDOM]:.4g})')
    return found


def _ends(cells: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for cell in cells:
        if cell['method'] in REFERENCES:
            found.setdefault(cell['environment'], {})[cell['method']] = float(
                np.mean(cell['points'][-1]['scores']))
    return found


def normalized(raw: Any, ends: tuple[float, float]) -> Any:
    """0 where it is as good as acting at random, 1 where as good as the expert."""
    low, high = ends
    return (raw - low) / (high - low)


def curves(
    cells: Sequence[Mapping[str, Any]], methods: Callable[[str], bool] = lambda name: (
        name not in REFERENCES)
) -> list[Curve]:
    """Of all cells whose environment has a scale; of the references where they are asked for."""
    ends, found = scales(cells), []
    for cell in cells:
        if not methods(cell['method']) or cell['environment'] not in ends:
            continue
        low, high = ends[cell['environment']]
        points = cell['points']
        raw = np.array([np.mean(p['scores']) for p in points])
        columns = {key: np.array([p[key] for p in points])
                   for key in ('labels', 'steps', 'seconds', 'switches')}
        found.append(Curve(
            cell['environment'], cell['method'], cell['seed'], **columns,
            score=normalized(raw, (low, high)), raw=raw, ends=(low, high), cell=cell))
    return found


def standard_error(scores: Sequence[float], ends: tuple[float, float]) -> float:
    """Of the normalised mean of so many episodes' scores."""
    values = np.asarray(scores, float)
    count = len(values)
    if np.isin(values, (0.0, 1.0)).all():  # a share, also where all are alike
        share = (values.sum() + 2) / (count + 4)
        deviation = np.sqrt(share * (1 - share))
    else:
        deviation = values.std()
    return float(deviation / np.sqrt(count) / (ends[1] - ends[0]))


def under(curve: Curve, disturbance: str) -> list[tuple[float, float, float]]:
    """By the strength of a disturbance the last policy's normalised score and its error.

    Args:
        curve: Of which run.
        disturbance: A key of what it was tried under; nothing where it was not.
    """
    tried = curve.cell['robustness'].get(disturbance, [])
    if not tried:
        return []
    return [(strength, float(normalized(np.mean(scores), curve.ends)),
             standard_error(scores, curve.ends))
            for strength, scores in tried]


def disturbances(curves: Sequence[Curve], environment: str) -> list[str]:
    """What the policies of an environment were tried under."""
    return sorted({name for c in curves if c.environment == environment
                   for name in c.cell['robustness']})


def interquartile_mean(values: Float64) -> float:
    """Mean of the middle half; of fewer than four the mean."""
    ordered = np.sort(np.ravel(values))
    cut = len(ordered) // 4
    return float(ordered[cut:len(ordered) - cut].mean())


def over_environments(found: Mapping[str, Sequence[Curve]], seed: int = 0) -> Estimate:
    """Interquartile mean over all seeds of all environments.

    Args:
        found: Curves of every seed, by environment.
        seed: Of the bootstrap.
    """
    groups = [np.array([c.score[c.best] for c in own]) for own in found.values()]
    value = interquartile_mean(np.concatenate(groups))
    freedom = sum(len(g) - 1 for g in groups)
    if min(len(g) for g in groups) < 2:
        return Estimate(value, float('nan'), float('nan'))
    rng = np.random.default_rng(seed)
    # drawn with replacement, n seeds vary by (n - 1) / n of what they should
    drawn = np.concatenate([
        g.mean() + np.sqrt(len(g) / (len(g) - 1))
        * (g[rng.integers(len(g), size=(DRAWS, len(g)))] - g.mean()) for g in groups], axis=1)
    deviation = float(np.std([interquartile_mean(row) for row in drawn]))
    episodes = np.mean([c.noise**2 for own in found.values() for c in own])
    least = float(np.sqrt(episodes / sum(len(g) for g in groups)))
    return _interval(value, max(deviation, least), freedom)


def over_seeds(found: Sequence[Curve]) -> Estimate:
    """Mean over seeds."""
    return mean([c.score[c.best] for c in found], [c.noise for c in found])


def mean(values: Sequence[float], noise: Sequence[float] = (0.0,)) -> Estimate:
    """Of values of several seeds; ``noise``: the least that each may be wrong by."""
    if len(values) < 2:
        return Estimate(float(values[0]), float('nan'), float('nan'))
    variance = max(float(np.var(values, ddof=1)), float(np.mean(np.square(noise))))
    return _interval(float(np.mean(values)), float(np.sqrt(variance / len(values))),
                     len(values) - 1)


def _interval(value: float, deviation: float, freedom: float) -> Estimate:
    half = t_quantile(freedom) * deviation
    p = t_tail(value / deviation, freedom) if deviation else float(value == 0.0)
    return Estimate(value, value - half, value + half, p)


def difference(ours: Sequence[Curve], theirs: Sequence[Curve]) -> Estimate | None:
    """Mean difference of scores over the environments and seeds that both have, paired.

    None where that is nothing. Freedom as Welch and Satterthwaite have it.
    """
    others = {(c.environment, c.seed): c for c in theirs}
    groups: dict[str, list[tuple[float, float]]] = {}
    for c in ours:
        if other := others.get((c.environment, c.seed)):
            groups.setdefault(c.environment, []).append((
                float(c.score[c.best] - other.score[other.best]), c.noise**2 + other.noise**2))
    if not groups:
        return None
    value = float(np.mean([np.mean([d for d, _ in g]) for g in groups.values()]))
    if min(len(g) for g in groups.values()) < 2:
        return Estimate(value, float('nan'), float('nan'))
    parts = np.array([max(float(np.var([d for d, _ in g], ddof=1)),
                          float(np.mean([n for _, n in g]))) / len(g) for g in groups.values()])
    freedom = np.array([len(g) - 1 for g in groups.values()])
    total = parts.sum()
    together = total**2 / (parts**2 / freedom).sum() if total else freedom.sum()
    return _interval(value, float(np.sqrt(total)) / len(groups), float(together))


def holm(found: Sequence[Estimate]) -> list[float]:
    """The ``p`` of each, for as many comparisons as there are (Holm 1979); NaN stays."""
    known = sorted((e.p, i) for i, e in enumerate(found) if np.isfinite(e.p))
    adjusted, least = [float('nan')] * len(found), 0.0
    for rank, (p, i) in enumerate(known):
        least = max(least, min(1.0, p * (len(known) - rank)))
        adjusted[i] = least
    return adjusted


def verdict(found: Estimate, p: float) -> str:
    """What a difference says in words.

    Args:
        found: It.
        p: Its probability among all comparisons (:func:`holm`).
    """
    if not np.isfinite(p):
        return 'one seed: not compared'
    if p >= 0.05:
        return 'no difference shown'
    return 'better' if found.value > 0 else 'worse'
