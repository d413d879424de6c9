"""The imitation library's GAIL, to be measured by gail_vs_imitation.py; in its environment.

    IMITATION_PYTHON benchmarks/imitation_gail.py

Answers lines on stdin, ``PROBLEM SETTING SEED EPISODES STEPS``, with one line of JSON: the mean
return of 200 episodes, the steps of the environment and the seconds it took. SETTING ``tutorial``
is that of the library's own example of GAIL (PPO with rollouts of 1024 in all and batches of 64, 8
updates of the discriminator a round, 1024 pairs each); ``ours`` has the sizes and rates that
gail_vs_imitation.py gives our own.
"""

from __future__ import annotations

import json
import os
import sys
import time
from functools import partial
from importlib.metadata import version
from typing import Any

os.environ.setdefault('OMP_NUM_THREADS', '1')
os.environ.setdefault('TQDM_DISABLE', '1')

import classic
import gymnasium as gym
import numpy as np
import torch
from imitation.algorithms.adversarial.gail import GAIL
from imitation.data.types import Trajectory
from imitation.data.wrappers import RolloutInfoWrapper
from imitation.rewards.reward_nets import BasicRewardNet
from imitation.util.logger import configure
from imitation.util.networks import RunningNorm
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv

WORLDS = 8


def learner(setting: str, problem: classic.Problem, venv: DummyVecEnv, seed: int) -> PPO:
    """The generator."""
    if setting == 'tutorial':
        settings: dict[str, Any] = {
            'n_steps': 1024 // WORLDS, 'batch_size': 64, 'ent_coef': 0.0, 'learning_rate': 4e-4,
            'gamma': 0.95, 'n_epochs': 5}
    else:
        settings = classic_settings(problem)
    return PPO('MlpPolicy', venv, seed=seed, device='cpu', **settings)


def classic_settings(problem: classic.Problem) -> dict[str, Any]:
    """The same as ours."""
    if problem.choices:
        return {'n_steps': 2048 // WORLDS, 'batch_size': 64, 'learning_rate': 1e-3,
                'gamma': 0.99, 'n_epochs': 10}
    return {'n_steps': 4096 // WORLDS, 'batch_size': 256, 'learning_rate': 1e-3, 'gamma': 0.95,
            'n_epochs': 10}


def run(name: str, setting: str, seed: int, episodes: int, steps: int) -> dict[str, float]:
    """Train, evaluate."""
    problem = classic.PROBLEMS[name]
    torch.manual_seed(seed)
    venv = DummyVecEnv([lambda: RolloutInfoWrapper(gym.make(problem.env))] * WORLDS)
    venv.seed(seed)
    demonstrated = [Trajectory(obs=o, acts=a, infos=None, terminal=True)
                    for o, a, _ in classic.demonstrations(problem, seed, episodes)]
    begun = time.perf_counter()
    rewards = BasicRewardNet(
        venv.observation_space, venv.action_space, normalize_input_layer=RunningNorm)
    generator = learner(setting, problem, venv, seed)
    trainer = GAIL(
        demonstrations=demonstrated, demo_batch_size=1024, gen_replay_buffer_capacity=512,
        n_disc_updates_per_round=8, venv=venv, gen_algo=generator, reward_net=rewards,
        allow_variable_horizon=True, custom_logger=configure(format_strs=[]))
    trainer.train(steps)
    seconds = time.perf_counter() - begun
    found = classic.returns(
        problem, partial(act, generator), classic.EVALUATED)
    return {'return': float(found.mean()), 'steps': generator.num_timesteps, 'seconds': seconds}


def act(generator: PPO, obs: np.ndarray) -> np.ndarray:
    """Without noise."""
    return generator.predict(obs, deterministic=True)[0]


def main() -> None:
    """Answer until stdin ends."""
    torch.set_num_threads(1)
    print(json.dumps({f'{name}': version(name) for name in (
        'imitation', 'stable-baselines3', 'gymnasium', 'torch')}), flush=True)
    for line in sys.stdin:
        name, setting, *numbers = line.split()
        print(json.dumps(run(name, setting, *map(int, numbers))), flush=True)


if __name__ == '__main__':
    main()
