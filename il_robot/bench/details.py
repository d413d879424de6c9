"""The tables of single environments: how good each method is there, and what it cost."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from il_robot.bench import measures
from il_robot.bench.measures import Curve
from il_robot.bench.outcome import REFERENCES
from il_robot.bench.tables import Table, amount, colour, finals, interval, percent


def _of(curves: Sequence[Curve], environment: str) -> dict[str, list[Curve]]:
    """Seeds by method on one environment."""
    return {method: list(environments[environment].values())
            for method, environments in sorted(finals(curves).items())
            if environment in environments}


def quality(curves: Sequence[Curve], environment: str) -> Table:
    """How good each method is on one environment; at last the two ends of the scale."""
    rows = []
    found = _of(curves, environment)
    for method, seeds in sorted(found.items(), key=lambda item: item[0] in REFERENCES):
        values = [c.final for c in seeds]
        jerk = float(np.median([c.cell['jerk'] for c in seeds]))
        many = len(values) > 1
        rows.append([
            method, str(len(seeds)), f'{np.mean([c.raw[c.best] for c in seeds]):.4g}',
            percent(values[0]) if method in REFERENCES else interval(measures.over_seeds(seeds)),
            percent(float(np.std(values, ddof=1))) if many else '-',
            percent(min(values)) if many else '-', f'{jerk:.0f}' if jerk else '-'])
    return Table(['method', 'seeds', 'raw', 'score [95 %]', 'spread', 'worst seed',
                  'jerk [rad/s^3]'], rows)


def _reached(seeds: Sequence[Curve], what: str) -> str:
    """What it took until it stayed above 90, median over seeds."""
    median, at_most = measures.to_converge(seeds, what)
    text = amount(median)
    return f'<= {text}' if at_most and text != '-' else text


def _took(seeds: Sequence[Curve], what: str) -> str:
    """A whole run, median over seeds."""
    return amount(float(np.median([getattr(c, what)[c.best] for c in seeds])))


def costs(curves: Sequence[Curve], environment: str) -> Table:
    """What each method took on one environment."""
    rows = []
    for method, seeds in _of(curves, environment).items():
        latency = np.median([c.cell['latency_ms'] for c in seeds], axis=0)
        rows.append([method, *(_reached(seeds, what) for what in ('labels', 'steps', 'seconds')),
                     *(_took(seeds, what) for what in ('labels', 'switches', 'seconds')),
                     amount(float(seeds[0].cell['parameters'])),
                     f'{latency[0]:.2f} / {latency[1]:.2f}'])
    return Table(['method', 'labels to 90', 'steps to 90', 's to 90', 'labels', 'takeovers',
                  'seconds', 'parameters', 'p50 / p99 [ms]'], rows)


def took(curves: Sequence[Curve]) -> Table:
    """What whole runs of methods took in each environment, medians over seeds."""
    environments = sorted({c.environment for c in curves})
    rows = []
    for method, found in sorted(finals(curves).items()):
        own = [list(found.get(name, {}).values()) for name in environments]
        rows.append([method, *(
            f'{_took(seeds, "labels")} / {_took(seeds, "steps")} / {_took(seeds, "seconds")}'
            if seeds else '-' for seeds in own)])
    return Table(['labels / steps / seconds', *environments], rows)


def robustness(
    curves: Sequence[Curve], environment: str, disturbance: str
) -> tuple[Table, dict[tuple[int, int], str]]:
    """Scores of each method under one disturbance, by its strength, and a colour for each.

    The expert's are among them where the curves hold him: what he cannot do either is not the
    policy's fault.
    """
    rows, shade, strengths = list[list[str]](), dict[tuple[int, int], str](), list[float]()
    for method, seeds in _of(curves, environment).items():
        tried = [measures.under(c, disturbance) for c in seeds]
        tried = [t for t in tried if t]
        if not tried:
            continue
        strengths, row = [strength for strength, *_ in tried[0]], [method]
        for k in range(len(strengths)):
            found = measures.mean([t[k][2] for t in tried], seeds[0].ends)
            row.append(interval(found))
            shade[len(rows), k + 1] = colour(found.value)
        rows.append(row)
    return Table([disturbance, *(f'{s:g}' for s in strengths)], rows), shade
