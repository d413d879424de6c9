"""The tables of the report over all environments: who is better, where, and by how much."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from il_robot.bench import measures, pairs
from il_robot.bench.intervals import Estimate
from il_robot.bench.measures import Curve


@dataclass(frozen=True)
class Table:
    """Rows of text, the first column the name."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]

    def markdown(self) -> str:
        """For a README."""
        lines = [f'| {" | ".join(self.head)} |', '|' + '---|' * len(self.head)]
        return '\n'.join(lines + [f'| {" | ".join(row)} |' for row in self.rows])

    def html(self, shade: Mapping[tuple[int, int], str] | None = None) -> str:
        """For the page; ``shade`` gives colours of cells by row and column."""
        head = ''.join(f'<th scope="col">{html.escape(h)}</th>' for h in self.head)
        body = []
        for i, row in enumerate(self.rows):
            cells = []
            for k, text in enumerate(row):
                style = f' style="background:{shade[i, k]}"' if shade and (i, k) in shade else ''
                cells.append(f'<td{style}>{html.escape(text)}</td>')
            body.append(f'<tr>{"".join(cells)}</tr>')
        kind = ' class="heat"' if shade else ''
        return (f'<div class="scroll"><table{kind}><thead><tr>{head}</tr></thead>'
                f'<tbody>{"".join(body)}</tbody></table></div>')


def percent(value: float) -> str:
    """A normalised score."""
    return f'{100 * value:.0f}'


def interval(found: Estimate) -> str:
    """A normalised score and its interval, where there is one."""
    if not np.isfinite(found.low):
        where = ' on some' if found.over[0] > 1 else ''
        return f'{percent(found.value)} [one seed{where}]'
    return f'{percent(found.value)} [{percent(found.low)}, {percent(found.high)}]'


def amount(value: float) -> str:
    """Labels, steps or seconds; what was never reached, or is not known, is a dash."""
    if not np.isfinite(value):
        return '-'
    for size, letter in ((1e6, 'M'), (1e3, 'k')):
        if value >= 10 * size:
            return f'{value / size:.0f}{letter}'
    return f'{value:.0f}'


def colour(score: float) -> str:
    """From red to green."""
    share = float(np.clip(score, 0.0, 1.0))
    return f'hsl({20 + 120 * share:.0f} 65% {92 - 12 * share:.0f}%)'


def finals(curves: Iterable[Curve]) -> dict[str, dict[str, dict[int, Curve]]]:
    """By method, environment and seed."""
    found: dict[str, dict[str, dict[int, Curve]]] = {}
    for curve in curves:
        found.setdefault(curve.method, {}).setdefault(curve.environment, {})[curve.seed] = curve
    return found


def ranking(curves: Sequence[Curve], seeds: int = 0) -> Table:
    """Methods over all environments, the best first; after those those of some environments.

    Args:
        curves: Of all.
        seeds: That each should have on each environment; those of the most complete one if 0.
    """
    by_method = finals(curves)
    everywhere = {c.environment for c in curves}
    wanted = seeds or max(len(s) for found in by_method.values() for s in found.values())
    rows = []
    for method, environments in by_method.items():
        own = {e: list(found.values()) for e, found in environments.items()}
        found, middle = measures.over_environments(own), measures.middle_of_environments(own)
        every = [c for s in own.values() for c in s]
        reached = sum(np.mean([c.final for c in s]) >= measures.CONVERGED for s in own.values())
        costs = [amount(float(np.median([getattr(c, what)[c.best] for c in every])))
                 for what in ('labels', 'steps', 'seconds')]
        remarks = []
        if environments.keys() != everywhere:
            remarks.append('not on ' + ', '.join(sorted(everywhere - environments.keys())))
        if short := [e for e, s in own.items() if len(s) < wanted]:
            remarks.append('seeds missing on ' + ', '.join(sorted(short)))
        rows.append((environments.keys() != everywhere, -found.value, [
            method, interval(found), interval(middle), f'{reached} of {len(environments)}',
            percent(min(c.final for c in every)),
            f'{len(every)} of {wanted * len(everywhere)}', *costs, '; '.join(remarks)]))
    rows.sort(key=lambda r: r[:2])
    return Table(['method', 'score, mean [95 %]', 'IQM [95 %]', '>= 90 on', 'worst seed', 'runs',
                  'labels', 'steps', 'seconds', 'remarks'], [r for *_, r in rows])


def partly(curves: Sequence[Curve]) -> list[str]:
    """Methods that were not tried on every environment."""
    everywhere = {c.environment for c in curves}
    return sorted(m for m, found in finals(curves).items() if found.keys() != everywhere)


