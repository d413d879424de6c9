"""GAIL from ten demonstrations on classic control, beside the imitation library's.

    python3 -m venv LIB && LIB/bin/pip install imitation
    python3 benchmarks/gail_vs_imitation.py --imitation-python LIB/bin/python [--seeds 0 1 2 3 4]

The same experts, the same ten demonstrations of each seed, as many steps of the environment, the
same 200 evaluation episodes without noise. Score 0 is a policy that acts at random, 1 the expert.
The library runs with the settings of its own example of GAIL and with ours. What learns never sees
the environment's reward. Our discriminator rewards as `airl` does (`il_robot/algorithms/gail.py`).

Writes benchmarks/results/gail_vs_imitation.json after every run, and goes on where it was. Target:
0.9 of the expert on both.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault('OMP_NUM_THREADS', '1')

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import classic  # noqa: E402
import gymnasium as gym  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
from peer import Peer  # noqa: E402

from il_robot.algorithms.actor import Actor, Categorical  # noqa: E402
from il_robot.algorithms.gail import GAIL, GAILConfig  # noqa: E402
from il_robot.algorithms.ppo import PPO, PPOConfig, PPOTrainer  # noqa: E402
from il_robot.algorithms.worlds import Returns, Worlds  # noqa: E402
from il_robot.policies.mlp import mlp  # noqa: E402

RESULTS = HERE / 'results' / 'gail_vs_imitation.json'
DEMONSTRATIONS, WORLDS, TARGET = 10, 8, 0.9
PPO_CONFIGS = {
    'cartpole': PPOConfig(gamma=0.99, rollout=2048, epochs=10, batch_size=64, learning_rate=1e-3,
                          critic=(64, 64), target_kl=0.05),
    # with 0.9 some initial states were never learned to swing up from
    'pendulum': PPOConfig(gamma=0.95, rollout=4096, epochs=10, batch_size=256, learning_rate=1e-3,
                          critic=(64, 64), std=1.0, target_kl=0.05)}


def ours(name: str, seed: int) -> dict[str, float]:
    """Train and evaluate."""
    problem, config = classic.PROBLEMS[name], PPO_CONFIGS[name]
    torch.manual_seed(seed)
    shown = classic.demonstrations(problem, seed, DEMONSTRATIONS)
    begun = time.perf_counter()
    with Worlds(partial(gym.make, problem.env), WORLDS, seed=seed, processes=0) as worlds:
        net = mlp(worlds.obs_dim, (64, 64), problem.choices or worlds.action_space.shape[0])
        actor: Any = Categorical(net, problem.choices) if problem.choices \
            else Actor(net, 1, config.std)
        pairs = (np.concatenate([e[0][:-1] for e in shown]), np.concatenate([e[1] for e in shown]))
        judge = GAIL(*pairs, problem.choices, GAILConfig(), seed)
        trainer = PPOTrainer(worlds, PPO(actor, worlds.obs_dim, config, seed), judge)
        trainer.run(problem.steps, Returns())
        seconds = time.perf_counter() - begun

        def act(obs: np.ndarray) -> np.ndarray:
            with torch.inference_mode():
                action: np.ndarray = actor(torch.from_numpy(obs)).numpy()
            space = worlds.action_space
            return action if problem.choices else action.clip(space.low, space.high)

        found = classic.returns(problem, act, classic.EVALUATED)
    return {'return': float(found.mean()), 'steps': trainer.steps, 'seconds': seconds}


def ends(name: str) -> tuple[float, float]:
    """Mean returns of acting at random and of the expert."""
    problem = classic.PROBLEMS[name]
    space, rng = gym.make(problem.env).action_space, np.random.default_rng(0)

    def random(obs: np.ndarray) -> np.ndarray:
        if problem.choices:
            return rng.integers(problem.choices, size=len(obs))
        assert isinstance(space, gym.spaces.Box)
        return rng.uniform(space.low, space.high, (len(obs), *space.shape)).astype(np.float32)

    low, high = (float(classic.returns(problem, act, classic.EVALUATED).mean())
                 for act in (random, problem.expert))
    return low, high


def summary(data: dict[str, Any]) -> dict[str, Any]:
    """Scores of each problem and method: every seed, median, mean and its 95 % interval."""
    table: dict[str, Any] = {}
    for name, methods in data['runs'].items():
        low, high = data['ends'][name]
        for method, runs in methods.items():
            scores = np.array([(r['return'] - low) / (high - low) for r in runs.values()])
            spread = np.random.default_rng(0).choice(scores, (10_000, len(scores))).mean(1)
            table.setdefault(name, {})[method] = {
                'scores': scores.round(3).tolist(), 'median': float(np.median(scores)),
                'mean': float(scores.mean()),
                'interval_95': np.quantile(spread, (0.025, 0.975)).tolist(),
                'seconds': float(np.median([r['seconds'] for r in runs.values()])),
                'steps': int(np.median([r['steps'] for r in runs.values()])),
                'met': bool(scores.mean() >= TARGET)}
    return table


def main() -> None:
    """Run what is missing."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--imitation-python', default='')
    parser.add_argument('--seeds', type=int, nargs='*', default=[0, 1, 2, 3, 4])
    parser.add_argument('--problems', nargs='*', default=list(classic.PROBLEMS))
    args = parser.parse_args()
    torch.set_num_threads(1)
    data: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {
        'runs': {}, 'ends': {}}
    peer = Peer(args.imitation_python, 'imitation_gail.py') if args.imitation_python else None
    methods = ['il_robot', *(['imitation, its example', 'imitation, our sizes'] if peer else [])]
    for name in args.problems:
        data['ends'].setdefault(name, ends(name))
        for seed in args.seeds:
            for method in methods:
                runs = data['runs'].setdefault(name, {}).setdefault(method, {})
                if str(seed) in runs:
                    continue
                setting = 'tutorial' if 'example' in method else 'ours'
                runs[str(seed)] = ours(name, seed) if method == 'il_robot' else peer.answer(  # type: ignore[union-attr]
                    name, setting, seed, DEMONSTRATIONS, classic.PROBLEMS[name].steps)
                print(name, method, seed, runs[str(seed)], flush=True)
                data |= {'command': 'python3 benchmarks/gail_vs_imitation.py --imitation-python '
                                    'LIB/bin/python',
                         'machine': f'{platform.machine()}, {os.cpu_count()} cores',
                         'torch': torch.__version__, 'demonstrations': DEMONSTRATIONS,
                         'table': summary(data)}
                if peer:
                    data['library'] = peer.about
                RESULTS.write_text(json.dumps(data, indent=1) + '\n')
    if peer:
        peer.close()
    print(json.dumps(summary(data), indent=1))


if __name__ == '__main__':
    main()
