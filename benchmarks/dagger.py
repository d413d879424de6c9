"""Rounds of correction against demonstrations alone: five seeds, 200 unseen episodes each round.

    python benchmarks/dagger.py [STUDY ...] [--seeds 0 1 2 3 4] [--jobs 2] [--output FOLDER]

Runs `il_robot dagger` as a user would, one process and one thread for each seed, ``--jobs`` at
once, and goes on where it was. benchmarks/results/dagger.json gets every round of every run as
soon as it is there, dagger_STUDY.png the picture; with ``--table`` only the table in
docs/dagger.md is written again from what is there.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock
from typing import Any

from il_robot.algorithms.plots import plot_rounds
from il_robot.statistics import wilson

RESULTS = Path(__file__).parent / 'results' / 'dagger.json'
DOCUMENT = Path(__file__).parents[1] / 'docs' / 'dagger.md'
BEGIN, END = '<!-- results: benchmarks/dagger.py --table -->', '<!-- end of results -->'
# Corrections were as exact as the scripted expert in the studies that say so.
EXACT = ('--exact-corrections',)
ONE_STEP = ('--policy', 'mlp', '--demonstrations', '10', '--episodes', '20', '--rounds', '2',
            *EXACT)
ENSEMBLE = ('--policy', 'ensemble_mlp', '--demonstrations', '10', '--episodes', '20', *EXACT)
ASKED = ('--budget', '0.2', '--no-relabel')
CHUNK = ('--rounds', '2', '--no-relabel', '--compare')
# He who takes over finishes the task, and does not wait long.
FINISH = ('--gate', 'human', '--gate-option',
          'rule={min_correction: 8.0, max_correction: 10.0, stall_time: 1.5}')
STUDIES: dict[str, tuple[str, ...]] = {
    'one_step': (*ONE_STEP, '--gate', 'beta', '--gate-option', 'period=0.2', '--compare'),
    'full': (*ENSEMBLE, '--rounds', '3', '--gate', 'beta', '--gate-option', 'period=0.2'),
    'lazy': (*ENSEMBLE, '--rounds', '3', '--gate', 'lazy', *ASKED),
    **{name: (*ENSEMBLE, '--rounds', '2', '--gate', name, *ASKED)
       for name in ('ensemble', 'safe', 'thrifty')},
    'chunk_posture': (*CHUNK, *FINISH, '--policy', 'chunk_mlp', '--demonstrations', '30',
                      '--episodes', '60', '--disturb', 'start_posture=0.1',
                      '--quiet-demonstrations'),
    'chunk_shoves': (*CHUNK, *FINISH, '--policy', 'chunk_mlp', '--demonstrations', '10',
                     '--episodes', '20', '--width', 'wide', '--disturb', 'shoves=1'),
    'chunk_insert_peg': (*CHUNK, '--policy', 'chunk_mlp_insert_peg', '--gate', 'human',
                         '--demonstrations', '10', '--episodes', '20', '--task', 'insert_peg',
                         '--noise', '0.005', *EXACT),
}
ASKING = ('full', 'ensemble', 'safe', 'lazy', 'thrifty')
"""One setting, five ways to ask; all begin with the policies of the first."""
LOCK = Lock()


def run(study: str, seed: int, folder: Path) -> None:
    """One run from where it is to its end; its rounds into the result file as they come."""
    output = folder / f'{study}_{seed}'
    rounds = output / f'seed_{seed}' / 'rounds.json'
    begun = output.exists() and any(output.iterdir())
    words = (['--output', str(output), '--resume'] if begun else [
        *STUDIES[study], '--seeds', str(seed), '--output', str(output),
        '--set', 'training.threads=1'])
    beginning = folder / f'{ASKING[0]}_{seed}'
    if not begun and study in ASKING[1:] and beginning.exists():
        words += ['--first', str(beginning)]
    environment = {**os.environ, 'OMP_NUM_THREADS': '1', 'OPENBLAS_NUM_THREADS': '1'}
    with (folder / f'{study}_{seed}.log').open('a') as log:
        process = subprocess.Popen(
            [sys.executable, '-m', 'il_robot', 'dagger', *words, '--workers', '1'],
            env=environment, stdout=log, stderr=log)
        while True:
            try:
                code = process.wait(20)
            except subprocess.TimeoutExpired:
                code = None
            if rounds.exists():
                note(study, seed, json.loads(rounds.read_text())['rounds'])
            if code is not None:
                break
    if code:
        raise SystemExit(f'{study}, seed {seed}: il_robot dagger ended with {code}; see its log')


def note(study: str, seed: int, rounds: Sequence[dict[str, Any]]) -> None:
    """Replace what the result file has of a run."""
    with LOCK:
        studies = read_results()
        of_study = studies.setdefault(study, {'command': ' '.join(
            ('il_robot dagger', *STUDIES[study])), 'runs': {}})
        if of_study['runs'].get(str(seed)) == list(rounds):
            return
        of_study['runs'][str(seed)] = list(rounds)
        RESULTS.write_text(json.dumps(
            {'command': 'python benchmarks/dagger.py', 'studies': studies}, indent=1) + '\n')
        last = rounds[-1]
        print(f'{study:18} seed {seed} round {last["round"]} {last["method"]:9} '
              f'{last["labels"]:6} labels {last["successes"]:3} of {last["evaluated"]}',
              flush=True)


def read_results() -> dict[str, Any]:
    """The studies there are."""
    if not RESULTS.exists():
        return {}
    studies: dict[str, Any] = json.loads(RESULTS.read_text())['studies']
    return studies


def pooled(study: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """One row per method and round, over the seeds."""
    groups: dict[tuple[int, str], list[dict[str, Any]]] = {}
    for rounds in study['runs'].values():
        for record in rounds:
            groups.setdefault((record['round'], record['method']), []).append(record)
    for (number, method), group in sorted(groups.items()):
        solved, total = (sum(r[k] for r in group) for k in ('successes', 'evaluated'))
        mean = {key: sum(r[key] for r in group) / len(group)
                for key in ('labels', 'expert_seconds', 'switches')}
        yield {'round': number, 'method': method, 'seeds': len(group), 'episodes': total,
               'success_rate': solved / total, 'interval_95': wilson(solved, total), **mean}


def table(studies: dict[str, Any]) -> str:
    """Markdown."""
    lines = ['| study | round | labelled by | labels | driven by the expert | takeovers | success '
             '| 95 % (n, seeds) |', '|---|---|---|---|---|---|---|---|']
    for name in STUDIES:
        for row in pooled(studies[name]) if name in studies else ():
            low, high = (100 * v for v in row['interval_95'])
            who = 'demonstrations' if row['method'] == 'bc' or not row['round'] \
                else f'gate {row["method"]}'
            lines.append(
                f'| {name} | {row["round"]} | {who} | {row["labels"]:.0f} | '
                f'{row["expert_seconds"]:.0f} s | {row["switches"]:.0f} | '
                f'{100 * row["success_rate"]:.1f} % | {low:.1f} to {high:.1f} '
                f'(n = {row["episodes"]}, {row["seeds"]}) |')
    return '\n'.join(lines)


def publish(studies: dict[str, Any]) -> None:
    """The table into docs/dagger.md, and a picture for each setting."""
    text = table(studies)
    before, _, rest = DOCUMENT.read_text().partition(BEGIN)
    DOCUMENT.write_text(f'{before}{BEGIN}\n{text}\n{END}{rest.partition(END)[2]}')
    print(text)
    pictures = {name: [name] for name in studies if name not in ASKING}
    if any(name in studies for name in ASKING):
        pictures['asking'] = [name for name in ASKING if name in studies]
    for name, members in pictures.items():
        # all begin alike: round 0 of the first stands for the others'
        records = [r for m in members for rounds in studies[m]['runs'].values() for r in rounds
                   if r['round'] or m == members[0]]
        plot_rounds(records, RESULTS.with_name(f'dagger_{name}.png'))


def main() -> None:
    """Run what is missing; write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('studies', nargs='*', metavar='STUDY', help=', '.join(STUDIES))
    parser.add_argument('--output', type=Path, default=Path('outputs/dagger_study'))
    parser.add_argument('--seeds', type=int, nargs='*', default=[0, 1, 2, 3, 4])
    parser.add_argument('--jobs', type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument('--table', action='store_true', help='only write what is there')
    args = parser.parse_args()
    if not set(args.studies) <= set(STUDIES):
        parser.error(f'studies are {", ".join(STUDIES)}')
    if not args.table:
        args.output.mkdir(parents=True, exist_ok=True)
        todo = [(study, seed) for study in args.studies or STUDIES for seed in args.seeds]
        with ThreadPoolExecutor(args.jobs) as pool:
            for future in [pool.submit(run, *each, args.output) for each in todo]:
                future.result()
    publish(read_results())


if __name__ == '__main__':
    main()
