"""Success of the first policies: every task x {chunk_mlp, mlp}, 50 demonstrations, unseen seeds.

    python benchmarks/first_policies.py [--tasks transfer_cube ...] [--output outputs/first]

Runs the commands a user would run, goes on where it was, and writes
benchmarks/results/first_policies.json with the evaluation of each (successes, Wilson interval).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

RESULTS = Path(__file__).parent / 'results' / 'first_policies.json'
TASKS = ('transfer_cube', 'insert_peg', 'lift_tray')
POLICIES = ('chunk_mlp', 'mlp')


def call(*words: str) -> None:
    """Run one il_robot command; stop when it fails."""
    print('$ il_robot', *words, flush=True)
    subprocess.run([sys.executable, '-m', 'il_robot', *words], check=True)


def main() -> None:
    """Record, train, evaluate; write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--tasks', nargs='*', default=TASKS)
    parser.add_argument('--output', type=Path, default=Path('outputs/first_policies'))
    parser.add_argument('--demonstrations', type=int, default=50)
    parser.add_argument('--episodes', type=int, default=200)
    parser.add_argument('--seeds', type=int, nargs='*', default=[0])
    args = parser.parse_args()
    rows = json.loads(RESULTS.read_text())['rows'] if RESULTS.exists() else []
    for task in args.tasks:
        dataset = args.output / f'{task}_{args.demonstrations}'
        call('record', '--expert', '--task', task, '--episodes', str(args.demonstrations),
             '--output', str(dataset), '--resume')
        for policy in POLICIES:
            for seed in args.seeds:
                run = args.output / f'{task}_{args.demonstrations}_{policy}_{seed}'
                report = run / 'evaluation.json'
                if not (run / 'loss.png').exists():
                    call('train', '--policy', policy, '--dataset', str(dataset),
                         '--output', str(run), '--seed', str(seed))
                if not report.exists():
                    call('evaluate', '--policy', str(run), '--task', task,
                         '--episodes', str(args.episodes), '--output', str(report))
                summary = json.loads(report.read_text())['summary']
                key = {'task': task, 'policy': policy, 'training_seed': seed,
                       'demonstrations': args.demonstrations}
                rows = [r for r in rows if {k: r[k] for k in key} != key]
                rows.append({**key, **summary})
                RESULTS.write_text(json.dumps(
                    {'command': 'python benchmarks/first_policies.py', 'rows': rows}, indent=1))
    for row in rows:
        low, high = row['interval_95']
        print(f'{row["task"]:14} {row["policy"]:10} {row["demonstrations"]:4} demos  '
              f'{100 * row["success_rate"]:5.1f} % [{100 * low:.1f}, {100 * high:.1f}] '
              f'n = {row["episodes"]}, failures {row["failures_by_stage"]}')


if __name__ == '__main__':
    main()
