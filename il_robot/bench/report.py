"""One page that people want to read, made of the result files alone.

HTML with everything inside (styles, plots as SVG), the same tables as Markdown beside it, and the
plots as pictures of their own.
"""

from __future__ import annotations

import html
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from il_robot.bench import details, measures, tables
from il_robot.bench.measures import Curve
from il_robot.bench.outcome import EXPERT, REFERENCES
from il_robot.bench.tables import Table

STYLE = """
:root{--ink:#1b1f24;--dim:#5b6470;--line:#d9dee4;--paper:#fff;--soft:#f5f7f9;--mark:#0b62a4}
*{box-sizing:border-box}body{margin:0;background:var(--paper);color:var(--ink);
font:16px/1.55 system-ui,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif}
main{max-width:66rem;margin:0 auto;padding:2.5rem 1.5rem 4rem}h1{font-size:2rem;margin:0 0 .3rem}
h2{font-size:1.3rem;margin:2.6rem 0 .6rem;padding-top:.6rem;border-top:1px solid var(--line)}
p{max-width:46rem}.dim{color:var(--dim)}table{border-collapse:collapse;margin:.8rem 0;
font-size:.92rem;font-variant-numeric:tabular-nums}th,td{padding:.36rem .7rem;text-align:right;
border-bottom:1px solid var(--line);white-space:nowrap}th{font-weight:600;color:var(--dim);
white-space:normal;vertical-align:bottom}td:last-child{white-space:normal}
th:first-child,td:first-child{text-align:left}tbody tr:hover{background:var(--soft)}
.scroll{overflow-x:auto}.heat td{min-width:5.5rem}figure{margin:1rem 0}svg{max-width:100%;
height:auto}code,pre{font:.88rem/1.5 ui-monospace,Menlo,Consolas,monospace}
pre{background:var(--soft);padding:.8rem 1rem;overflow-x:auto;border-radius:6px}
@media print{main{max-width:none;padding:0}h2{break-after:avoid}figure,table{break-inside:avoid}}
"""
TEXT = 'utf-8'


def draw(curves: Sequence[Curve], what: str, label: str) -> Any:
    """Score over ``labels``, ``steps`` or ``seconds``: a small picture per environment."""
    environments = sorted({c.environment for c in curves})
    figure, axes = _grid(len(environments))
    for ax, environment in zip(axes, environments):
        for method, colour in _colours(curves).items():
            own = [c for c in curves if (c.method, c.environment) == (method, environment)]
            own = [c for c in own if getattr(c, what)[-1] > 0]
            if not own:
                continue
            for c in own:
                ax.plot(getattr(c, what), 100 * c.score, '.-', color=colour, alpha=0.25,
                        linewidth=1)
            ax.plot(*together(own, what), color=colour, label=method)
        ax.axhline(100, color='0.6', linewidth=0.8, linestyle=':')
        ax.set(title=environment, xlabel=label)
        _logarithmic(ax, np.concatenate([np.zeros(0), *(
            getattr(c, what) for c in curves
            if c.environment == environment and getattr(c, what)[-1] > 0)]))
        ax.set_ylim(*_shown(ax.get_ylim()))
        ax.grid(alpha=0.25)
    _legend(figure, axes)
    return figure


