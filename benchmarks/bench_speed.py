"""What the harness of the benchmark costs, and what a second worker brings.

    python3 benchmarks/bench_speed.py [--suite quick] [--cells 8]

First `il_robot bench --suite quick` from nothing to the report, with a worker per core: how long,
and which part of the workers' time no cell was running in, though one was left to run (start,
hand-over, results, report). Then equal cells (PPO on CartPole, one seed each) through Ray with one
worker and with two, in turns.

Writes benchmarks/results/bench_speed.json. Targets: quick <= 10 min on two cores, overhead <= 3 %,
two Ray workers >= 1.7 times one.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / 'results' / 'bench_speed.json'


def bench(output: Path, *words: Any) -> tuple[float, float]:
    """One run of the command: when it began and how long it took [s]."""
    begun = time.time()
    done = subprocess.run(
        [sys.executable, '-m', 'il_robot', 'bench', '--output', str(output), *map(str, words)],
        capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    return begun, time.time() - begun


def cells(output: Path) -> list[tuple[float, float]]:
    """When each cell ran [s]."""
    found = [json.loads(p.read_text()) for p in sorted((output / 'results').rglob('*.json'))]
    return [(c['begun'], c['begun'] + c['wall_seconds']) for c in found]


def idle(ran: Sequence[tuple[float, float]], begun: float, wall: float, workers: int) -> float:
    """Seconds of workers without a cell, before the last cell began and after the last ended."""
    last, end = max(a for a, _ in ran), max(b for _, b in ran)
    busy = sum(min(b, last) - a for a, b in ran if a < last)
    return workers * (last - begun) - busy + workers * (begun + wall - end)


def main() -> int:
    """Measure and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--suite', default='quick')
    parser.add_argument('--cells', type=int, default=8)
    parser.add_argument('--repeats', type=int, default=3)
    args = parser.parse_args()
    workers = len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        begun, wall = bench(folder / 'suite', '--suite', args.suite)
        ran = cells(folder / 'suite')
        lost = idle(ran, begun, wall, workers)
        result: dict[str, Any] = {
            'command': f'python3 benchmarks/bench_speed.py --suite {args.suite} '
                       f'--cells {args.cells} --repeats {args.repeats}',
            'machine': f'{platform.machine()}, {workers} cores',
            'suite': {'name': args.suite, 'cells': len(ran), 'minutes': wall / 60,
                      'overhead': lost / (workers * wall)}}
        print(json.dumps(result['suite'], indent=1), flush=True)
        times: dict[int, list[float]] = {1: [], 2: []}
        for repeat in range(args.repeats):
            for count in times:
                _, wall = bench(
                    folder / f'ray_{count}_{repeat}', '--suite', 'quick', '--environments',
                    'cartpole', '--methods', 'ppo', '--seeds', *range(args.cells),
                    '--ray', 'local', '--workers', count)
                times[count].append(wall)
                print(f'{count} worker(s): {wall:.1f} s', flush=True)
    result['ray'] = {
        'cells': args.cells, 'seconds': times,
        'ratio': statistics.median(a / b for a, b in zip(times[1], times[2]))}
    print(json.dumps(result, indent=1))
    RESULTS.write_text(json.dumps(result, indent=1) + '\n')
    return int(result['suite']['minutes'] > 10 or result['suite']['overhead'] > 0.03
               or result['ray']['ratio'] < 1.7)


if __name__ == '__main__':
    sys.exit(main())
