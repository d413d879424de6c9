"""PPO on any Gymnasium environment: swing up and balance a pendulum.

    python examples/ppo.py [--steps 300000]

For a robot's policy it is `il_robot finetune --algorithm ppo`, which begins with the cloned one.
"""

import argparse
from functools import partial

import gymnasium as gym
import torch

from il_robot.algorithms.actor import Actor
from il_robot.algorithms.ppo import PPO, PPOConfig, PPOTrainer
from il_robot.algorithms.worlds import Returns, Worlds
from il_robot.policies.mlp import mlp


def main() -> None:
    """Train and print the return now and then."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--steps', type=int, default=300_000)
    steps = parser.parse_args().steps
    torch.manual_seed(0)
    torch.set_num_threads(1)
    config = PPOConfig(gamma=0.9, rollout=4096, epochs=10, batch_size=256, learning_rate=1e-3,
                       std=1.0, target_kl=0.05)
    with Worlds(partial(gym.make, 'Pendulum-v1'), 8, seed=0, processes=0) as worlds:
        actor = Actor(mlp(worlds.obs_dim, (64, 64), 1), action_dim=1, std=config.std)
        learner, returns = PPO(actor, worlds.obs_dim, config, seed=0), Returns()
        trainer = PPOTrainer(worlds, learner)
        while trainer.steps < steps:
            trainer.run(trainer.steps + 1, returns)
            print(f'{trainer.steps} steps: return {returns.mean():.0f}')


if __name__ == '__main__':
    main()