def _logarithmic(ax: Any, taken: Any) -> None:
    """An axis for what was taken; linear below the least of it, where something begins with 0."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    if not taken.any():
        return
    least, most = float(taken[taken > 0].min()), float(taken.max())
    if taken.min() > 0:
        ax.set_xscale('log')
        ax.xaxis.set_major_locator(
            LogLocator(subs=(1.0, 2.0, 5.0) if most < 50 * least else (1.0,)))
        ax.xaxis.set_minor_formatter(NullFormatter())
    else:
        ax.set_xscale('symlog', linthresh=least)
    ax.xaxis.set_major_formatter(FuncFormatter(
        lambda value, _: tables.amount(value) if value >= 1 else f'{value:g}'))
    ax.set_xlim(left=0.8 * float(taken.min()))


def _colours(curves: Sequence[Curve]) -> dict[str, str]:
    """By method, the same in all pictures of a page."""
    methods = {c.method for c in curves}
    return {m: f'C{i}' for i, m in enumerate(sorted(methods - {*REFERENCES}))} | {
        m: '0.3' for m in REFERENCES if m in methods}


def together(own: Sequence[Curve], what: str) -> tuple[Any, Any]:
    """Mean score of all seeds over what was taken, from where each has one.

    Every curve is a staircase: between two evaluations, and after the last, the older one counts.
    """
    # what fewer demonstrations took is not always less: the clock has its whims
    orders = [np.argsort(getattr(c, what), kind='stable') for c in own]
    steps = [np.asarray(getattr(c, what), float)[o] for c, o in zip(own, orders)]
    grid = np.unique(np.concatenate(steps))
    grid = grid[grid >= max(x[0] for x in steps)]
    at = [100 * c.score[o][np.searchsorted(x, grid, side='right') - 1]
          for c, o, x in zip(own, orders, steps)]
    return grid, np.mean(at, axis=0)


def _shown(limits: tuple[float, float]) -> tuple[float, float]:
    """From below 0 to above 100; what is far worse than chance is not all shown."""
    low, high = limits
    return max(min(low, -5.0), -60.0), max(high, 105.0)


def draw_robustness(curves: Sequence[Curve]) -> Any:
    """Score over the strength of each disturbance, by environment; None where none was tried."""
    pairs = [(e, d) for e in sorted({c.environment for c in curves})
             for d in measures.disturbances(curves, e)]
    if not pairs:
        return None
    figure, axes = _grid(len(pairs))
    for ax, (environment, disturbance) in zip(axes, pairs):
        for method, colour in _colours(curves).items():
            tried = [measures.under(c, disturbance) for c in curves
                     if (c.method, c.environment) == (method, environment)]
            tried = [t for t in tried if t]
            if tried:
                ax.plot([strength for strength, *_ in tried[0]],
                        100 * np.mean([[score for _, score, _ in t] for t in tried], axis=0), '.-',
                        color=colour, label=method)
        ax.set(title=environment, xlabel=disturbance)
        ax.set_ylim(*_shown(ax.get_ylim()))
        ax.grid(alpha=0.25)
    _legend(figure, axes)
    return figure


def _grid(count: int) -> tuple[Any, Any]:
    """A figure with so many small pictures, at most three in a row."""
    from matplotlib.figure import Figure

    columns = min(3, count)
    rows = -(-count // columns)
    figure = Figure(figsize=(4.2 * columns, 3.1 * rows), layout='constrained')
    axes = np.atleast_1d(figure.subplots(rows, columns)).ravel()
    for ax in axes[count:]:
        ax.axis('off')
    return figure, axes[:count]


def _legend(figure: Any, axes: Any) -> None:
    axes[0].set_ylabel('score: expert 100, random 0')
    handles = {h.get_label(): h for ax in axes for h in ax.get_legend_handles_labels()[0]}
    figure.legend(handles.values(), handles.keys(), loc='outside lower center',
                  ncols=max(1, min(6, len(handles))))


def svg(figure: Any) -> str:
    """A figure as part of a page."""
    out = io.StringIO()
    figure.savefig(out, format='svg', metadata={'Date': None})
    text = out.getvalue()
    return f'<figure>{text[text.index("<svg"):]}</figure>'


class _Page:
    """The page and the same in Markdown, section by section."""

    def __init__(self, title: str, about: str, folder: Path) -> None:
        self._title, self._about, self._folder = title, about, folder
        self._parts, self._lines = list[str](), [f'# {title}', '', about, '']

    def section(self, title: str, text: str, *shown: tuple[Table, Any]) -> None:
        """Tables, each with the colours of its cells or None."""
        self._parts.append(f'<h2>{html.escape(title)}</h2><p>{html.escape(text)}</p>')
        self._lines.extend([f'## {title}', '', text, ''])
        for table, shade in shown:
            self._parts.append(table.html(shade))
            self._lines.extend([table.markdown(), ''])

    def picture(self, figure: Any, name: str, title: str) -> None:
        """Inside the page, and as a file."""
        figure.savefig(self._folder / f'{name}.png', dpi=110)
        self._parts.append(svg(figure))
        self._lines.extend([f'![{title}]({name}.png)', ''])

    def command(self, text: str) -> None:
        """As it is typed."""
        self._parts.append(f'<pre>{html.escape(text)}</pre>')
        self._lines.extend(['```', text, '```', ''])

    def write(self) -> Path:
        """Both files; the page's path."""
        page = self._folder / 'report.html'
        title = html.escape(f'il_robot: {self._title}')
        page.write_text(
            f'<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" '
            f'content="width=device-width,initial-scale=1"><title>{title}</title><style>{STYLE}'
            f'</style></head><body><main><h1>{title}</h1><p class="dim">'
            f'{html.escape(self._about)}</p>{"".join(self._parts)}</main></body></html>',
            encoding=TEXT)
        (self._folder / 'report.md').write_text('\n'.join(self._lines), encoding=TEXT)
        return page


