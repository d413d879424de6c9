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
Places = dict[str, list[_Both]]
"""By environment the seeds that are compared."""


def places(
    ours: Sequence[Curve], theirs: Sequence[Curve], *, equal_labels: bool = False
) -> Places:
    """Where two methods can be compared: environments and seeds that both have.

    An environment with one such seed is left out if others have more.

    Args:
        ours: Curves of one method.
        theirs: Of another.
        equal_labels: Compare where both had taken as many labels, as far on as there is such a
            place, not both at their ends. An environment counts where all its seeds have one.
    """
    others = {(c.environment, c.seed): c for c in theirs}
    both = [(c, other) for c in ours if (other := others.get((c.environment, c.seed)))]
    groups, unlike = Places(), set[str]()
    for c, other in both:
        points = _at_equal_labels(c, other) if equal_labels else (c.best, other.best)
        if points is None:
            unlike.add(c.environment)
        else:
            groups.setdefault(c.environment, []).append((c, other, *points))
    most = max(map(len, groups.values()), default=0)
    return {name: group for name, group in sorted(groups.items())
            if name not in unlike and (len(group) > 1 or most == 1)}


def difference(
    ours: Sequence[Curve], theirs: Sequence[Curve], *, equal_labels: bool = False
) -> Estimate | None:
    """Mean difference of scores over their :func:`places`, paired; None where there is none."""
    pairs = [*places(ours, theirs, equal_labels=equal_labels).values()]
    if not pairs:
        return None
    over = len(pairs), min(map(len, pairs))
    value = float(np.mean([np.mean([c.score[i] - o.score[k] for c, o, i, k in g]) for g in pairs]))
    if over[1] < 2:
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
    Nor do points at which one was no more than a clone yet, or had less than half of the labels
    that both end with: there most methods have learned as little.
    """
    enough = 0.5 * min(ours.labels[-1], theirs.labels[-1])
    near = [(a + b, i, k) for i, a in enumerate(ours.labels) for k, b in enumerate(theirs.labels)
            if 0 < max(a, b) <= _NEAR * min(a, b) and min(a, b) >= enough
            and _at_work(ours, i) and _at_work(theirs, k)]
    return max(near)[1:] if near else None


def _at_work(curve: Curve, point: int) -> bool:
    """Whether a method has begun with more than cloning, if it does more at all."""
    more = curve.switches[-1] > curve.switches[0] or curve.steps[-1] > curve.labels[-1]
    return point > 0 or not more


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
