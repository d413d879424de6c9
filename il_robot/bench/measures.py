"""What the results of a suite say, with intervals.

Scores are normalised: 0 is acting at random, 1 the expert. Methods are ranked by the mean over
environments, each of which counts as much. Beside it is the interquartile mean of Agarwal et al.,
"Deep Reinforcement Learning at the Edge of the Statistical Precipice", NeurIPS 2021, which is
meant for dozens of environments: of five it cuts away the very one on which a method fails. Its
deviation comes from their stratified bootstrap: seeds are drawn anew within each environment. With
three to five seeds the quantiles of a bootstrap are far too narrow (they hold the truth three
times of four instead of 19 times of 20); here its deviation is corrected for the number of seeds,
the luck of the episodes is added and the interval is Student's (:mod:`il_robot.bench.intervals`),
which test_measures.py holds against simulated truths. One seed has no interval. Pairs of methods
are in :mod:`il_robot.bench.pairs`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from il_robot.bench.intervals import (
    Estimate,
    Part,
    by_episodes,
    by_seeds,
    estimate,
    least_of_shares,
    table,
)
from il_robot.bench.outcome import EXPERT, RANDOM, REFERENCES
from il_robot.types import Float64

DRAWS = 2000
CONVERGED = 0.9
"""Normalised score that counts as nearly the expert."""


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

    def episodes(self, point: int | None = None) -> list[float]:
        """Scores of the evaluation at a point, as they are, in the order of their seeds."""
        found: list[float] = self.cell['points'][self.best if point is None else point]['scores']
        return found

    @property
    def final(self) -> float:
        """Normalised score of the point that counts."""
        return float(self.score[self.best])

    def to_converge(self, what: str) -> float:
        """Of ``labels``, ``steps`` or ``seconds``, until it was nearly the expert; inf: never.

        Twice in a row, or at the end: once is luck.
        """
        near = np.append(self.score >= CONVERGED, True)
        first = np.flatnonzero(near[:-1] & near[1:])
        return float(getattr(self, what)[first[0]]) if first.size else float('inf')


def to_converge(curves: Sequence[Curve], what: str) -> tuple[float, bool]:
    """Median of what it took until each was nearly the expert, and whether it is at most that.

    At most: where a curve that decides had as much at its first point, with less was never tried.
    """
    taken = np.array([c.to_converge(what) for c in curves])
    median = float(np.median(taken))
    first = np.array([getattr(c, what)[0] for c in curves])
    return median, bool(((taken == first) & (first > 0) & (taken >= median)).any())


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


def under(curve: Curve, disturbance: str) -> list[tuple[float, float, list[float]]]:
    """By the strength of a disturbance the last policy's normalised score, and its episodes.

    Args:
        curve: Of which run.
        disturbance: A key of what it was tried under; nothing where it was not.
    """
    return [(strength, float(normalized(np.mean(scores), curve.ends)), scores)
            for strength, scores in curve.cell['robustness'].get(disturbance, [])]


def disturbances(curves: Sequence[Curve], environment: str) -> list[str]:
    """What the policies of an environment were tried under."""
    return sorted({name for c in curves if c.environment == environment
                   for name in c.cell['robustness']})


def interquartile_mean(values: Float64) -> float:
    """Mean of the middle half; of fewer than four the mean."""
    ordered = np.sort(np.ravel(values))
    cut = len(ordered) // 4
    return float(ordered[cut:len(ordered) - cut].mean())


def over_environments(found: Mapping[str, Sequence[Curve]]) -> Estimate:
    """Mean over environments of the means over seeds.

    Args:
        found: Curves of every seed, by environment.
    """
    value = float(np.mean([np.mean([c.final for c in own]) for own in found.values()]))
    count, fewest = len(found), min(map(len, found.values()))
    if fewest < 2:
        return _alone(value, (count, fewest))
    parts, least = [], 0.0
    for own in found.values():
        scores = _table(own)
        parts += [part.times(1 / count) for part in (by_seeds(scores), by_episodes(scores))]
        least += _least(own) / count**2
    return estimate(value, parts, least, (count, fewest))


def middle_of_environments(found: Mapping[str, Sequence[Curve]], seed: int = 0) -> Estimate:
    """Interquartile mean over all seeds of all environments.

    Args:
        found: Curves of every seed, by environment.
        seed: Of the bootstrap.
    """
    groups = [np.array([c.final for c in own]) for own in found.values()]
    value = interquartile_mean(np.concatenate(groups))
    fewest, count = min(map(len, groups)), sum(map(len, groups))
    if fewest < 2:
        return _alone(value, (len(groups), fewest))
    rng = np.random.default_rng(seed)
    # drawn with replacement, n seeds vary by (n - 1) / n of what they should
    drawn = [g.mean() + np.sqrt(len(g) / (len(g) - 1))
             * (g[rng.integers(len(g), size=(DRAWS, len(g)))] - g.mean()) for g in groups]
    together = _variance(drawn)
    alone = [_variance([d if i == k else np.broadcast_to(g, d.shape)
                        for i, (d, g) in enumerate(zip(drawn, groups))])
             for k in range(len(groups))]
    parts, least = [], 0.0
    for own, group, part in zip(found.values(), groups, alone):
        share = together * part / sum(alone) if sum(alone) else 0.0
        scores, weight = _table(own), len(group) / count
        parts += [Part(share, len(group) - 1), by_episodes(scores).times(weight)]
        least += weight**2 * _least(own)
    return estimate(value, parts, least, (len(groups), fewest))


def _alone(value: float, over: tuple[int, int]) -> Estimate:
    return Estimate(value, float('nan'), float('nan'), over=over)


def _variance(drawn: Sequence[Float64]) -> float:
    """Of the interquartile mean of rows."""
    rows = np.sort(np.concatenate(drawn, axis=1), axis=1)
    cut = rows.shape[1] // 4
    return float(rows[:, cut:rows.shape[1] - cut].mean(1).var())


def over_seeds(found: Sequence[Curve]) -> Estimate:
    """Mean over seeds."""
    return mean([c.episodes() for c in found], found[0].ends)


def mean(runs: Sequence[Sequence[float]], ends: tuple[float, float]) -> Estimate:
    """Normalised, of the episodes of several seeds; shares of success end where all succeed."""
    value = float(normalized(np.mean([np.mean(run) for run in runs]), ends))
    if len(runs) < 2:
        return _alone(value, (1, 1))
    raw = table(runs)
    scores = normalized(raw, ends)
    found = estimate(value, [by_seeds(scores), by_episodes(scores)], _least_of(runs, ends),
                     (1, len(runs)))
    if not _shares(raw):
        return found
    worst, best = (float(normalized(v, ends)) for v in (0.0, 1.0))
    return replace(found, low=max(found.low, worst), high=min(found.high, best))


def _table(found: Sequence[Curve]) -> Float64:
    """``(S, E)`` normalised."""
    scores: Float64 = normalized(table([c.episodes() for c in found]), found[0].ends)
    return scores


def _least(found: Sequence[Curve]) -> float:
    return _least_of([c.episodes() for c in found], found[0].ends)


def _least_of(runs: Sequence[Sequence[float]], ends: tuple[float, float]) -> float:
    raw = table(runs)
    if not _shares(raw):
        return 0.0
    return least_of_shares(int(raw.sum()), raw.size) / (ends[1] - ends[0])**2


def _shares(raw: Float64) -> bool:
    return bool(np.isin(raw, (0.0, 1.0)).all())
