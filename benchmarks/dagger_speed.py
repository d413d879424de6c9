"""Overhead of a control step of an offline round of DAgger.

Runs ``collect_round``, what `il_robot dagger` does between two trainings, with one worker, on
transfer_cube without cameras, under two gates: ``mlp`` with ``beta`` (every state is labelled) and
``chunk_mlp`` with ``human`` (the rule that stands in for a person). The policies are trained for a
few steps: what they do costs the same, whether it is right or not. Per control step,

- physics: ``env.step``, with the task and the observation the world makes of itself,
- network: the backend's answer to a batch,
- policy: what is left of ``PolicyController.act``: features, normalisation, chunk buffer,
- expert: the scripted expert's own computation (inverse kinematics of two arms), in whose place a
  person or a planner may be,

are timed at their calls. ``overhead`` is everything else between two calls of ``env.step``
(observation, gate, comparing with the expert's action, who drives, the row) and, by row (median
of the episodes), what comes between the end of an episode and its last row in the writer.
``with_policy`` is all but physics, network and expert, ``with_expert`` all but physics and
network. Every timer's own cost is measured beforehand and taken off where it falls. ``commit``,
which is in none of them, is the time by row of the thread that writes an episode to the disk
while the next one goes on. Resetting the world counts as physics.

Target: overhead <= 60 us per step: p50 over the steps of a repeat, median of the repeats.

    python3 benchmarks/dagger_speed.py [--episodes 3] [--repeats 7]

Writes benchmarks/results/dagger_speed.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ.setdefault('OMP_NUM_THREADS', '1')

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import torch  # noqa: E402

from il_robot import sim  # noqa: E402
from il_robot.algorithms import collect_rounds  # noqa: E402
from il_robot.algorithms.bc import train  # noqa: E402
from il_robot.algorithms.collect_rounds import Place, collect_demonstrations  # noqa: E402
from il_robot.algorithms.corrections import GatedController, GatedFactory  # noqa: E402
from il_robot.algorithms.recipe import load_recipe  # noqa: E402
from il_robot.data.dataset import open_dataset  # noqa: E402
from il_robot.data.writer import DatasetWriter  # noqa: E402
from il_robot.resources import named_config  # noqa: E402

TARGET = 60.0  # us
DEMONSTRATIONS, STEPS = 3, 200
ROUNDS: dict[str, tuple[str, dict[str, Any], bool]] = {
    'mlp': ('beta', {'beta': 0.5}, True),
    'chunk_mlp': ('human', {}, False),
}
"""Policy: gate, its options, whether every state is labelled."""
NAMES = ('expert', 'network', 'act', 'gate')

clock = time.perf_counter


@dataclass
class Timer:
    """Seconds spent in functions, for each control step.

    Attributes:
        names: Of the functions.
        rows: One list for each step: since the step before ended, and in each function.
        written: Seconds from an episode's end to its last row in the writer, by row.
        committed: Seconds of writing it to the disk, by row.
    """

    names: tuple[str, ...]
    rows: list[list[float]] = field(default_factory=list)
    written: list[float] = field(default_factory=list)
    committed: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._spent = [0.0] * len(self.names)
        self._begin = clock()

    def wrap(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The same function, timed."""
        i, spent = self.names.index(name), self._spent

        def timed(*args: Any) -> Any:
            begin = clock()
            answer = function(*args)
            spent[i] += clock() - begin
            return answer

        return timed

    def start(self) -> None:
        """A control step begins."""
        self._spent[:] = [0.0] * len(self.names)
        self._begin = clock()

    def stop(self) -> None:
        """The command is there."""
        self.rows.append([clock() - self._begin, *self._spent])

    def episode(self, rows: int) -> None:
        """All rows of an episode are in the writer."""
        self.written.append((clock() - self._begin) / rows)

    def writer(self) -> type[DatasetWriter]:
        """A writer that says when it is fed and how long it takes."""
        timer = self

        class TimedWriter(DatasetWriter):
            def end(self, outcome: Any = None) -> Any:
                timer.episode(self.length)
                return super().end(outcome)

            def _commit(self, rows: Any, encoders: Any) -> int:
                begin = clock()
                index = super()._commit(rows, encoders)
                timer.committed.append((clock() - begin) / rows.length)
                return index

        return TimedWriter


class TimedEnv:
    """An environment that says when it is called.

    Args:
        env: The real one.
        timer: Told.
    """

    def __init__(self, env: Any, timer: Timer) -> None:
        self._env, self._timer = env, timer
        self.unwrapped = env.unwrapped
        self.unwrapped.expert = timer.wrap('expert', self.unwrapped.expert)

    def reset(self, **options: Any) -> Any:
        """An episode starts."""
        answer = self._env.reset(**options)
        self._timer.start()
        return answer

    def step(self, action: Any) -> Any:
        """The next control step begins when this one has been executed."""
        self._timer.stop()
        answer = self._env.step(action)
        self._timer.start()
        return answer

    def close(self) -> None:
        """End the world."""
        self._env.close()


