"""Overhead of a control step of an offline round of DAgger: all but physics and the network.

Runs ``collect_round``, what `il_robot dagger` does between two trainings, with one worker, on
transfer_cube without cameras, under two gates: ``mlp`` with ``beta`` (every state is labelled) and
``chunk_mlp`` with ``human`` (the rule that stands in for a person). The policies are trained for a
few steps: what they do costs the same, whether it is right or not. Per control step,

- physics: ``env.step``, with the task and the observation the world makes of itself,
- network: the backend's answer to a batch, without features and chunk buffer,
- expert: the scripted expert's own computation (two arms' kinematics), which a person or another
  expert would replace,

are timed from outside and are no overhead; the expert is reported, with the sum of both.
The overhead is everything else between two calls of ``env.step``, and, by row, what comes between
the end of an episode and its last row in the writer. Its parts: ``features_and_chunks``,
``PolicyController.act`` without the network; ``gate``; ``rows_and_arbitration``, the rest of the
loop; ``writer``. Every timer's own cost (two readings of the clock and a call) is measured beforehand
and taken off where it falls into a part. Writing to disk goes on in a thread meanwhile, and
resetting the world is physics.

Target: overhead <= 60 us per step (p50 over the steps, with the writer's share).

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
from il_robot.algorithms.bc import train  # noqa: E402
from il_robot.algorithms.collect_rounds import (  # noqa: E402
    Place,
    collect_demonstrations,
    collect_round,
)
from il_robot.algorithms.corrections import GatedController, GatedFactory  # noqa: E402
from il_robot.algorithms.evaluate import EpisodeResult  # noqa: E402
from il_robot.algorithms.recipe import load_recipe  # noqa: E402
from il_robot.data.dataset import open_dataset  # noqa: E402
from il_robot.resources import named_config  # noqa: E402

TARGET = 60.0  # us
DEMONSTRATIONS, STEPS = 3, 200
ROUNDS: dict[str, tuple[str, dict[str, Any], bool]] = {
    'mlp': ('beta', {'beta': 0.5}, True),
    'chunk_mlp': ('human', {}, False),
}
"""Policy: gate, its options, whether every state is labelled."""
OUTSIDE = ('physics', 'network', 'expert')
PARTS = ('features_and_chunks', 'gate', 'rows_and_arbitration', 'writer')

clock = time.perf_counter


@dataclass
class Timer:
    """Seconds spent in functions, for each control step.

    Attributes:
        names: Of the functions.
        rows: One list for each step: since the step before ended, and in each function.
        written: Seconds from an episode's end to its last row in the writer, and its rows.
    """

    names: tuple[str, ...]
    rows: list[list[float]] = field(default_factory=list)
    written: list[tuple[float, int]] = field(default_factory=list)

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

    def episode(self, result: EpisodeResult) -> None:
        """Its rows are in the writer."""
        self.written.append((clock() - self._begin, result.length))


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
        controller.gate.update = self.timer.wrap('gate', controller.gate.update)  # type: ignore[method-assign]
        return controller


NAMES = ('expert', 'network', 'act', 'gate')


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
    """us per control step of one round: medians over the steps of every part."""
    timer = Timer(NAMES)
    place = Place(lambda: TimedEnv(sim.make('transfer_cube'), timer))
    collect_round(place, folder, TimedFactory(factory, timer),  # type: ignore[arg-type]
                  range(seed, seed + episodes), number=1, on_result=timer.episode)
    inside, whole = timer_cost()
    total, expert, network, act, gate = np.array(timer.rows).T
    asked = (expert > 0)
    # A timer's cost lies partly in what it measures, partly in what surrounds it.
    expert, network, gate = expert - asked * inside, network - inside, gate - inside
    act = act - inside - whole
    total = total - whole * (3 + asked)
    writer = float(sum(s for s, _ in timer.written) / sum(n for _, n in timer.written))
    overhead = total - network - expert + writer
    parts = {
        'features_and_chunks': act - network, 'gate': gate,
        'rows_and_arbitration': total - expert - act - gate}
    median = {name: 1e6 * float(np.median(values)) for name, values in parts.items()}
    return {
        'overhead_us': 1e6 * float(np.median(overhead)),
        'overhead_mean_us': 1e6 * float(np.mean(overhead)),
        'overhead_p95_us': 1e6 * float(np.quantile(overhead, 0.95)),
        'with_expert_us': 1e6 * float(np.median(overhead + expert)),
        **{f'{name}_us': value for name, value in median.items()},
        'writer_us': 1e6 * writer,
        'expert_us': 1e6 * float(np.median(expert[asked])),
        'expert_share': float(asked.mean()),
        'network_us': 1e6 * float(np.median(network)), 'timer_us': 1e6 * whole,
        'steps': len(total)}
