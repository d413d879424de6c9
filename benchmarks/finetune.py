"""Imitation, then reinforcement: from a policy that works half of the time, by every algorithm.

    python benchmarks/finetune.py [STUDY ...] [--methods METHOD ...] [--seeds 0 1 2 3 4]
        [--minutes 45] [--output FOLDER]

Runs `il_robot record`, `train` and `finetune` as a user would, one after the other, each with all
cores, and goes on where it was. Beside the algorithms: `scratch` (PPO on fresh weights) and
`naive` (PPO on the cloned policy without warm-up, anchor and guard).
benchmarks/results/finetune.json gets every evaluation as soon as it is there,
finetune_STUDY.png the picture; with ``--table`` only the table in docs/reinforcement.md is written
again from what is there.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from il_robot.algorithms.finetune_config import read_records
from il_robot.algorithms.plots import plot_finetune_methods
from il_robot.checkpoints import find_checkpoint
from il_robot.policies.checkpoint import load_checkpoint, save_checkpoint
from il_robot.statistics import wilson

RESULTS = Path(__file__).parent / 'results' / 'finetune.json'
DOCUMENT = Path(__file__).parents[1] / 'docs' / 'reinforcement.md'
BEGIN, END = '<!-- results: benchmarks/finetune.py --table -->', '<!-- end of results -->'
# study: (recipe, demonstrations at first, options of the task, exploration of PPO)
STUDIES: dict[str, tuple[str, int, tuple[str, ...], str]] = {
    'insert_peg': ('mlp', 40, ('--task', 'insert_peg'), 'std=0.15'),
    'transfer_cube': ('mlp', 8, ('--task', 'transfer_cube'), 'std=0.2'),
}
_LEAST, _MOST = 80, 120  # of 200 that a policy may solve before
_TARGET = 0.95  # of the evaluations on the way; what is told are other episodes
_PROGRESS = ('--reward', 'progress', '--steps', '100000000', '--worlds', '16')
_PPO = ('--algorithm', 'ppo', *_PROGRESS, '--every', '300000')
METHODS: dict[str, tuple[str, ...]] = {
    'filtered': ('--algorithm', 'filtered', '--steps', '100000000'),
    'awr': ('--algorithm', 'awr', '--steps', '100000000'),
    'residual': ('--algorithm', 'residual', *_PROGRESS, '--every', '15000'),
    'rlpd': ('--algorithm', 'rlpd'),
    'residual_ppo': ('--algorithm', 'residual_ppo', *_PROGRESS, '--every', '30000'),
    'ppo': _PPO,
    'scratch': (*_PPO, '--set', 'warmup=0', '--set', 'anchor=0'),
    'naive': (*_PPO, '--set', 'warmup=0', '--set', 'anchor=0', '--set', 'adaptive=false', '--set',
              'target_kl=0', '--set', 'max_kl=0', '--set', 'learning_rate=3e-4'),
}
WITH_DEMONSTRATIONS = ('filtered', 'awr', 'rlpd')


def il_robot(log: Path, *words: Any) -> None:
    """The command, its output into a file."""
    environment = {**os.environ, 'OMP_NUM_THREADS': '1', 'OPENBLAS_NUM_THREADS': '1'}
    with log.open('a') as file:
        code = subprocess.run(
            [sys.executable, '-m', 'il_robot', *map(str, words)], env=environment, stdout=file,
            stderr=file).returncode
    if code:
        raise SystemExit(f'il_robot {" ".join(map(str, words))} ended with {code}; see {log}')


def base_policy(study: str, seed: int, folder: Path) -> tuple[Path, Path]:
    """Demonstrations and a policy cloned from them that solves 40 to 60 %; made where missing.

    How many demonstrations that takes is another number for each seed: more are recorded, or
    fewer, a quarter at a time. No other evaluation has the episodes that decide.
    """
    folder.mkdir(parents=True, exist_ok=True)
    place = folder / 'base.json'
    tried: dict[int, int] = {}
    if place.exists():
        tried = {int(n): solved for n, solved in json.loads(place.read_text()).items()}
    while (count := _next(tried, STUDIES[study][1])) not in tried:
        tried[count] = _clone(study, seed, folder / str(count), count)
        place.write_text(json.dumps(tried) + '\n')
        print(f'{study} seed {seed}: {count} demonstrations: {tried[count]} of 200', flush=True)
    data = read_results()
    data.setdefault('demonstrations', {}).setdefault(study, {})[str(seed)] = {
        'taken': count, 'solved_of_200': tried}
    RESULTS.write_text(json.dumps(data, indent=1) + '\n')
    return folder / str(count) / 'dataset', folder / str(count) / 'run'


def _next(tried: Mapping[int, int], first: int) -> int:
    """How many demonstrations to try; one that was tried where it is the best there is."""
    if not tried:
        return first
    few = [count for count, solved in tried.items() if solved < _LEAST]
    many = [count for count, solved in tried.items() if solved > _MOST]
    best = min(tried, key=lambda count: abs(tried[count] - (_LEAST + _MOST) / 2))
    if _LEAST <= tried[best] <= _MOST:
        return best
    if not many:
        return round(1.25 * max(few))
    if not few:
        return round(0.8 * min(many))
    middle = (max(few) + min(many)) // 2
    return best if middle in tried else middle


def _clone(study: str, seed: int, folder: Path, demonstrations: int) -> int:
    """Record and train; how many of 200 episodes are solved."""
    recipe, _, task, _ = STUDIES[study]
    folder.mkdir(exist_ok=True)
    dataset, run, log, told = (folder / n for n in ('dataset', 'run', 'log', 'evaluation.json'))
    il_robot(log, 'record', '--expert', '--episodes', demonstrations, '--output', dataset,
             '--resume', '--seed', 1_000_000 + 1000 * seed, *task)
    if not (run / 'run.json').exists():
        il_robot(log, 'train', '--policy', recipe, '--dataset', dataset, '--output', run,
                 '--seed', seed)
    else:
        il_robot(log, 'train', '--output', run, '--resume')
    told.unlink(missing_ok=True)
    il_robot(log, 'evaluate', '--policy', run, '--episodes', 200, '--seed0', 2_000_000,
             '--output', told, *task)
    solved: int = json.loads(told.read_text())['summary']['successes']
    return solved


def fresh(run: Path, seed: int) -> Path:
    """The same policy with fresh weights."""
    folder = run.parent / 'fresh'
    if not folder.exists():
        checkpoint, _ = load_checkpoint(find_checkpoint(run))
        torch.manual_seed(seed)
        save_checkpoint(folder, checkpoint, checkpoint.make_policy())
    return folder


def tune(study: str, method: str, seed: int, minutes: float, output: Path) -> None:
    """One run from where it is to its end."""
    dataset, run = base_policy(study, seed, output / f'{study}_{seed}')
    folder, log = output / f'{study}_{seed}' / method, output / f'{study}_{seed}' / 'log'
    words: tuple[Any, ...] = ('--resume',)
    if not (folder / 'finetune.json').exists():
        start = fresh(run, seed) if method == 'scratch' else run
        words = ('--from', start, *METHODS[method], *STUDIES[study][2], '--seed', seed,
                 '--minutes', minutes, '--target', _TARGET)
        if METHODS[method][:len(_PPO)] == _PPO:
            words += ('--set', STUDIES[study][3])
        if method in WITH_DEMONSTRATIONS:
            words += ('--dataset', dataset)
    il_robot(log, 'finetune', '--output', folder, *words)
    note(study, method, seed, read_records(folder))


def note(study: str, method: str, seed: int, records: Sequence[dict[str, Any]]) -> None:
    """Replace what the result file has of a run."""
    data = read_results()
    data.setdefault('studies', {}).setdefault(study, {}).setdefault(method, {})[str(seed)] = \
        list(records)
    data |= {'command': 'python benchmarks/finetune.py',  # how long: "why" of each end
             'machine': f'{platform.machine()}, {len(os.sched_getaffinity(0))} cores',
             'torch': torch.__version__}
    RESULTS.write_text(json.dumps(data, indent=1) + '\n')
    last = records[-1]
    print(f'{study} {method} seed {seed}: {last["successes"]} of {last["evaluated"]} after '
          f'{last["minutes"]:.1f} min ({last.get("why", "")})', flush=True)


def read_results() -> dict[str, Any]:
    """What there is."""
    found: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    return found


def rows(study: dict[str, Any]) -> Iterator[list[str]]:
    """One row of the table per method, over the seeds."""
    for method in METHODS:
        runs = [r for r in study.get(method, {}).values() if r[-1]['kind'] == 'end']
        if not runs:
            continue
        cells = [method, str(len(runs))]
        for kind in ('start', 'end'):
            found = [next(r for r in run if r['kind'] == kind) for run in runs]
            solved, total = (sum(r[k] for r in found) for k in ('successes', 'evaluated'))
            low, high = wilson(solved, total)
            each = ', '.join(f'{100 * r["success_rate"]:.0f}' for r in found)
            cells.append(f'{100 * solved / total:.1f} % [{100 * low:.1f}, {100 * high:.1f}] '
                         f'({each})')
        ways = [[100 * r['success_rate'] for r in run if r['kind'] == 'during'] for run in runs]
        falls = [way[0] - min(way) for way in ways]
        minutes = sum(run[-1]['minutes'] for run in runs) / len(runs)
        yield [*cells, f'{max(falls):.1f}', f'{minutes:.0f} min']


def table(studies: dict[str, Any]) -> str:
    """Markdown."""
    lines = ['| task | method | seeds | before (by seed) | at the end | deepest fall [points] | '
             'time |', '|---|---|---|---|---|---|---|']
    lines += [f'| {name} | {" | ".join(row)} |'
              for name in STUDIES if name in studies for row in rows(studies[name])]
    return '\n'.join(lines)


def publish() -> None:
    """The table into docs/reinforcement.md, and a picture for each study."""
    studies = read_results()['studies']
    text = table(studies)
    before, _, rest = DOCUMENT.read_text().partition(BEGIN)
    DOCUMENT.write_text(f'{before}{BEGIN}\n{text}\n{END}{rest.partition(END)[2]}')
    print(text)
    for name, methods in studies.items():
        plot_finetune_methods(
            {m: list(runs.values()) for m, runs in methods.items()},
            RESULTS.with_name(f'finetune_{name}.png'))


def main() -> None:
    """Run what is missing; write the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('studies', nargs='*', metavar='STUDY', help=', '.join(STUDIES))
    parser.add_argument('--methods', nargs='*', default=list(METHODS))
    parser.add_argument('--output', type=Path, default=Path('outputs/finetune_study'))
    parser.add_argument('--seeds', type=int, nargs='*', default=[0, 1, 2, 3, 4])
    parser.add_argument('--minutes', type=float, default=45.0)
    parser.add_argument('--table', action='store_true', help='only write what is there')
    args = parser.parse_args()
    if not set(args.studies) <= set(STUDIES) or not set(args.methods) <= set(METHODS):
        parser.error(f'studies are {", ".join(STUDIES)}; methods are {", ".join(METHODS)}')
    if not args.table:
        for seed in args.seeds:
            for study in args.studies or STUDIES:
                for method in args.methods:
                    tune(study, method, seed, args.minutes, args.output)
    publish()


if __name__ == '__main__':
    main()