@dataclass(frozen=True)
class TimedFactory:
    """The controller of a round with a timer around policy, network and gate.

    Attributes:
        factory: Makes it.
        timer: Told.
    """

    factory: GatedFactory
    timer: Timer

    def __call__(self, env: Any) -> GatedController:
        """Make it; the network is ready and has answered before it is timed."""
        controller = self.factory(env)
        policy = controller.policy
        assert policy is not None
        runner: Any = policy._runner
        runner.warm_up()
        runner._runtime._backend = self.timer.wrap('network', runner._runtime._backend)
        policy.act = self.timer.wrap('act', policy.act)  # type: ignore[method-assign]
        controller.gate.update = self.timer.wrap(  # type: ignore[method-assign]
            'gate', controller.gate.update)
        return controller


def timer_cost(count: int = 20_000) -> tuple[float, float]:
    """Seconds that a timer adds inside what it measures, and in all (medians)."""
    timer = Timer(('nothing',))
    timed, inside, whole = timer.wrap('nothing', lambda: None), [], []
    for _ in range(count):
        timer.start()
        begin = clock()
        timed()
        whole.append(clock() - begin)
        inside.append(timer._spent[0])
    empty = []
    for _ in range(count):
        begin = clock()
        empty.append(clock() - begin)
    own = statistics.median(empty)
    return statistics.median(inside), statistics.median(whole) - own


def measure(
    folder: Path, factory: GatedFactory, episodes: int, seed: int
) -> dict[str, float]:
    """Microseconds per control step of one round: medians over its steps."""
    timer = Timer(NAMES)
    place = Place(lambda: TimedEnv(sim.make('transfer_cube'), timer))
    collect_rounds.DatasetWriter = timer.writer()  # type: ignore[misc]
    collect_rounds.collect_round(
        place, folder, TimedFactory(factory, timer),  # type: ignore[arg-type]
        range(seed, seed + episodes), number=1)
    inside, whole = timer_cost()
    total, expert, network, act, gate = np.array(timer.rows).T
    asked = expert > 0
    # What a timer costs lies partly in what it measures and partly around it.
    total = total - whole * (3 + asked)
    act = act - inside - whole
    expert, network, gate = expert - asked * inside, network - inside, gate - inside
    writer = statistics.median(timer.written)
    overhead = total - expert - act + writer
    seconds = {
        'overhead_us': overhead, 'with_policy_us': total - expert - network + writer,
        'with_expert_us': total - network + writer, 'gate_us': gate,
        'rows_and_arbitration_us': total - expert - act - gate, 'policy_us': act - network,
        'expert_us': expert[asked], 'network_us': network}
    return {
        **{name: 1e6 * float(np.median(values)) for name, values in seconds.items()},
        'writer_us': 1e6 * writer, 'commit_us': 1e6 * statistics.median(timer.committed),
        'overhead_p95_us': 1e6 * float(np.quantile(overhead, 0.95)),
        'timer_us': 1e6 * whole, 'steps': len(total)}


def policies(folder: Path) -> dict[str, GatedFactory]:
    """A factory for each policy, trained for a moment."""
    collect_demonstrations(
        Place(lambda: sim.make('transfer_cube')), folder / 'demonstrations', first_seed=0,
        enough=lambda episodes, rows: episodes >= DEMONSTRATIONS)
    dataset, made = open_dataset(folder / 'demonstrations'), {}
    for policy, (gate, options, relabel) in ROUNDS.items():
        recipe = load_recipe(named_config('train', policy), [
            f'training.steps={STEPS}', 'training.validation=0', 'training.threads=1'])
        checkpoint = train(dataset, recipe, folder / policy).checkpoint
        made[policy] = GatedFactory(checkpoint, gate, options, relabel)
    return made


def main() -> int:
    """Measure, print, write; 1 when a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--episodes', type=int, default=3, help='of each repeat')
    parser.add_argument('--repeats', type=int, default=7, help='of each policy, taking turns')
    args = parser.parse_args()
    torch.set_num_threads(1)
    found: dict[str, list[dict[str, float]]] = {policy: [] for policy in ROUNDS}
    with tempfile.TemporaryDirectory() as name:
        factories = policies(Path(name))
        for i in range(args.repeats):
            for policy, factory in factories.items():
                found[policy].append(measure(
                    Path(name) / f'{policy}_{i}', factory, args.episodes, 1_000_000))
    rows = []
    for policy, (gate, _, relabel) in ROUNDS.items():
        median = {key: round(statistics.median(m[key] for m in found[policy]), 1)
                  for key in found[policy][0]}
        rows.append({'policy': policy, 'gate': gate, 'relabel': relabel, **median,
                     'target_us': TARGET})
        print(', '.join(f'{k} {v}' for k, v in rows[-1].items()))
    missed = sum(row['overhead_us'] > TARGET for row in rows)
    (HERE / 'results' / 'dagger_speed.json').write_text(json.dumps({
        'command': 'python3 benchmarks/dagger_speed.py '
                   f'--episodes {args.episodes} --repeats {args.repeats}',
        'n': args.repeats, 'episodes': args.episodes,
        'machine': {'processor': platform.machine(), 'system': platform.system(),
                    'cpus': os.cpu_count(), 'python': platform.python_version(),
                    'load_average': [round(v, 1) for v in os.getloadavg()]},
        'versions': {p: version(p) for p in ('torch', 'numpy', 'pybullet')},
        'targets_missed': missed, 'rows': rows}, indent=1) + '\n')
    return int(bool(missed))


if __name__ == '__main__':
    sys.exit(main())
