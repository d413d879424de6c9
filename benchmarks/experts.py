"""Success of the scripted experts: every task x what can go wrong, on fixed seeds.

    python3 benchmarks/experts.py [--tasks insert_peg] [--conditions nominal] [--workers 2]

Prints a table with Wilson 95 % intervals and where the failed episodes ended, and writes
benchmarks/results/experts.json. Targets: >= 99 % nominal, >= 95 % with two shoves.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ.setdefault('OMP_NUM_THREADS', '1')  # matrices of 3 x 3: a second thread only waits

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from il_robot.algorithms.evaluate import evaluate, summary  # noqa: E402
from il_robot.algorithms.expert import expert_controller  # noqa: E402
from il_robot.sim import make, task_names  # noqa: E402


@dataclass(frozen=True)
class Condition:
    """Arguments of :func:`il_robot.sim.make`, and how many seeds."""

    episodes: int = 100
    options: dict[str, Any] = field(default_factory=dict)
    tasks: tuple[str, ...] = task_names()


CONDITIONS = {
    'nominal': Condition(200),
    'two shoves': Condition(200, {'disturbances': {'shoves': 2}}),
    'wide': Condition(options={'width': 'wide'}),
    'one drop': Condition(options={'disturbances': {'drops': 1}}),
    'start posture 0.3 rad': Condition(options={'disturbances': {'start_posture': 0.3}}),
    'action noise 0.005 rad': Condition(options={'disturbances': {'action_noise': 0.005}}),
    'observation noise 1 mm, 1 mrad': Condition(
        options={'disturbances': {'observation_noise': 0.001}}),
    'style 1.0': Condition(options={'expert_variation': 1.0}),
    **{
        f'clearance {mm} mm': Condition(
            options={'task_options': {'clearance': mm / 1000}}, tasks=('insert_peg',))
        for mm in (2, 3, 5, 6)
    },
}


def main() -> None:
    """Run, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--tasks', nargs='*', default=task_names(), choices=task_names())
    parser.add_argument('--conditions', nargs='*', default=list(CONDITIONS), choices=CONDITIONS)
    parser.add_argument('--episodes', type=int, help='instead of 100 or 200')
    parser.add_argument('--workers', type=int, default=2)
    parser.add_argument('--output', type=Path, default=HERE / 'results' / 'experts.json')
    args = parser.parse_args()
    rows = []
    for task in args.tasks:
        for name in args.conditions:
            condition = CONDITIONS[name]
            if task not in condition.tasks:
                continue
            start = time.monotonic()
            done = evaluate(
                partial(make, task, **condition.options), expert_controller,
                range(args.episodes or condition.episodes), workers=args.workers)
            row = {'task': task, 'condition': name, **summary(done.episodes()),
                   'failed_seeds': [e.seed for e in done.episodes() if not e.success],
                   'broken': done.failures}
            rows.append(row)
            low, high = (100 * v for v in row['interval_95'])
            print(f'{task:14} {name:30} {row["successes"]:3}/{row["episodes"]} '
                  f'[{low:5.1f}, {high:5.1f}] %  {row["mean_length"]:5.0f} steps '
                  f'{time.monotonic() - start:4.0f} s  {row["failures_by_stage"] or ""} '
                  f'{row["failed_seeds"][:12] or ""} {row["broken"] or ""}', flush=True)
    args.output.write_text(json.dumps({
        'command': ' '.join(['python3 benchmarks/experts.py', *sys.argv[1:]]),
        'machine': {'processor': platform.machine(), 'system': platform.system(),
                    'cpus': os.cpu_count(), 'python': platform.python_version()},
        'versions': {name: version(name) for name in ('numpy', 'pybullet', 'gymnasium')},
        'rows': rows,
    }, indent=1) + '\n')


if __name__ == '__main__':
    main()
