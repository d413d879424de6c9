"""What recording and reading a dataset costs, against references measured in the same run.

* ``end``: how long ending a 10 s episode with three 640x480 cameras at 50 Hz blocks, recorded
  in real time; reference: the requirement, 0.3 s.
* ``windows``: action windows (20 x 14, batch 256, shuffled) from a dataset on disk; reference:
  the bare numpy gather of rows known beforehand.
* ``record``: rows per second as fast as they come, with and without cameras; reference: the
  bare encoder on the same pictures, in one thread.
* ``memory``: peak of a process that opens 200 episodes of state and windows them; reference:
  a process that only imports the same modules.

    python3 benchmarks/dataset_speed.py [--repeats 5]

Writes benchmarks/results/dataset_speed.json.
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
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import synthetic_episodes as synthetic  # noqa: E402

from il_robot.data.dataset import Dataset, open_dataset  # noqa: E402
from il_robot.data.video import ENCODER_OPTIONS  # noqa: E402
from il_robot.data.windows import gather, window_index  # noqa: E402
from il_robot.data.writer import DatasetWriter  # noqa: E402
from il_robot.types import Step  # noqa: E402

SECONDS, CAMERAS = 10, 3
CHUNK, BATCH, BATCHES = 20, 256, 400
EPISODES, ROWS = 200, 400
LIMIT = 0.3  # [s] ending an episode may block


def pictured_steps(n: int, cameras: int) -> list[Step]:
    """``n`` steps whose pictures carry sensor noise and repeat after 40, to save memory."""
    spec = synthetic.robot()
    views = synthetic.cameras(spec, cameras)
    rng = np.random.default_rng(0)
    pool = []
    for i in range(40):
        pool.append({
            view.name: np.clip(
                synthetic.picture(view, i) + rng.normal(0, 3, (view.height, view.width, 3)),
                0, 255).astype(np.uint8)
            for view in views})
    return [
        replace(step, observation=replace(step.observation, images=pool[i % 40]))
        for i, step in enumerate(synthetic.steps(spec, n))
    ]


def record(path: Path, steps: Sequence[Step], cameras: int, *, paced: bool) -> dict[str, float]:
    """Record one episode; times in seconds."""
    spec = synthetic.robot()
    views = synthetic.cameras(spec, cameras)
    with DatasetWriter.open(path, spec, synthetic.OBJECTS, views) as writer:
        started = time.perf_counter()
        writer.begin(synthetic.info())
        slowest = 0.0
        for i, step in enumerate(steps):
            if paced:
                time.sleep(max(0.0, started + i * spec.dt - time.perf_counter()))
            before = time.perf_counter()
            writer.add(step)
            slowest = max(slowest, time.perf_counter() - before)
        before = time.perf_counter()
        future = writer.end()
        blocked = time.perf_counter() - before
        future.result()
        done = time.perf_counter()
    return {'blocked': blocked, 'durable': done - before, 'slowest add': slowest,
            'all': done - started}


def bench_end(folder: Path, repeats: int) -> dict[str, Any]:
    """Real-time recording with cameras."""
    steps = pictured_steps(SECONDS * 50, CAMERAS)
    runs = [record(folder / f'end{i}', steps, CAMERAS, paced=True) for i in range(repeats)]
    middle = {name: statistics.median(run[name] for run in runs) for name in runs[0]}
    return {
        'blocked [s]': middle['blocked'], 'worst blocked [s]': max(r['blocked'] for r in runs),
        'ratio to the limit of 0.3 s': middle['blocked'] / LIMIT,
        'durable after [s]': middle['durable'], 'slowest add [s]': middle['slowest add'],
        'n': repeats,
    }


def bench_record(folder: Path, repeats: int) -> dict[str, Any]:
    """As fast as the disk and the encoders take it."""
    pictured, plain = pictured_steps(200, CAMERAS), pictured_steps(2000, 0)
    cameras, state, bare = [], [], []
    for i in range(repeats):
        run = record(folder / f'cameras{i}', pictured, CAMERAS, paced=False)
        cameras.append(len(pictured) / run['all'])
        run = record(folder / f'state{i}', plain, 0, paced=False)
        state.append(len(plain) / run['all'])
        bare.append(len(pictured) / _bare_encoding(folder / 'bare.mp4', pictured))
    middle = [statistics.median(values) for values in (cameras, state, bare)]
    return {
        '3 cameras 640x480 [rows/s]': middle[0], 'state only [rows/s]': middle[1],
        'bare encoder, one thread [rows/s]': middle[2],
        'ratio to the bare encoder': middle[0] / middle[2], 'n': repeats,
    }


def _bare_encoding(file: Path, steps: Sequence[Step]) -> float:
    """Seconds to encode all pictures one camera after the other."""
    started = time.perf_counter()
    for name in steps[0].observation.images:
        with av.open(str(file), 'w') as container:
            stream = container.add_stream('libx264', rate=50, options=ENCODER_OPTIONS)
            stream.width, stream.height, stream.pix_fmt = 640, 480, 'yuv420p'
            stream.codec_context.time_base = Fraction(1, 50)
            stream.codec_context.thread_count = 1
            for i, step in enumerate(steps):
                frame = av.VideoFrame.from_ndarray(step.observation.images[name], format='rgb24')
                frame.pts, frame.time_base = i, Fraction(1, 50)
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    return time.perf_counter() - started


def record_states(path: Path) -> None:
    """200 episodes of state."""
    spec = synthetic.robot()
    with DatasetWriter.open(path, spec, synthetic.OBJECTS) as writer:
        for seed in range(EPISODES):
            writer.begin(synthetic.info(seed))
            for step in synthetic.steps(spec, ROWS, seed):
                writer.add(step)
            writer.end()


def bench_windows(path: Path, repeats: int) -> dict[str, Any]:
    """Opening, then shuffled batches of windows."""
    opening, ours, bare = [], [], []
    for seed in range(repeats):
        started = time.perf_counter()
        dataset = open_dataset(path)
        opening.append(time.perf_counter() - started)
        rates = _window_rates(dataset, seed)
        ours.append(rates[0])
        bare.append(rates[1])
    return {
        'open 200 episodes [s]': statistics.median(opening),
        'windows/s': statistics.median(ours),
        'bare gather [windows/s]': statistics.median(bare),
        'ratio to the bare gather': statistics.median(a / b for a, b in zip(ours, bare)),
        'batch': BATCH, 'window': [CHUNK, 14], 'n': repeats,
    }


def _window_rates(dataset: Dataset, seed: int) -> tuple[float, float]:
    windows = window_index(dataset.starts, dataset.stops, CHUNK)
    rng = np.random.default_rng(seed)
    batches = [rng.integers(0, len(windows), BATCH) for _ in range(BATCHES)]
    ours = bare = 0.0
    for batch in batches:
        started = time.perf_counter()
        rows, _ = windows.action_rows(batch)
        gather(dataset.action, rows)
        gather(dataset.state, windows.anchors[batch])
        between = time.perf_counter()
        dataset.action.take(rows, axis=0)
        dataset.state.take(batch, axis=0)
        ours += between - started
        bare += time.perf_counter() - between
    return BATCH * BATCHES / ours, BATCH * BATCHES / bare


MEMORY = """
import sys
import numpy as np
from il_robot.data.dataset import open_dataset
from il_robot.data.windows import gather, window_index
if len(sys.argv) > 1:
    dataset = open_dataset(sys.argv[1])
    windows = window_index(dataset.starts, dataset.stops, 20)
    rows, padding = windows.action_rows(np.arange(4096))
    gather(dataset.action, rows)
    dataset.expert, dataset.policy, dataset.hash
