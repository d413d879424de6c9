"""What ``make demo`` shows: success of both rounds, over topics and in process, and its time.

    python3 benchmarks/demo.py [--output outputs/demo]

Runs ``il_robot demo`` (which goes on where it was, so a finished one is only read) and writes
benchmarks/results/demo.json. The episodes over topics have the seeds of the first ones in
process: what differs between them is the graph. Targets: <= 10 min; over topics faster than
real time, with a success whose interval meets that in process.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from il_robot.apps.demo_report import LIVE_ROUNDS, ROUNDS, evaluation, live  # noqa: E402
from il_robot.data.dataset import open_dataset  # noqa: E402
from il_robot.statistics import wilson  # noqa: E402


def rate(successes: list[bool]) -> dict[str, Any]:
    """Successes with their 95 % interval."""
    solved = sum(successes)
    return {'n': len(successes), 'successes': solved, 'rate': solved / len(successes),
            'interval_95': wilson(solved, len(successes))}


def over_topics(out: Path) -> dict[str, Any]:
    """The session over topics beside the same seeds in process."""
    session = json.loads((out / 'topics' / 'session.json').read_text())
    report = json.loads(evaluation(out, 'corrected', disturbed=False).read_text())
    here = {e['seed']: e for e in report['episodes']}
    pairs = [(e, here[e['seed']]) for e in session['results']]
    return {
        'over_topics': rate([a['success'] for a, _ in pairs]),
        'in_process': rate([b['success'] for _, b in pairs]),
        'seeds_that_differ': [a['seed'] for a, b in pairs if a['success'] != b['success']],
        'ratio_to_real_time':
            sum(a['seconds'] for a, _ in pairs) / session['wall_seconds'],
    }


def main() -> int:
    """Run, read, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--output', type=Path, default=Path('outputs/demo'))
    args = parser.parse_args()
    code = subprocess.call(
        [sys.executable, '-m', 'il_robot', 'demo', '--output', str(args.output)])
    if code:
        return code
    ledger = json.loads((args.output / 'demo.json').read_text())
    dataset = open_dataset(live(args.output) / 'dataset')
    result = {
        'command': 'python3 benchmarks/demo.py',
        'machine': f'{platform.machine()}, {os.cpu_count()} cores',
        'versions': {n: version(n) for n in ('rclpy', 'torch', 'pybullet', 'numpy')},
        'options': ledger['options'],
        'seconds': ledger['done'], 'minutes': sum(ledger['done'].values()) / 60,
        'episodes': [sum(e.round == number for e in dataset.episodes)
                     for number in range(1 + LIVE_ROUNDS)],
        'rows_corrected': int(dataset.intervention.sum()),
        'success': {
            f'{name}{", part shoved" if disturbed else ""}': rate([
                e['success'] for e in json.loads(
                    evaluation(args.output, name, disturbed=disturbed).read_text())['episodes']])
            for disturbed in (False, True) for name in ROUNDS},
        'graph': over_topics(args.output),
    }
    print(json.dumps(result, indent=1))
    path = HERE / 'results' / 'demo.json'
    path.write_text(json.dumps(result, indent=1) + '\n')
    return 0


if __name__ == '__main__':
    sys.exit(main())
