"""GAIL on any Gymnasium environment: balance a pole as five demonstrations do.

    python examples/gail.py [--steps 150000]

The reward of the environment is shown, and never seen by what learns.
"""

import argparse
from functools import partial

import gymnasium as gym
import numpy as np
import torch

from il_robot.algorithms.actor import Categorical
from il_robot.algorithms.gail import GAIL, GAILConfig
from il_robot.algorithms.ppo import PPO, PPOConfig, PPOTrainer
from il_robot.algorithms.worlds import Returns, Worlds
from il_robot.policies.mlp import mlp


def expert(obs: np.ndarray) -> int:
    """Push to where the pole falls."""
    return int(0.05 * obs[0] + 0.1 * obs[1] + obs[2] + 0.4 * obs[3] > 0)


def demonstrations(episodes: int) -> tuple[np.ndarray, np.ndarray]:
    """Observations ``(N, 4)`` and choices ``(N,)`` of the expert."""
    env, seen, did = gym.make('CartPole-v1'), [], []
    for seed in range(episodes):
        obs, ended = env.reset(seed=seed)[0], False
        while not ended:
            seen.append(obs)
            did.append(expert(obs))
            obs, _, terminated, truncated, _ = env.step(did[-1])
            ended = terminated or truncated
    return np.array(seen, np.float32), np.array(did)


def main() -> None:
    """Train and print the return now and then."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--steps', type=int, default=150_000)
    steps = parser.parse_args().steps
    torch.manual_seed(0)
    torch.set_num_threads(1)
    config = PPOConfig(gamma=0.99, rollout=2048, epochs=10, batch_size=64, learning_rate=1e-3,
                       critic=(64, 64))
    with Worlds(partial(gym.make, 'CartPole-v1'), 8, seed=0, processes=0) as worlds:
        actor = Categorical(mlp(worlds.obs_dim, (64, 64), 2), 2)
        judge = GAIL(*demonstrations(5), choices=2, config=GAILConfig(), seed=0)
        trainer = PPOTrainer(worlds, PPO(actor, worlds.obs_dim, config, seed=0), judge)
        returns = Returns()
        while trainer.steps < steps:
            trainer.run(trainer.steps + 1, returns)
            print(f'{trainer.steps} steps: return {returns.mean(40):.0f} of 500')


if __name__ == '__main__':
    main()
