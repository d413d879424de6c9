"""Speed of PPO and RLPD beside Stable-Baselines3's PPO and SAC, and of worlds on all cores.

    python3 -m venv SB3 && SB3/bin/pip install stable-baselines3==2.9.2 torch==2.13.0
    python3 benchmarks/rl_speed.py --sb3-python SB3/bin/python [--turns 5]

In one run, one thread each, taking turns, medians of the ratios, the same version of torch:

- PPO, steps/s on an environment that costs nothing (benchmarks/trivial.py, 14 numbers in and out):
  eight worlds in one process, rollouts of 2048, 10 epochs of batches of 64, two nets of 64 x 64
  with ReLU; target >= 3x theirs.
- RLPD, updates/s with their SAC's settings, two critics and an actor of 256 x 256, batches of 256
  (ours with layer normalisation, theirs with a deviation that the actor's net gives). SAC moves
  its actor in every update of the critics; RLPD does so in every one (``1``), in every second
  (``2``: the default here) and in every 20th (``20``: the schedule of its paper). Target >= 2x.
- Steps/s of eight worlds of the bimanual task in two processes against one: rollouts as PPO
  collects them, where a process waits for the others only at the end of one; target >= 1.7x.
  Beside it all of them waiting for each other in every step (``in_step``), and what the machine
  has to give: two processes that know nothing of each other against one (``unrelated``).

Writes benchmarks/results/rl_speed.json.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import statistics
import sys
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ.setdefault('OMP_NUM_THREADS', '1')

import numpy as np
import torch

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from peer import Peer  # noqa: E402
from trivial import DIM, Trivial  # noqa: E402

from il_robot.algorithms.actor import Actor  # noqa: E402
from il_robot.algorithms.ppo import PPO, PPOConfig, PPOTrainer  # noqa: E402
from il_robot.algorithms.replay import Replay  # noqa: E402
from il_robot.algorithms.rlpd import RLPD, RLPDConfig  # noqa: E402
from il_robot.algorithms.worlds import Worlds  # noqa: E402
from il_robot.policies.mlp import mlp  # noqa: E402

STEPS, UPDATES, ROLLOUT = 8192, 300, 128
EVERY = 1, 2, 20  # updates of the critics per one of the actor


@dataclass(frozen=True)
class MakeTrivial:
    """Picklable."""

    def __call__(self) -> Trivial:
        """A fresh one."""
        return Trivial()


@dataclass(frozen=True)
class MakeTask:
    """The bimanual task, its arms held; picklable."""

    def __call__(self) -> Any:
        """A fresh one, flattened."""
        import gymnasium

        from il_robot import sim

        env = gymnasium.wrappers.FlattenObservation(sim.make('transfer_cube'))
        return gymnasium.wrappers.TransformAction(
            env, lambda _: env.unwrapped.robot.rest, env.action_space)


class OurPPO:
    """Trains on."""

    def __init__(self) -> None:
        self._worlds = Worlds(MakeTrivial(), 8, 0, processes=0)
        config = PPOConfig(rollout=2048, epochs=10, batch_size=64, critic=(64, 64), std=1.0,
                           target_kl=0, max_kl=0, learning_rate=3e-4, critic_rate=3e-4)
        torch.manual_seed(0)
        self._trainer = PPOTrainer(
            self._worlds, PPO(Actor(mlp(DIM, (64, 64), DIM), DIM, 1.0), DIM, config, 0))

    def seconds(self, steps: int) -> float:
        """Of so many steps."""
        begun = time.perf_counter()
        self._trainer.run(self._trainer.steps + steps, lambda step, losses: None)
        return time.perf_counter() - begun


class OurRLPD:
    """Updates from a full memory."""

    def __init__(self, actor_every: int) -> None:
        config = RLPDConfig(actor_every=actor_every, gamma=0.99, n_step=1, warmup=0)
        torch.manual_seed(0)
        actor = Actor(mlp(DIM, (256, 256), DIM), DIM, 0.3, 1.0)
        self._learner = RLPD(actor, DIM, DIM, config, 0)
        rng = np.random.default_rng(0)
        self._online, self._shown = (Replay(5000, DIM, DIM, 0.99) for _ in range(2))
        for memory in (self._online, self._shown):
            for _ in range(5000):
                obs, action, following = rng.uniform(-1, 1, (3, DIM)).astype(np.float32)
                memory.add(0, obs, action, float(rng.uniform()), following, terminated=False,
                           truncated=False)

    def seconds(self, updates: int) -> float:
        """Of so many updates."""
        begun = time.perf_counter()
        for _ in range(updates):
            self._learner.update(self._learner.batch(self._online, self._shown), actor=True)
        return time.perf_counter() - begun


def world_rate(processes: int, seconds: float, count: int = 8) -> float:
    """Control steps/s of so many processes together, rollouts collected as by PPO."""
    with Worlds(MakeTask(), count, 0, processes) as worlds:
        worlds.reset()
        action, steps = np.zeros((count, *worlds.action_space.shape), np.float32), 0
        begun = time.perf_counter()
        while time.perf_counter() < begun + seconds:
            left = dict.fromkeys(range(len(worlds.parts)), ROLLOUT)
            for i in left:
                worlds.begin_part(i, action[worlds.parts[i]])
            while left:
                for i in worlds.ready(left):
                    steps += len(worlds.finish_part(i).reward)
                    left[i] -= 1
                    if left[i]:
                        worlds.begin_part(i, action[worlds.parts[i]])
                    else:
                        del left[i]
        return steps / (time.perf_counter() - begun)


def in_step_rate(processes: int, seconds: float, count: int = 8) -> float:
    """The same where every step waits for all."""
    with Worlds(MakeTask(), count, 0, processes) as worlds:
        worlds.reset()
        action, steps = np.zeros((count, *worlds.action_space.shape), np.float32), 0
        begun = time.perf_counter()
        while time.perf_counter() < begun + seconds:
            worlds.begin(action)
            worlds.finish()
            steps += count
        return steps / (time.perf_counter() - begun)


def _step_alone(seconds: float, start: Any, rates: Any) -> None:
    """Steps/s of four worlds, alone in this process."""
    envs, space = [MakeTask()() for _ in range(4)], None
    for env in envs:
        env.reset(seed=0)
        space = env.action_space
    action, steps = np.zeros(space.shape, np.float32), 0
    start.wait()
    begun = time.perf_counter()
    while time.perf_counter() < begun + seconds:
        for env in envs:
            _, _, terminated, truncated, _ = env.step(action)
            if terminated or truncated:
                env.reset()
        steps += len(envs)
    rates.put(steps / (time.perf_counter() - begun))


def unrelated_rate(processes: int, seconds: float) -> float:
    """The same of processes that have nothing to do with each other: the machine's limit."""
    context = multiprocessing.get_context('spawn')
    start, rates = context.Barrier(processes), context.Queue()
    children = [context.Process(target=_step_alone, args=(seconds, start, rates))
                for _ in range(processes)]
    for child in children:
        child.start()
    found = [rates.get() for _ in children]
    for child in children:
        child.join()
    return sum(found)