def questions(curves: Sequence[Curve]) -> Table:
    """The first three methods for each thing that one may ask for.

    Of those that were tried on every environment: means over others would not be comparable.
    """
    everywhere = {c.environment for c in curves}
    by_method = {m: found for m, found in finals(curves).items() if found.keys() == everywhere}
    every = {m: [c for seeds in found.values() for c in seeds.values()]
             for m, found in by_method.items()}

    def over(value: Callable[[Curve], float]) -> dict[str, float]:
        return {m: float(np.median([value(c) for c in own])) for m, own in every.items()}

    def spread(found: Mapping[str, Mapping[int, Curve]]) -> float:
        return float(np.mean([np.std([c.final for c in s.values()], ddof=len(s) > 1)
                              for s in found.values()]))

    def until(what: str) -> dict[str, float]:
        taken = {m: measures.to_converge(own, what) for m, own in every.items()}
        return {m: value for m, (value, at_most) in taken.items() if not at_most}

    hardest = {m: [measures.under(c, name)[-1][1] for c in own for name in c.cell['robustness']]
               for m, own in every.items()}
    asked: list[tuple[str, Mapping[str, float], Callable[[float], str], bool]] = [
        ('best at the end (mean score)', {
            m: measures.over_environments({e: list(s.values()) for e, s in found.items()}).value
            for m, found in by_method.items()}, percent, True),
        ('fewest labels to 90', until('labels'), amount, False),
        ('fewest seconds to 90', until('seconds'), amount, False),
        ('best worst seed', {m: min(c.final for c in own) for m, own in every.items()}, percent,
         True),
        # a method that always fails has no spread at all
        ('least spread over seeds, of those above 50 on average',
         {m: spread(found) for m, found in by_method.items()
          if len({c.seed for c in every[m]}) > 1
          and np.mean([c.final for c in every[m]]) > 0.5}, percent, False),
        ('under the strongest disturbances', {m: float(np.mean(v)) for m, v in hardest.items()
                                              if v}, percent, True),
        ('smoothest commands [rad/s^3]', {m: v for m, v in over(
            lambda c: float(c.cell['jerk'])).items() if v}, lambda v: f'{v:.0f}', False),
        ('quickest answer [ms]', over(lambda c: float(c.cell['latency_ms'][0])),
         lambda v: f'{v:.2f}', False),
    ]
    rows = []
    for question, values, show, most in asked:
        known = [(v, m) for m, v in values.items() if np.isfinite(v)]
        best = [f'{m} ({show(v)})' for v, m in sorted(known, reverse=most)][:3]
        if best:
            rows.append([question, *best, *[''] * (3 - len(best))])
    return Table(['asked for', 'first', 'second', 'third'], rows)


def heat(curves: Sequence[Curve]) -> tuple[Table, dict[tuple[int, int], str]]:
    """Methods by environments, and a colour for each cell."""
    by_method = finals(curves)
    environments = sorted({c.environment for c in curves})
    rows, shade = [], {}
    for i, (method, found) in enumerate(sorted(by_method.items())):
        row = [method]
        for k, environment in enumerate(environments, 1):
            seeds = found.get(environment)
            if not seeds:
                row.append('-')
                continue
            mean = measures.over_seeds(list(seeds.values()))
            row.append(interval(mean))
            shade[i, k] = colour(mean.value)
        rows.append(row)
    return Table(['score, mean [95 %]', *environments], rows), shade


def _p(value: float) -> str:
    if np.isnan(value):
        return '-'
    return '< 0.001' if value < 0.001 else f'{value:.3f}'


def comparisons(curves: Sequence[Curve], *, equal_labels: bool = False) -> Table:
    """Every pair of methods, over what both have.

    Args:
        curves: Of all.
        equal_labels: Where both had taken as many labels, and of pairs that did not end with as
            many (:func:`il_robot.bench.pairs.difference`).
    """
    by_method: dict[str, list[Curve]] = {}
    for c in curves:
        by_method.setdefault(c.method, []).append(c)
    names, found = sorted(by_method), list[tuple[str, str, Estimate, str]]()
    for i, a in enumerate(names):
        for b in names[i + 1:]:
            ours, theirs = by_method[a], by_method[b]
            if equal_labels and pairs.as_many_labels(ours, theirs):
                continue
            if one := pairs.difference(ours, theirs, equal_labels=equal_labels):
                where, only = _where(ours, theirs) if equal_labels else (
                    f'{one.over[0]} x {one.over[1]}', '')
                found.append((f'{a} against {b}', where, one, only))
    adjusted = pairs.holm([one for _, _, one, _ in found])
    return Table(
        ['pair', 'where both had so many labels' if equal_labels else 'environments x seeds',
         'difference [95 %, this pair alone]', 'p (Holm)', 'the first is'],
        [[name, where, interval(one), _p(p), pairs.verdict(one, p) + only]
         for (name, where, one, only), p in zip(found, adjusted)])


def _where(ours: Sequence[Curve], theirs: Sequence[Curve]) -> tuple[str, str]:
    """Environments with the labels there, and a word if both have others, too."""
    places = pairs.places(ours, theirs, equal_labels=True)
    text = [f'{name} {amount(float(np.median([c.labels[i] for c, _, i, _ in group])))}'
            for name, group in places.items()]
    both = {c.environment for c in ours} & {c.environment for c in theirs}
    return ', '.join(text), '' if places.keys() == both else ' there'
