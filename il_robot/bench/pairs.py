"""Pairs of methods: by seeds and episodes that both have, and by Holm's rule.

So that of many comparisons of equals few say "better".
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from il_robot.bench.intervals import (
    Estimate,
    by_episodes,
    by_seeds,
    estimate,
    least_of_differences,
    table,
)
from il_robot.bench.measures import Curve
from il_robot.types import Float64

_NEAR = 1.1  # demonstrations are whole episodes: as many are not exactly as many labels
_Both = tuple[Curve, Curve, int, int]  # and the points that are compared


def difference(
    ours: Sequence[Curve], theirs: Sequence[Curve], *, equal_labels: bool = False
) -> Estimate | None:
    """Mean difference of scores over the environments and seeds that both have, paired.

    None where that is nothing. An environment with one such seed is left out if others have more.

    Args:
        ours: Curves of one method.
        theirs: Of another.
        equal_labels: Compare where both had taken as many labels, as far on as there is such a
            place, not both at their ends; methods without any are not compared then.
    """
    others = {(c.environment, c.seed): c for c in theirs}
    groups: dict[str, list[_Both]] = {}
    for c in ours:
        if (other := others.get((c.environment, c.seed))) is None:
            continue
        points = _at_equal_labels(c, other) if equal_labels else (c.best, other.best)
        if points is None:
            continue
        groups.setdefault(c.environment, []).append((c, other, *points))
    most_seeds = max((len(g) for g in groups.values()), default=0)
    pairs = [g for g in groups.values() if len(g) > 1 or most_seeds == 1]
    if not pairs:
        return None
    over = len(pairs), min(map(len, pairs))
    value = float(np.mean([np.mean([c.score[i] - o.score[k] for c, o, i, k in g]) for g in pairs]))
    if most_seeds < 2:
        return Estimate(value, float('nan'), float('nan'), over=over)
    parts, least = [], 0.0
    for group in pairs:
        scores, certain = _differences(group)
        parts += [part.times(1 / len(pairs)) for part in (by_seeds(scores), by_episodes(scores))]
        least += certain / len(pairs)**2
    return estimate(value, parts, least, over)


def _at_equal_labels(ours: Curve, theirs: Curve) -> tuple[int, int] | None:
    """The last two points that took as many labels, within a tenth.

    Between its points a curve is not known: what was evaluated at half as many says nothing.
    """
    near = [(a + b, i, k) for i, a in enumerate(ours.labels) for k, b in enumerate(theirs.labels)
            if 0 < max(a, b) <= _NEAR * min(a, b)]
    return max(near)[1:] if near else None


def as_many_labels(ours: Sequence[Curve], theirs: Sequence[Curve]) -> bool:
    """Whether all runs that both have ended with as many labels."""
    others = {(c.environment, c.seed): c.labels[-1] for c in theirs}
    both = [(c.labels[-1], others[c.environment, c.seed]) for c in ours
            if (c.environment, c.seed) in others]
    return all(max(pair) <= _NEAR * min(pair) for pair in both)


def _differences(
    group: Sequence[_Both]
) -> tuple[Float64, float]:
    """Of all episodes of both ``(S, E)``, and the least variance of their mean."""
    width = 1 / (group[0][0].ends[1] - group[0][0].ends[0])
    runs = [(c.episodes(i), o.episodes(k)) for c, o, i, k in group]
    count = min(min(map(len, pair)) for pair in runs)
    ours, theirs = (table([pair[side][:count] for pair in runs]) for side in (0, 1))
    least = 0.0
    if np.isin([ours, theirs], (0.0, 1.0)).all():
        least = width**2 * least_of_differences(
            int((ours > theirs).sum()), int((ours < theirs).sum()), ours.size)
    return width * (ours - theirs), least


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
