"""One page that people want to read, made of the result files alone.

HTML with everything inside (styles, plots as SVG), the same tables as Markdown beside it, and the
plots as pictures of their own.
"""

from __future__ import annotations

import html
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from il_robot.bench import measures
from il_robot.bench.measures import Curve, Estimate

STYLE = """
:root{--ink:#1b1f24;--dim:#5b6470;--line:#d9dee4;--paper:#fff;--soft:#f5f7f9;--mark:#0b62a4}
*{box-sizing:border-box}body{margin:0;background:var(--paper);color:var(--ink);
font:16px/1.55 system-ui,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif}
main{max-width:66rem;margin:0 auto;padding:2.5rem 1.5rem 4rem}h1{font-size:2rem;margin:0 0 .3rem}
h2{font-size:1.3rem;margin:2.6rem 0 .6rem;padding-top:.6rem;border-top:1px solid var(--line)}
p{max-width:46rem}.dim{color:var(--dim)}table{border-collapse:collapse;margin:.8rem 0;
font-size:.92rem;font-variant-numeric:tabular-nums}th,td{padding:.36rem .7rem;text-align:right;
border-bottom:1px solid var(--line);white-space:nowrap}th{font-weight:600;color:var(--dim)}
th:first-child,td:first-child{text-align:left}tbody tr:hover{background:var(--soft)}
.scroll{overflow-x:auto}.heat td{min-width:5.5rem}figure{margin:1rem 0}svg{max-width:100%;
height:auto}code,pre{font:.88rem/1.5 ui-monospace,Menlo,Consolas,monospace}
pre{background:var(--soft);padding:.8rem 1rem;overflow-x:auto;border-radius:6px}
@media print{main{max-width:none;padding:0}h2{break-after:avoid}figure,table{break-inside:avoid}}
"""
TEXT = 'utf-8'


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
    """A normalised score and its interval."""
    return f'{percent(found.value)} [{percent(found.low)}, {percent(found.high)}]'


def amount(value: float) -> str:
    """Labels, steps or seconds; what was never reached is a dash."""
    if not np.isfinite(value):
        return '-'
    for size, letter in ((1e6, 'M'), (1e3, 'k')):
        if value >= 10 * size:
            return f'{value / size:.0f}{letter}'
    return f'{value:.0f}'


def finals(curves: Iterable[Curve]) -> dict[str, dict[str, dict[int, Curve]]]:
    """By method, environment and seed."""
    found: dict[str, dict[str, dict[int, Curve]]] = {}
    for curve in curves:
        found.setdefault(curve.method, {}).setdefault(curve.environment, {})[curve.seed] = curve
    return found


def _score(curve: Curve) -> float:
    return float(curve.score[curve.best])


def ranking(curves: Sequence[Curve]) -> Table:
    """Methods over all environments, the best first."""
    by_method = finals(curves)
    everywhere = {c.environment for c in curves}
    rows = []
    for method, environments in by_method.items():
        scores = {e: [_score(c) for c in seeds.values()] for e, seeds in environments.items()}
        found = measures.over_environments(scores)
        worst = min(min(v) for v in scores.values())
        reached = sum(np.mean(v) >= measures.CONVERGED for v in scores.values())
        labels = np.median([c.labels[c.best] for s in environments.values() for c in s.values()])
        seconds = np.median([c.seconds[c.best] for s in environments.values() for c in s.values()])
        rows.append((found.value, [
            method, interval(found), f'{reached} of {len(environments)}', percent(worst),
            amount(float(labels)), amount(float(seconds)),
            '' if environments.keys() == everywhere
            else 'not on ' + ', '.join(sorted(everywhere - environments.keys()))]))
    rows.sort(key=lambda r: -r[0])
    return Table(['method', 'score, IQM [95 %]', '>= 90 on', 'worst seed', 'labels',
                  'seconds', 'remarks'], [r for _, r in rows])


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
            mean = measures.over_seeds([_score(c) for c in seeds.values()])
            row.append(interval(mean))
            share = float(np.clip(mean.value, 0.0, 1.0))
            shade[i, k] = f'hsl({20 + 120 * share:.0f} 65% {92 - 12 * share:.0f}%)'
        rows.append(row)
    return Table(['score, mean [95 %]', *environments], rows), shade


def comparisons(curves: Sequence[Curve]) -> Table:
    """Every pair of methods, over what both have."""
    scores = {method: {(e, s): _score(c) for e, seeds in found.items() for s, c in seeds.items()}
              for method, found in finals(curves).items()}
    rows, names = [], sorted(scores)
    for i, a in enumerate(names):
        for b in names[i + 1:]:
            found = measures.difference(scores[a], scores[b])
            if found is not None:
                word = measures.verdict(found)
                rows.append([f'{a} against {b}', interval(found), word])
    return Table(['pair', 'difference of scores [95 %]', 'the first is'], rows)


def costs(curves: Sequence[Curve], environment: str) -> Table:
    """What each method took on one environment."""
    rows = []
    for method, environments in sorted(finals(curves).items()):
        seeds = list(environments.get(environment, {}).values())
        if not seeds:
            continue
        found = measures.over_seeds([_score(c) for c in seeds])
        raw = [float(c.raw[c.best]) for c in seeds]
        reach = {what: float(np.median([c.to_converge(what) for c in seeds]))
                 for what in ('labels', 'steps', 'seconds')}
        latency = np.median([c.cell['latency_ms'] for c in seeds], axis=0)
        rows.append([
            method, str(len(seeds)), f'{np.mean(raw):.4g}', interval(found),
            percent(float(np.std([_score(c) for c in seeds]))),
            percent(min(_score(c) for c in seeds)),
            *(amount(reach[w]) for w in ('labels', 'steps', 'seconds')),
            amount(float(np.median([c.labels[c.best] for c in seeds]))),
            amount(float(np.median([c.switches[c.best] for c in seeds]))),
            amount(float(np.median([c.seconds[c.best] for c in seeds]))),
            amount(float(seeds[0].cell['parameters'])),
            f'{latency[0]:.2f} / {latency[1]:.2f}'])
    return Table(['method', 'seeds', 'raw', 'score [95 %]', 'spread', 'worst', 'labels to 90',
                  'steps to 90', 'seconds to 90', 'labels', 'takeovers', 'seconds', 'parameters',
                  'latency p50 / p99 [ms]'], rows)


