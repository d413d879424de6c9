"""From the command ``il_robot train`` to its first step, imports included.

The command runs with ``--steps 1`` on a dataset of the size of 50 demonstrations; the time is
taken when the record of that step is in ``metrics.jsonl``. The reference is ``import torch`` in
a bare interpreter; both take turns. Target: <= 5 s on a machine that is not busy.

    python3 benchmarks/startup.py [--repeats 7]

Writes benchmarks/results/startup.json.
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
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import synthetic_episodes as synthetic  # noqa: E402

EPISODES, ROWS = 50, 140


def first_step(dataset: Path, output: Path) -> float:
    """Seconds until the first step is logged."""
    begin = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, '-m', 'il_robot', 'train', '--policy', 'mlp', '--dataset', str(dataset),
         '--output', str(output), '--steps', '1'],
        env={**os.environ, 'PYTHONPATH': str(HERE.parent)}, stdout=subprocess.DEVNULL)
    metrics = output / 'metrics.jsonl'
    while process.poll() is None and not (metrics.exists() and metrics.stat().st_size):
        time.sleep(0.005)
    seconds = time.perf_counter() - begin
    if process.wait():
        raise SystemExit('il_robot train failed')
    return seconds


def import_torch() -> float:
    """Seconds of a bare interpreter that imports torch."""
    begin = time.perf_counter()
    subprocess.run([sys.executable, '-c', 'import torch'], check=True)
    return time.perf_counter() - begin


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--repeats', type=int, default=7)
    repeats = parser.parse_args().repeats
    ours, reference = [], []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        dataset = synthetic.recorded(folder / 'dataset', EPISODES, ROWS)
        for i in range(repeats + 1):  # the first turn fills the disk cache
            ours.append(first_step(dataset.path, folder / f'run_{i}'))
            reference.append(import_torch())
    ours, reference = ours[1:], reference[1:]
    result = {
        'command': f'python3 benchmarks/startup.py --repeats {repeats}', 'n': repeats,
        'machine': {'processor': platform.machine(), 'system': platform.system(),
                    'cpus': os.cpu_count(), 'python': platform.python_version(),
                    'load_average': [round(v, 1) for v in os.getloadavg()]},
        'versions': {p: version(p) for p in ('torch', 'numpy', 'pyarrow')},
        'first_step_s': round(statistics.median(ours), 2),
        'import_torch_s': round(statistics.median(reference), 2),
        'fastest_first_step_s': round(min(ours), 2),
        'ratio': round(statistics.median(a / b for a, b in zip(ours, reference)), 2),
    }
    file = HERE / 'results' / 'startup.json'
    file.write_text(json.dumps(result, indent=2) + '\n')
    print(json.dumps(result, indent=2))


if __name__ == '__main__':
    main()
