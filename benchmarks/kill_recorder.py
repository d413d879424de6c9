"""kill -9 a recorder at random moments; every episode it reported must be intact.

A child process records episodes with cameras as fast as it can and prints each commit; it is
killed, the dataset is opened and compared row by row with what must be in it, and the next
child has to repair it and go on. At the end everything is verified, each video frame decoded.

    python3 benchmarks/kill_recorder.py [--kills 20] [--seed 0]

Writes benchmarks/results/kill_recorder.json; exit code 0 where nothing was lost.
"""

from __future__ import annotations

import argparse
import json
import platform
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import synthetic_episodes as synthetic  # noqa: E402

from il_robot.data.dataset import open_dataset  # noqa: E402
from il_robot.data.verify import verify  # noqa: E402
from il_robot.data.writer import DatasetWriter  # noqa: E402
from il_robot.errors import DatasetError  # noqa: E402

CAMERAS, WIDTH, HEIGHT = 3, 128, 96
SHORTEST, LONGEST = 5, 40  # rows per episode: short ones, so that kills also meet commits
LONGEST_LIFE = 1.5  # [s] after the child began to record


def length_of(seed: int) -> int:
    """Rows of the episode with this seed."""
    return SHORTEST + (seed * 7919) % (LONGEST - SHORTEST)


def child(path: Path) -> None:
    """Record until killed; one line of output per event."""
    spec = synthetic.robot()
    views = synthetic.cameras(spec, CAMERAS, WIDTH, HEIGHT)
    with DatasetWriter.open(path, spec, synthetic.OBJECTS, views) as writer:
        print(json.dumps({'repaired': writer.repaired}), flush=True)
        seed = writer.n_episodes
        while True:
            writer.begin(synthetic.info(seed))
            for step in synthetic.steps(spec, length_of(seed), seed, views=views):
                writer.add(step)
            writer.end().add_done_callback(
                lambda done: print(json.dumps({'committed': done.result()}), flush=True))
            seed += 1


def run(folder: Path, kills: int, seed: int) -> dict[str, Any]:
    """Kill ``kills`` recorders of one dataset after seeded random times.

    Returns:
        What happened; ``problems`` is empty where nothing was lost.
    """
    rng = np.random.default_rng(seed)
    path = folder / 'dataset'
    problems: list[str] = []
    repairs: list[list[str]] = []
    reported = [0]
    for kill in range(kills):
        committed, repaired = _live_and_die(path, rng.uniform(0.0, LONGEST_LIFE))
        repairs.append(repaired)
        reported.append(max([reported[-1], *(c + 1 for c in committed)]))
        problems += [f'kill {kill}: {p}' for p in _compare(path, reported[-1])]
    spec = synthetic.robot()
    views = synthetic.cameras(spec, CAMERAS, WIDTH, HEIGHT)
    with DatasetWriter.open(path, spec, synthetic.OBJECTS, views) as writer:
        repairs.append(list(writer.repaired))
    report = verify(path)
    problems += report.failed()
    return {
        'problems': problems, 'kills': kills, 'seed': seed,
        'episodes committed': len(open_dataset(path).episodes), 'reported': reported,
        'repaired': repairs, 'verify': {check.name: check.ok for check in report.checks},
    }


def _live_and_die(path: Path, life: float) -> tuple[list[int], list[str]]:
    """Start a recorder, kill it ``life`` seconds [s] after it began; what it said."""
    process = subprocess.Popen(
        [sys.executable, __file__, '--child', str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    first = process.stdout.readline()
    time.sleep(life)
    process.send_signal(signal.SIGKILL)
    rest, _ = process.communicate()
    # The last line may be torn; a torn report was not made.
    lines = [line for line in rest.splitlines() if line.endswith('}')]
    return ([json.loads(line)['committed'] for line in lines],
            json.loads(first)['repaired'] if first else ['the recorder did not start'])


def _compare(path: Path, at_least: int) -> list[str]:
    """Open what the killed recorder left, unrepaired, and compare each row."""
    spec = synthetic.robot()
    try:
        dataset = open_dataset(path)
    except DatasetError as error:
        return [] if at_least == 0 else [str(error)]
    problems = []
    if len(dataset.episodes) < at_least:
        problems.append(f'{at_least} episodes were reported, {len(dataset.episodes)} are there')
    for number, record in enumerate(dataset.episodes):
        steps = list(synthetic.steps(spec, length_of(number), number))
        rows = slice(record.start, record.stop)
        same = len(record) == len(steps) and np.array_equal(
            dataset.state[rows], [s.observation.state for s in steps]) and np.array_equal(
            dataset.action[rows], [s.action for s in steps])
        if not same:
            problems.append(f'episode {number} is not what was recorded')
    return problems


def main() -> int:
    """Run and write the result."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--kills', type=int, default=20)
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--child', type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(arguments.child)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        result = run(Path(folder), arguments.kills, arguments.seed)
    result |= {
        'command': f'python3 benchmarks/kill_recorder.py --kills {arguments.kills} '
                   f'--seed {arguments.seed}',
        'machine': {'processor': platform.machine(), 'system': platform.system(),
                    'python': platform.python_version()},
    }
    file = HERE / 'results' / 'kill_recorder.json'
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(result, indent=2) + '\n')
    print(json.dumps(result, indent=2))
    return 0 if not result['problems'] else 1


if __name__ == '__main__':
    sys.exit(main())