def draw(curves: Sequence[Curve], what: str, label: str) -> Any:
    """Score over ``labels``, ``steps`` or ``seconds``: a small picture per environment."""
    from matplotlib.figure import Figure

    environments = sorted({c.environment for c in curves})
    methods = sorted({c.method for c in curves})
    columns = min(3, len(environments))
    rows = -(-len(environments) // columns)
    figure = Figure(figsize=(4.2 * columns, 3.1 * rows), layout='constrained')
    axes = np.atleast_1d(figure.subplots(rows, columns, sharey=True)).ravel()
    for ax, environment in zip(axes, environments):
        for number, method in enumerate(methods):
            own = [c for c in curves if (c.method, c.environment) == (method, environment)]
            own = [c for c in own if getattr(c, what)[-1] > 0]
            if not own:
                continue
            for c in own:
                ax.plot(getattr(c, what), 100 * c.score, color=f'C{number}', alpha=0.25,
                        linewidth=1)
            count = min(len(c.score) for c in own)
            middle = np.median([getattr(c, what)[:count] for c in own], axis=0)
            ax.plot(middle, 100 * np.mean([c.score[:count] for c in own], axis=0), '.-',
                    color=f'C{number}', label=method)
        ax.axhline(100, color='0.6', linewidth=0.8, linestyle=':')
        ax.set(title=environment, xlabel=label, ylim=(-25, 112), xscale='symlog')
        ax.grid(alpha=0.25)
    for ax in axes[len(environments):]:
        ax.axis('off')
    axes[0].set_ylabel('score: expert 100, random 0')
    handles = {h.get_label(): h for ax in axes for h in ax.get_legend_handles_labels()[0]}
    figure.legend(handles.values(), handles.keys(), loc='outside lower center',
                  ncols=max(1, len(handles)))
    return figure


def svg(figure: Any) -> str:
    """A figure as part of a page."""
    out = io.StringIO()
    figure.savefig(out, format='svg', metadata={'Date': None})
    text = out.getvalue()
    return f'<figure>{text[text.index("<svg"):]}</figure>'


def write_report(cells: Sequence[Mapping[str, Any]], suite: Mapping[str, Any], folder: Path,
                 command: str) -> Path:
    """report.html, report.md and the pictures; the page's path.

    Args:
        cells: All results.
        suite: What was compared (suite.json).
        folder: Where to.
        command: That makes these numbers again.
    """
    curves = measures.curves(cells)
    parts, lines = [], [f'# {suite["name"]}', '', suite.get('about', ''), '']

    def section(title: str, text: str, *tables: tuple[Table, Any]) -> None:
        parts.append(f'<h2>{html.escape(title)}</h2><p>{html.escape(text)}</p>')
        lines.extend([f'## {title}', '', text, ''])
        for table, shade in tables:
            parts.append(table.html(shade))
            lines.extend([table.markdown(), ''])

    seeds = sorted({c.seed for c in curves})
    section('Ranking', 'Over all environments and seeds, interquartile mean of the score: 100 is '
            'the expert, 0 is acting at random. Labels and seconds are medians of whole runs.',
            (ranking(curves), None))
    section('Where each is strong', f'Mean over {len(seeds)} training seeds.', heat(curves))
    section('Pairs', 'The same environments and seeds on both sides. Where the interval holds 0, '
            'no difference is shown.', (comparisons(curves), None))
    for what, label in (('labels', 'labels of the expert'), ('steps', 'steps of the environment'),
                        ('seconds', 'seconds of collecting and training')):
        figure = draw(curves, what, label)
        figure.savefig(folder / f'{what}.png', dpi=110)
        section(f'Score over {label}', 'Thin lines are seeds, thick ones their mean.')
        parts.append(svg(figure))
        lines.extend([f'![score over {label}]({what}.png)', ''])
    for environment in sorted({c.environment for c in curves}):
        section(environment, '"to 90": until 90 % of the expert was reached, median over seeds.',
                (costs(curves, environment), None))
    machines = sorted({c['machine'] for c in cells})
    packages = sorted({f'{k} {v}' for c in cells for k, v in c['packages'].items()})
    section('How to get these numbers', f'{len(cells)} results of il_robot '
            f'{", ".join(sorted({c["version"] for c in cells}))}; {"; ".join(machines)}; '
            f'{", ".join(packages)}.')
    parts.append(f'<pre>{html.escape(command)}</pre>')
    lines.extend(['```', command, '```', ''])
    page = folder / 'report.html'
    title = html.escape(f'il_robot: {suite["name"]}')
    page.write_text(
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" '
        f'content="width=device-width,initial-scale=1"><title>{title}</title><style>{STYLE}'
        f'</style></head><body><main><h1>{title}</h1><p class="dim">'
        f'{html.escape(suite.get("about", ""))}</p>{"".join(parts)}</main></body></html>',
        encoding=TEXT)
    (folder / 'report.md').write_text('\n'.join(lines), encoding=TEXT)
    return page
