"""What the results of a suite say, with intervals.

Scores are normalised: 0 is acting at random, 1 the expert. Over seeds and environments the
interquartile mean with a stratified bootstrap, as in Agarwal et al., "Deep Reinforcement Learning
at the Edge of the Statistical Precipice", NeurIPS 2021 (rliable): seeds are drawn anew within each
environment. Methods are compared by seeds that both have, paired.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from il_robot.bench.outcome import REFERENCES
from il_robot.types import Float64

DRAWS = 5000
CONVERGED = 0.9
"""Normalised score that counts as nearly the expert."""


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval."""

    value: float
    low: float
    high: float


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

    def to_converge(self, what: str) -> float:
        """Of ``labels``, ``steps`` or ``seconds``, until it was nearly the expert; inf: never."""
        reached = np.flatnonzero(self.score >= CONVERGED)
        return float(getattr(self, what)[reached[0]]) if reached.size else float('inf')


def scales(cells: Sequence[Mapping[str, Any]]) -> dict[str, tuple[float, float]]:
    """Mean scores of acting at random and of the expert, by environment."""
    found: dict[str, dict[str, float]] = {}
    for cell in cells:
        if cell['method'] in REFERENCES:
            found.setdefault(cell['environment'], {})[cell['method']] = float(
                np.mean(cell['points'][-1]['scores']))
    return {name: (ends['random'], ends['expert']) for name, ends in found.items()
            if len(ends) == len(REFERENCES)}


def normalized(raw: Any, ends: tuple[float, float]) -> Any:
    """0 where it is as good as acting at random, 1 where as good as the expert."""
    low, high = ends
    return (raw - low) / max(high - low, 1e-12)


def curves(cells: Sequence[Mapping[str, Any]]) -> list[Curve]:
    """Of all cells whose environment has a scale."""
    ends, found = scales(cells), []
    for cell in cells:
        if cell['method'] in REFERENCES or cell['environment'] not in ends:
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


def under(curve: Curve, disturbance: str) -> list[tuple[float, float]]:
    """Normalised scores of the last policy by the strength of a disturbance; from 0 on.

    Args:
        curve: Of which run.
        disturbance: A key of what it was tried under; nothing where it was not.
    """
    tried = curve.cell['robustness'].get(disturbance, [])
    if not tried:
        return []
    found = [(strength, float(normalized(np.mean(scores), curve.ends)))
             for strength, scores in tried]
    return [*([(0.0, float(curve.score[curve.best]))] if tried[0][0] else []), *found]


def disturbances(curves: Sequence[Curve], environment: str) -> list[str]:
    """What the policies of an environment were tried under."""
    return sorted({name for c in curves if c.environment == environment
                   for name in c.cell['robustness']})


def interquartile_mean(values: Float64) -> float:
    """Mean of the middle half; of fewer than four the mean."""
    ordered = np.sort(np.ravel(values))
    cut = len(ordered) // 4
    return float(ordered[cut:len(ordered) - cut].mean())


def over_environments(scores: Mapping[str, Sequence[float]], seed: int = 0) -> Estimate:
    """Interquartile mean over all seeds of all environments.

    Args:
        scores: Normalised, of every seed, by environment.
        seed: Of the bootstrap.
    """
    rng = np.random.default_rng(seed)
    groups = [np.asarray(v, float) for v in scores.values()]
    drawn = np.concatenate(
        [g[rng.integers(len(g), size=(DRAWS, len(g)))] for g in groups], axis=1)
    means = np.array([interquartile_mean(row) for row in drawn])
    low, high = np.quantile(means, (0.025, 0.975)).tolist()
    return Estimate(interquartile_mean(np.concatenate(groups)), low, high)


def over_seeds(scores: Sequence[float], seed: int = 0) -> Estimate:
    """Mean over seeds."""
    values = np.asarray(scores, float)
    drawn = values[np.random.default_rng(seed).integers(
        len(values), size=(DRAWS, len(values)))].mean(1)
    low, high = np.quantile(drawn, (0.025, 0.975)).tolist()
    return Estimate(float(values.mean()), low, high)


def difference(
    ours: Mapping[tuple[str, int], float], theirs: Mapping[tuple[str, int], float], seed: int = 0
) -> Estimate | None:
    """Mean difference over what both have, paired; None where that is nothing.

    Args:
        ours: Normalised scores by environment and seed.
        theirs: The same of the other method.
        seed: Of the bootstrap.
    """
    by_environment: dict[str, list[float]] = {}
    for key in sorted(ours.keys() & theirs.keys()):
        by_environment.setdefault(key[0], []).append(ours[key] - theirs[key])
    if not by_environment:
        return None
    rng = np.random.default_rng(seed)
    groups = [np.asarray(v) for v in by_environment.values()]
    drawn = np.mean([g[rng.integers(len(g), size=(DRAWS, len(g)))].mean(1) for g in groups], 0)
    low, high = np.quantile(drawn, (0.025, 0.975)).tolist()
    return Estimate(float(np.mean([g.mean() for g in groups])), low, high)


def verdict(found: Estimate | None) -> str:
    """What a difference says in words."""
    if found is None:
        return 'not compared'
    if found.low > 0:
        return 'better'
    return 'worse' if found.high < 0 else 'no difference shown'