def write_report(
    cells: Sequence[Mapping[str, Any]], suite: Mapping[str, Any], folder: Path, command: str,
    failed: Mapping[str, str] | None = None,
) -> Path:
    """report.html, report.md and the pictures; the page's path.

    Args:
        cells: All results.
        suite: What was compared (suite.json).
        folder: Where to.
        command: That makes these numbers again.
        failed: Why there is no result, by environment, method and seed.
    """
    curves = measures.curves(cells)
    page = _Page(suite['name'], suite.get('about', ''), folder)
    _whole(page, curves, len(suite['seeds']),
           {**measures.without_scale(cells), **(failed or {})})
    for what, label in (('labels', 'labels of the expert'), ('steps', 'steps of the environment'),
                        ('seconds', 'seconds of collecting and training')):
        without = sorted({c.method for c in curves if not getattr(c, what).any()})
        page.section(f'Score over {label}', 'Thin lines are seeds, thick ones their mean; dots '
                     'are evaluations, on the way often with fewer episodes.'
                     + (f' Not here, since they take none: {", ".join(without)}.' if without
                        else ''))
        page.picture(draw(curves, what, label), what, f'score over {label}')
    _each(page, curves, measures.curves(cells, lambda name: name in REFERENCES))
    machines = sorted({c['machine'] for c in cells})
    packages = sorted({f'{k} {v}' for c in cells for k, v in c['packages'].items()})
    codes = sorted({c.get('code', 'of unknown sources') for c in cells})
    page.section('How to get these numbers', f'{len(cells)} results of il_robot '
                 f'{", ".join(sorted({c["version"] for c in cells}))} '
                 f'({len(codes)} states of its sources: {", ".join(codes)}); '
                 f'{"; ".join(machines)}; '
                 f'{", ".join(packages)}. One of them alone: add --environments, --methods and '
                 '--seeds.')
    page.command(command)
    return page.write()


def _whole(
    page: _Page, curves: Sequence[Curve], seeds: int, lacking: Mapping[str, str]
) -> None:
    """What is said of all environments together."""
    page.section(
        'Ranking', 'Mean over all environments of the mean over seeds, and the interquartile mean '
        'of all runs, which leaves out the best and the worst quarter: with few environments the '
        'very one on which a method fails. 100 is the expert, 0 is acting at random; by returns a '
        'method can be better than a scripted expert, and an interval of few seeds goes on '
        'beyond. Labels, steps and seconds are medians of whole runs. Methods that were not tried '
        'everywhere are at the end, with scores of other things.',
        (tables.ranking(curves, seeds), None))
    if lacking:
        page.section('What is missing', 'Not in any table or picture.', (Table(
            ['what', 'why'], sorted(map(list, lacking.items()))), None))
    asked, partly = tables.questions(curves), tables.partly(curves)
    if asked.rows:  # else no method was tried everywhere
        page.section(
            'Who is first, by question', 'The order alone: whether a difference of scores is '
            'shown at all, "Pairs" says. Of the methods that were tried everywhere'
            + (f' (not {", ".join(partly)})' if partly else '') + '; medians over '
            'all environments and seeds; what was not reached in most of them has no place.',
            (asked, None))
    page.section('Where each is strong', 'Mean over training seeds.', tables.heat(curves))
    page.section(
        'Pairs', 'At the end of each, over the environments, seeds and episodes that both have. '
        'p by Holm for as many pairs as there are: from 0.05 on no '
        'difference is shown, also where the interval of this pair alone is beside 0.',
        (tables.comparisons(curves), None))
    fair = tables.comparisons(curves, equal_labels=True)
    if fair.rows:
        page.section(
            'Pairs at equal labels', 'Of methods that did not end with as many: both at the '
            'greatest number, within a tenth, after which both were evaluated (with fewer '
            'episodes on the way); not where either was no more than a clone yet, or had less '
            'than half of what both end with. "there": not everywhere.', (fair, None))


def _each(page: _Page, curves: Sequence[Curve], ends: Sequence[Curve]) -> None:
    """What is said of every environment, and under disturbances; ``ends``: of the scale."""
    experts = [c for c in ends if c.method == EXPERT and c.cell['robustness']]
    strong = draw_robustness([*curves, *experts])
    if strong is not None:
        page.section('Score under disturbances', 'Of the last policy of each run, by the strength '
                     'of what it was not trained for; the tables are with the environments.')
        page.picture(strong, 'robustness', 'score under disturbances')
    for environment in sorted({c.environment for c in curves}):
        page.section(
            environment, '"to 90": until 90 % of the way from acting at random to the expert, at '
            'two evaluations in a row or the last one, median over seeds; labels, takeovers and '
            'seconds are of whole runs; "<=": with less it was not tried. "spread": deviation '
            'over seeds. How exactly the two ends of the scale are known is in no interval.',
            (details.quality([*curves, *ends], environment), None),
            (details.costs(curves, environment), None))
        for name in measures.disturbances(curves, environment):
            page.section(
                f'{environment} under {name}', 'The policies of the table above, tried where they '
                'were not trained, and the expert himself.',
                details.robustness([*curves, *experts], environment, name))
