"""Where to run inference: in the control loop, in a thread beside it, or in another process.

A control loop of 50 Hz in pure Python, as the arbiter's is (a fixed amount of work in each period,
then sleep until the next), and a policy that answers as often as it can at 50 Hz, by the runtime
that `auto` chooses. How late the loop wakes up and how long a whole period's work takes, for

    alone     no policy
    inline    the loop asks the policy itself
    thread    a thread of the same process does (InferenceWorker), as inside one node
    process   another process does, as the policy node beside the arbiter

All have their turns, in another order each time, in one run.

    python3 benchmarks/inference_worker.py [--turns 6] [--seconds 5]

Writes benchmarks/results/inference_worker.json.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

os.environ.setdefault('OMP_NUM_THREADS', '1')

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent)]

import numpy as np  # noqa: E402
import torch  # noqa: E402

from il_robot.control.inference import InferenceWorker  # noqa: E402
from il_robot.data.normalizer import fit_normalizer  # noqa: E402
from il_robot.policies.act import ACTConfig  # noqa: E402
from il_robot.policies.checkpoint import Checkpoint  # noqa: E402
from il_robot.policies.features import FeatureLayout  # noqa: E402
from il_robot.policies.mlp import MLPConfig  # noqa: E402
from il_robot.policies.runner import PolicyRunner  # noqa: E402
from il_robot.resources import named_config  # noqa: E402
from il_robot.spec import load_robot_spec  # noqa: E402
from il_robot.types import Observation  # noqa: E402

SPEC = load_robot_spec(named_config('robots', 'sim_dual_arm'))
POLICIES = {'mlp_3x512': ('mlp', MLPConfig(hidden=(512, 512, 512))),
            'act_256_chunk_100': ('act', ACTConfig())}
WAYS = ('alone', 'inline', 'thread', 'process')
WORK = 1.0e-3
"""Of the loop in each period [s]: what the arbiter needs."""


def make_runner(name: str) -> PolicyRunner:
    """Fresh weights."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    layout = FeatureLayout(SPEC.joint_names, ('cube',))
    normalizer = fit_normalizer({
        'features': rng.normal(size=(50, layout.dim)),
        'action': SPEC.rest + 0.02 * rng.normal(size=(50, SPEC.dim))})
    policy, config = POLICIES[name]
    described = Checkpoint(policy, config, layout, normalizer, SPEC, {}, task='transfer_cube')
    runner = PolicyRunner(described, described.make_policy().eval(), SPEC, 'auto')
    runner.warm_up()
    runner.reset(rng)
    return runner


def observed(tick: int) -> Observation:
    """What the robot is like at a tick."""
    return Observation(tick * SPEC.dt, SPEC.rest, {'cube': np.array(
        [0.5, 0.0, 0.02, 1.0, 0.0, 0.0, 0.0], np.float32)}, {})


def calibrate() -> int:
    """Rounds of :func:`work` that take WORK on this machine, when it is quiet."""
    rounds, best = 2000, float('inf')
    for _ in range(20):
        begun = time.perf_counter()
        work(rounds)
        best = min(best, time.perf_counter() - begun)
    return max(1, round(rounds * WORK / best))


def work(rounds: int) -> int:
    """Python that holds the interpreter's lock."""
    total = 0
    for i in range(rounds):
        total += i & 7
    return total


def loop(seconds: float, rounds: int, each: Callable[[int], None]) -> list[tuple[float, float]]:
    """Lateness of each period's beginning and the time its work took [s]."""
    begun, rows = time.perf_counter(), []
    for tick in range(1, round(seconds / SPEC.dt)):
        due = begun + tick * SPEC.dt
        if (wait := due - time.perf_counter()) > 0:
            time.sleep(wait)
        woke = time.perf_counter()
        each(tick)
        work(rounds)
        rows.append((woke - due, time.perf_counter() - woke))
    return rows


