"""Success of every recipe on every task: three training seeds, 200 unseen episodes each.

    python benchmarks/policies.py [--only transfer_cube/flow ...] [--jobs 2] [--output FOLDER]

Runs the commands a user would run (one thread each, ``--jobs`` at once), goes on where it was,
and writes benchmarks/results/policies.json after each evaluation: successes with their Wilson
interval, what failed, how long the training took. In the end, or with ``--table`` at once, the
table goes into docs/policies.md and the pictures beside the result file.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Lock
from typing import Any

from il_robot.statistics import wilson

RESULTS = Path(__file__).parent / 'results' / 'policies.json'
RECIPES = {
    'transfer_cube': ('flow', 'act', 'diffusion', 'chunk_mlp', 'mlp', 'mlp_gaussian', 'mlp_gmm',
                      'mlp_images'),
    'lift_tray': ('chunk_mlp_lift_tray', 'chunk_mlp', 'mlp'),
    'insert_peg': ('mlp_insert_peg', 'chunk_mlp_insert_peg', 'flow_insert_peg',
                   'chunk_mlp', 'act', 'flow', 'diffusion', 'mlp'),
}
DOCUMENT = Path(__file__).parents[1] / 'docs' / 'policies.md'
BEGIN, END = '<!-- results: benchmarks/policies.py --table -->', '<!-- end of results -->'
DEMONSTRATIONS = 50
CURVE = (10, 20, 50, 100)
CURVES = ('transfer_cube/chunk_mlp', 'transfer_cube/mlp')
"""More and fewer demonstrations for these."""
FILMED = {'mlp_images': ('overhead', 'wrist_left', 'wrist_right')}
"""The cameras of recipes that need any; the other demonstrations have no pictures."""
LOCK = Lock()


@dataclass(frozen=True)
class Case:
    """One training run."""

    task: str
    recipe: str
    demonstrations: int
    training_seed: int

    @property
    def name(self) -> str:
        """Of its folder."""
        return f'{self.task}_{self.demonstrations}_{self.recipe}_{self.training_seed}'

    @property
    def dataset(self) -> str:
        """Of its demonstrations' folder."""
        filmed = '_filmed' if self.recipe in FILMED else ''
        return f'{self.task}_{self.demonstrations}{filmed}'


def cases(only: list[str], seeds: list[int]) -> Iterator[Case]:
    """All runs, or those whose ``task/recipe`` is named."""
    for seed in seeds:
        for task, recipes in RECIPES.items():
            for recipe in recipes:
                name = f'{task}/{recipe}'
                if only and name not in only:
                    continue
                for count in CURVE if name in CURVES else (DEMONSTRATIONS,):
                    yield Case(task, recipe, count, seed)


def call(log: Path, *words: str) -> float:
    """Run one il_robot command with one thread, output to a file; its seconds."""
    environment = {**os.environ, 'OMP_NUM_THREADS': '1', 'OPENBLAS_NUM_THREADS': '1'}
    start = time.perf_counter()
    with log.open('a') as file:
        subprocess.run([sys.executable, '-m', 'il_robot', *words], check=True, env=environment,
                       stdout=file, stderr=file)
    return time.perf_counter() - start


def run(case: Case, folder: Path, episodes: int) -> None:
    """Train and evaluate, or take what is there; note the result."""
    output, log = folder / case.name, folder / f'{case.name}.log'
    report, clock = output / 'evaluation.json', output / 'seconds.json'
    if not clock.exists():
        resume = (['--output', str(output), '--resume'] if (output / 'run.json').exists() else [
            '--policy', case.recipe, '--dataset', str(folder / case.dataset),
            '--output', str(output), '--seed', str(case.training_seed),
            '--set', 'training.threads=1'])
        seconds = call(log, 'train', *resume)
        clock.write_text(json.dumps(seconds))
    done = len(json.loads(report.read_text())['episodes']) if report.exists() else 0
    if done < episodes:
        call(log, 'evaluate', '--policy', str(output), '--task', case.task, '--workers', '1',
             '--episodes', str(episodes), '--output', str(report),
             *(['--resume'] if done else []))
    row = {**asdict(case), **json.loads(report.read_text())['summary'],
           'training_seconds': round(json.loads(clock.read_text()))}
    note(case, row)


def note(case: Case, row: dict[str, Any]) -> None:
    """Add a row to the result file."""
    key = asdict(case)
    with LOCK:
        rows = read_rows()
        rows = [r for r in rows if {k: r[k] for k in key} != key] + [row]
        rows.sort(key=lambda r: [str(r[k]).rjust(20) for k in key])
        RESULTS.write_text(json.dumps(
            {'command': 'python benchmarks/policies.py', 'rows': rows}, indent=1) + '\n')
        low, high = (100 * v for v in row['interval_95'])
        print(f'{case.name:44} {row["successes"]:3} of {row["episodes"]} '
              f'[{low:.1f}, {high:.1f}] %, {row["training_seconds"]} s', flush=True)