# not ru_maxrss: a child inherits the peak of the process that started it
print(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))
"""


def bench_memory(path: Path) -> dict[str, Any]:
    """Peak resident memory [MB] of a fresh process, with the dataset and without."""
    peaks = []
    for arguments in ([], [str(path)]):
        environment = {**os.environ, 'PYTHONPATH': str(HERE.parent)}
        done = subprocess.run([sys.executable, '-c', MEMORY, *arguments], check=True,
                              capture_output=True, text=True, env=environment)
        peaks.append(int(done.stdout) / 1024)
    on_disk = sum(f.stat().st_size for f in path.rglob('*') if f.is_file()) / 2**20
    return {'imports only [MB]': peaks[0], '200 episodes of state [MB]': peaks[1],
            'ratio to imports only': peaks[1] / peaks[0], 'on disk [MB]': on_disk,
            'rows': EPISODES * ROWS}


def main() -> None:
    """Run everything and write the result."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--repeats', type=int, default=5)
    repeats = parser.parse_args().repeats
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        states = folder / 'states'
        record_states(states)
        result = {
            'end': bench_end(folder, repeats), 'windows': bench_windows(states, repeats),
            'record': bench_record(folder, repeats), 'memory': bench_memory(states),
            'command': f'python3 benchmarks/dataset_speed.py --repeats {repeats}',
            'machine': {
                'processor': platform.processor() or platform.machine(),
                'cores': os.cpu_count(), 'load when done': os.getloadavg()[0]},
            'versions': {'python': platform.python_version(), 'numpy': np.__version__,
                         'pyarrow': pyarrow.__version__, 'av': av.__version__},
        }
    file = HERE / 'results' / 'dataset_speed.json'
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(result, indent=2) + '\n')
    print(json.dumps(result, indent=2))


if __name__ == '__main__':
    main()