def serve(name: str, pipe: Connection) -> None:
    """The other process: the newest observation wins, as in the policy node."""
    runner = make_runner(name)
    worker = InferenceWorker(SPEC.dt, lambda chunk, timing: pipe.send(timing.latency),
                             print, time.perf_counter)
    worker.replace(runner, 1)
    pipe.send('ready')
    while (tick := pipe.recv()) >= 0:
        worker.submit(observed(tick))
    worker.close()


class Ways:
    """The four ways to ask one policy."""

    def __init__(self, name: str) -> None:
        context = multiprocessing.get_context('spawn')
        self._pipe, other = context.Pipe()
        self._process = context.Process(target=serve, args=(name, other))
        self._process.start()
        self._runner = make_runner(name)
        self._answers = dict.fromkeys(WAYS, 0)
        self._pipe.recv()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        try:
            while True:
                self._pipe.recv()
                self._answers['process'] += 1
        except (EOFError, OSError):
            return

    def turn(self, way: str, seconds: float, rounds: int) -> list[tuple[float, float]]:
        """One turn of one way."""
        if way == 'thread':
            return self._threaded(seconds, rounds)
        asks = {'alone': lambda tick: None, 'inline': self._ask, 'process': self._pipe.send}
        return loop(seconds, rounds, asks[way])

    def _ask(self, tick: int) -> None:
        self._runner.observe(observed(tick))
        self._runner.predict()
        self._answers['inline'] += 1

    def _threaded(self, seconds: float, rounds: int) -> list[tuple[float, float]]:
        def count(*_: Any) -> None:
            self._answers['thread'] += 1

        worker = InferenceWorker(SPEC.dt, count, print, time.perf_counter)
        worker.replace(self._runner, 1)
        try:
            return loop(seconds, rounds, lambda tick: worker.submit(observed(tick)))
        finally:
            worker.close()

    def close(self) -> dict[str, int]:
        """End the other process; how many answers came each way."""
        self._pipe.send(-1)
        self._process.join(20)
        self._pipe.close()
        return self._answers


def milliseconds(values: list[float]) -> dict[str, float]:
    """Quantiles [ms]."""
    found = 1e3 * np.quantile(values, (0.5, 0.95, 0.99, 1.0))
    return dict(zip(('p50', 'p95', 'p99', 'max'), found.round(4).tolist()))


def measure(name: str, turns: int, seconds: float) -> dict[str, Any]:
    """All ways with one policy."""
    ways, rounds = Ways(name), calibrate()
    rows: dict[str, list[tuple[float, float]]] = {way: [] for way in WAYS}
    rng = np.random.default_rng(0)
    for _ in range(turns):
        for k in rng.permutation(len(WAYS)):
            rows[WAYS[k]] += ways.turn(WAYS[k], seconds, rounds)
    answers = ways.close()
    found = {way: {'periods': len(r), 'answers': answers[way],
                   'late_ms': milliseconds([a for a, _ in r]),
                   'work_ms': milliseconds([b for _, b in r])} for way, r in rows.items()}
    alone = found['alone']
    for way in WAYS[1:]:
        for key in ('late_ms', 'work_ms'):
            found[way][f'{key}_p99_over_alone'] = round(
                found[way][key]['p99'] / alone[key]['p99'], 2)
    return found


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--turns', type=int, default=6)
    parser.add_argument('--seconds', type=float, default=5.0)
    args = parser.parse_args()
    table = {name: measure(name, args.turns, args.seconds) for name in POLICIES}
    result = {
        'command': f'python3 benchmarks/inference_worker.py --turns {args.turns} '
                   f'--seconds {args.seconds:g}',
        'machine': f'{platform.machine()}, {os.cpu_count()} cores', 'torch': torch.__version__,
        'load': os.getloadavg()[0], 'table': table}
    print(json.dumps(result, indent=1))
    (HERE / 'results' / 'inference_worker.json').write_text(json.dumps(result, indent=1) + '\n')
    return 0


if __name__ == '__main__':
    sys.exit(main())