def read_rows() -> list[dict[str, Any]]:
    """The rows there are."""
    return json.loads(RESULTS.read_text())['rows'] if RESULTS.exists() else []


def record(case: Case, folder: Path) -> None:
    """The demonstrations of a case, of the command's own seeds; what is there stays."""
    cameras = FILMED.get(case.recipe, ())
    filmed = ['--cameras', *cameras, '--image-size', '320x240'] if cameras else []
    call(folder / 'record.log', 'record', '--expert', '--task', case.task, '--episodes',
         str(case.demonstrations), '--output', str(folder / case.dataset), '--resume', *filmed)


def pooled(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row per task, recipe and number of demonstrations, over the training seeds."""
    groups: dict[tuple[str, str, int], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row['task'], row['recipe'], row['demonstrations']), []).append(row)
    out = []
    for (task, recipe, count), group in groups.items():
        solved, total = (sum(r[k] for r in group) for k in ('successes', 'episodes'))
        each = [r['successes'] / r['episodes'] for r in group]
        seconds = sorted(r['training_seconds'] for r in group)
        out.append({
            'task': task, 'recipe': recipe, 'demonstrations': count, 'seeds': len(group),
            'episodes': total, 'success_rate': solved / total,
            'interval_95': wilson(solved, total),
            'worst_seed': min(each), 'best_seed': max(each),
            'training_seconds': seconds[len(seconds) // 2]})
    return out


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown."""
    lines = ['| task | recipe | demonstrations | success | 95 % | each seed | training |',
             '|---|---|---|---|---|---|---|']
    for row in pooled(rows):
        low, high = (100 * v for v in row['interval_95'])
        lines.append(
            f'| {row["task"]} | `{row["recipe"]}` | {row["demonstrations"]} | '
            f'{100 * row["success_rate"]:.1f} % | {low:.1f} to {high:.1f} (n = '
            f'{row["episodes"]}) | {100 * row["worst_seed"]:.1f} to '
            f'{100 * row["best_seed"]:.1f} ({row["seeds"]}) | {row["training_seconds"]} s |')
    return '\n'.join(lines)


def publish(rows: list[dict[str, Any]]) -> None:
    """The table into docs/policies.md, and the pictures."""
    text = table(rows)
    before, _, rest = DOCUMENT.read_text().partition(BEGIN)
    DOCUMENT.write_text(f'{before}{BEGIN}\n{text}\n{END}{rest.partition(END)[2]}')
    print(text)
    draw(pooled(rows), RESULTS.with_suffix('.png'))


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Success with its interval by recipe, and over the number of demonstrations."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 5), layout='constrained')
    bars, curve = figure.subplots(1, 2, width_ratios=(3, 2))
    shown = [r for r in rows if r['demonstrations'] == DEMONSTRATIONS][::-1]
    for y, row in enumerate(shown):
        low, high = row['interval_95']
        color = f'C{list(RECIPES).index(row["task"])}'
        bars.plot([100 * low, 100 * high], [y, y], color=color, lw=4, solid_capstyle='butt')
        bars.plot(100 * row['success_rate'], y, 'o', color=color)
    bars.set_yticks(range(len(shown)), [f'{r["task"]}  {r["recipe"]}' for r in shown])
    bars.set(xlim=(-2, 102), xlabel='success [%], 95 % interval, all training seeds')
    bars.set_title(f'{DEMONSTRATIONS} demonstrations')
    for name in CURVES:
        task, recipe = name.split('/')
        line = sorted((r for r in rows if (r['task'], r['recipe']) == (task, recipe)),
                      key=lambda r: int(r['demonstrations']))
        if not line:
            continue
        rate, low, high = (
            [100 * v for v in values] for values in
            zip(*((r['success_rate'], *r['interval_95']) for r in line)))
        x = [r['demonstrations'] for r in line]
        curve.plot(x, rate, 'o-', label=name)
        curve.fill_between(x, low, high, alpha=0.2)
    curve.set(xscale='log', xticks=CURVE, xticklabels=CURVE, ylim=(-2, 102),
              xlabel='demonstrations', ylabel='success [%]')
    curve.minorticks_off()
    if curve.lines:
        curve.legend()
    for axes in (bars, curve):
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=110)


def main() -> None:
    """Record, train, evaluate; write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--only', nargs='*', default=[], metavar='TASK/RECIPE')
    parser.add_argument('--output', type=Path, default=Path('outputs/policies'))
    parser.add_argument('--episodes', type=int, default=200)
    parser.add_argument('--seeds', type=int, nargs='*', default=[0, 1, 2])
    parser.add_argument('--jobs', type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument('--table', action='store_true', help='only print what is there')
    args = parser.parse_args()
    if not args.table:
        args.output.mkdir(parents=True, exist_ok=True)
        todo = list(cases(args.only, args.seeds))
        for case in {c.dataset: c for c in todo}.values():
            record(case, args.output)
        with ThreadPoolExecutor(args.jobs) as pool:
            for future in [pool.submit(run, c, args.output, args.episodes) for c in todo]:
                future.result()
    publish(read_rows())


if __name__ == '__main__':
    main()
