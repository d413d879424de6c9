"""RLPD on any Gymnasium environment: a pendulum, from ten demonstrations and its own experience.

    python examples/rlpd.py [--steps 20000]

For a robot's policy it is `il_robot finetune --algorithm rlpd --dataset ...`.
"""

import argparse
from functools import partial

import gymnasium as gym
import numpy as np
import torch

from il_robot.algorithms.actor import Actor
from il_robot.algorithms.replay import Replay
from il_robot.algorithms.rlpd import RLPD, RLPDConfig, Trainer
from il_robot.algorithms.worlds import Returns, Worlds
from il_robot.policies.mlp import mlp


def expert(obs: np.ndarray) -> np.ndarray:
    """Pump energy, then balance."""
    angle, speed = np.arctan2(obs[1], obs[0]), obs[2]
    energy = speed**2 / 6 + 5 * (obs[0] - 1)  # above the upright one at rest
    torque = -12 * angle - 3 * speed if obs[0] > 0.9 else -np.sign(energy) * np.sign(speed) * 2
    return np.array([np.clip(torque, -2, 2)], np.float32)


def demonstrations(config: RLPDConfig) -> Replay:
    """Ten episodes of the expert."""
    env, replay = gym.make('Pendulum-v1'), Replay(2000, 3, 1, config.gamma, config.n_step)
    for seed in range(10):
        obs, truncated = env.reset(seed=seed)[0], False
        while not truncated:
            action = expert(obs)
            following, reward, _, truncated, _ = env.step(action)
            replay.add(0, obs, action, float(reward), following, terminated=False,
                       truncated=truncated)
            obs = following
    return replay


def main() -> None:
    """Train and print the return now and then."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--steps', type=int, default=20_000)
    steps = parser.parse_args().steps
    torch.manual_seed(0)
    torch.set_num_threads(1)
    config = RLPDConfig(gamma=0.98, n_step=1, updates=1, actor_every=1, std=1.0, temperature=0.2,
                        correlation=0.0, warmup=1000, learning_rate=1e-3)
    with Worlds(partial(gym.make, 'Pendulum-v1'), 2, seed=0, processes=0) as worlds:
        actor = Actor(mlp(3, (256, 256), 1), action_dim=1, std=config.std, limit=2.0)
        learner = RLPD(actor, 3, 1, config, seed=0)
        trainer = Trainer(worlds, learner, demonstrations(config), seed=0)
        returns = Returns()
        for until in np.linspace(0, steps, 11)[1:].astype(int):
            trainer.run(int(until), returns)
            print(f'{trainer.steps} steps: return {returns.mean(5):.0f}')


if __name__ == '__main__':
    main()