def summary(ours: list[float], theirs: list[float], count: int, target: float) -> dict[str, Any]:
    """Rates and the median ratio with its quartiles."""
    ratios = [b / a for a, b in zip(ours, theirs)]
    return {'ours_per_s': count / statistics.median(ours),
            'theirs_per_s': count / statistics.median(theirs),
            'ratio': statistics.median(ratios),
            'quartiles': np.quantile(ratios, (0.25, 0.75)).tolist(), 'target': target,
            'met': statistics.median(ratios) >= target}


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--sb3-python', required=True)
    parser.add_argument('--turns', type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(1)
    peer = Peer(args.sb3_python, 'sb3_rl.py')
    load = os.getloadavg()[0]
    ppo, rlpd = OurPPO(), {every: OurRLPD(every) for every in EVERY}
    ppo.seconds(2048)
    for each in rlpd.values():
        each.seconds(20)
    ours: dict[int, list[float]] = {every: [] for every in EVERY}
    ours_ppo, their_ppo, their_sac = [], [], []
    for _ in range(args.turns):
        ours_ppo.append(ppo.seconds(STEPS))
        their_ppo.append(peer.seconds('ppo', STEPS))
        for every in EVERY:
            ours[every].append(rlpd[every].seconds(UPDATES))
        their_sac.append(peer.seconds('sac', UPDATES))
    peer.close()
    scaling: dict[str, list[float]] = {'rollouts': [], 'in_step': [], 'unrelated': []}
    for _ in range(args.turns):
        for name, rate in (('rollouts', world_rate), ('in_step', in_step_rate),
                           ('unrelated', unrelated_rate)):
            scaling[name].append(rate(2, 4.0) / rate(1, 4.0))
    found = statistics.median(scaling['rollouts'])
    result = {
        'command': 'python3 benchmarks/rl_speed.py --sb3-python SB3/bin/python '
                   f'--turns {args.turns}',
        'machine': f'{platform.machine()}, {os.cpu_count()} cores', 'load': load,
        'torch': version('torch'), 'theirs': peer.about,
        'ppo': summary(ours_ppo, their_ppo, STEPS, 3.0),
        'rlpd': {str(every): summary(ours[every], their_sac, UPDATES, 2.0) for every in EVERY},
        'two_processes_against_one': {
            'ratio': found, 'target': 1.7, 'met': found >= 1.7,
            **{name: {'ratio': statistics.median(ratios), 'all': ratios}
               for name, ratios in scaling.items()}}}
    print(json.dumps(result, indent=1))
    (HERE / 'results' / 'rl_speed.json').write_text(json.dumps(result, indent=1) + '\n')


if __name__ == '__main__':
    main()
