"""What the demo has shown: a table, and a plot of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROUNDS = {'round_0': 'demonstrations', 'corrected': '+ corrections'}
PICTURE = 'demo.png'
LIVE_ROUNDS = 2


@dataclass(frozen=True)
class Measured:
    """A success rate with its interval, in percent."""

    rate: float
    low: float
    high: float

    def __str__(self) -> str:
        return f'{self.rate:.1f} % [{self.low:.1f}, {self.high:.1f}]'


def live(out: Path) -> Path:
    """The folder of the rounds of corrections; its dataset has the demonstrations, too."""
    return out / 'live'


def policy(out: Path, name: str) -> Path:
    """The training run of one of :data:`ROUNDS`."""
    last = live(out) / 'rounds' / f'{LIVE_ROUNDS:02d}' / 'run'
    return last if name == 'corrected' else out / name


def evaluation(out: Path, name: str, *, disturbed: bool) -> Path:
    """Where the evaluation of a policy is written."""
    return out / f'evaluation_{name}{"_disturbed" if disturbed else ""}.json'


def show(out: Path, seconds: Mapping[str, float], topics: bool) -> None:
    """Print the table and write the plot.

    Args:
        out: Folder of the demo.
        seconds: Part to how long it took [s].
        topics: Whether it ran over topics, with corrections.
    """
    import numpy as np
    from rich.console import Console
    from rich.table import Table

    rounds = [*ROUNDS] if topics else ['round_0']
    rows = measured(out, rounds)
    table = Table(title='il_robot demo', title_justify='left')
    table.add_column('')
    for name in rounds:
        table.add_column(ROUNDS[name], justify='right')
    counts = np.cumsum([len(e) for e in _episodes(out, len(rounds))])
    table.add_row('episodes in the dataset', *map(str, counts))
    if topics:
        table.add_row('corrections', '', _corrections(out))
    for label, values in rows.items():
        table.add_row(label, *(str(v) if v else '' for v in values))
    table.add_row('seconds', *(f'{seconds.get(part, 0):.0f}' for part in
                               ('train round_0', 'dagger')[:len(rounds)]))
    plot(rows, [ROUNDS[name] for name in rounds], out / PICTURE)
    console = Console()
    console.print()
    console.print(table)
    console.print(f'all of it: {sum(seconds.values()) / 60:.1f} minutes; written:')
    video = evaluation(out, rounds[-1], disturbed=False).with_suffix('.mp4')
    data = live(out) if topics else out
    for path in (out / PICTURE, video, data / 'dataset', *(policy(out, name) for name in rounds)):
        console.print(f'  {path}', soft_wrap=True, markup=False)
    console.print('Next: look at the video; il_robot dataset plot; il_robot launch --help')


def measured(out: Path, rounds: list[str]) -> dict[str, list[Measured | None]]:
    """What was measured to the success of each round's policy; None where it was not."""
    rows: dict[str, list[Measured | None]] = {}
    for disturbed, how in ((False, ''), (True, ', part shoved')):
        paths = [evaluation(out, name, disturbed=disturbed) for name in rounds]
        if paths[0].exists():
            found = [json.loads(path.read_text())['summary'] for path in paths]
            rows[f'success, {found[0]["episodes"]} seeds{how}'] = [*map(_percent, found)]
    session = out / 'topics' / 'session.json'
    if session.exists():
        data = json.loads(session.read_text())
        rows[f'success, {data["episodes"]} seeds, over topics'] = [
            *[None] * (len(rounds) - 1), _percent(data)]
    return rows


def _percent(data: Mapping[str, Any]) -> Measured:
    low, high = data['interval_95']
    return Measured(100 * data['success_rate'], 100 * low, 100 * high)


def _episodes(out: Path, rounds: int) -> list[list[Any]]:
    """The episodes of each round."""
    from il_robot.data.dataset import open_dataset

    folder = live(out) if rounds > 1 else out
    episodes = open_dataset(folder / 'dataset').episodes
    return [[e for e in episodes if (e.round > 0) is bool(number)] for number in range(rounds)]


def _corrections(out: Path) -> str:
    """How often the expert took over, and how much of the time it drove."""
    import numpy as np

    from il_robot.data.dataset import open_dataset

    dataset = open_dataset(live(out) / 'dataset')
    rows = [dataset.intervention[start:stop] for start, stop, episode in
            zip(dataset.starts, dataset.stops, dataset.episodes) if episode.round]
    times = sum(int(np.diff(r.astype(int), prepend=0).clip(0).sum()) for r in rows)
    share = np.concatenate(rows).mean() if rows else 0.0
    return f'{times}, {share:.0%} of the time'


def plot(rows: Mapping[str, list[Measured | None]], rounds: list[str], path: Path) -> None:
    """Bars with intervals, one group per row of the table."""
    import numpy as np
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout='constrained')
    axes = figure.add_subplot()
    width = 0.8 / len(rounds)
    for i, name in enumerate(rounds):
        found = [(x, row[i]) for x, row in enumerate(rows.values())]
        bars = [(x, m) for x, m in found if m is not None]
        x = np.array([x for x, _ in bars]) + (i - (len(rounds) - 1) / 2) * width
        rates = [m.rate for _, m in bars]
        errors = np.array([(m.rate - m.low, m.high - m.rate) for _, m in bars]).clip(0).T
        drawn = axes.bar(x, rates, 0.95 * width, label=name)
        axes.errorbar(x, rates, errors, fmt='none', color='black', capsize=4)
        axes.bar_label(drawn, fmt='%.1f', label_type='center', color='white')
    axes.set(ylabel='success [%], 95 % interval', ylim=(0, 105), xticks=range(len(rows)),
             xticklabels=[label.replace(', ', '\n') for label in rows])
    axes.legend(loc='lower center', bbox_to_anchor=(0.5, 1.0), ncols=len(rounds))
    axes.grid(axis='y', alpha=0.3)
    figure.savefig(path, dpi=120)
