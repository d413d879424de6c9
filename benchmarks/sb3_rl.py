"""Stable-Baselines3's PPO and SAC, to be measured by rl_speed.py; in its environment.

    SB3_PYTHON benchmarks/sb3_rl.py

Answers lines on stdin: ``ppo STEPS`` with the seconds of ``learn``, ``sac UPDATES`` with those of
so many gradient steps of ``train`` on a full replay buffer.
"""

from __future__ import annotations

import json
import sys
import time
from importlib.metadata import version
from typing import Any

import torch
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.logger import configure
from trivial import Trivial


def ppo() -> Any:
    """Eight worlds, rollouts of 2048, 10 epochs of batches of 64, two nets of 64 x 64, ReLU."""
    return PPO('MlpPolicy', make_vec_env(Trivial, 8), n_steps=256, batch_size=64, n_epochs=10,
               seed=0, device='cpu', policy_kwargs={'activation_fn': torch.nn.ReLU})


def sac() -> Any:
    """Nets of 256 x 256, two critics, batches of 256; 5000 transitions in its memory."""
    model = SAC('MlpPolicy', make_vec_env(Trivial, 1), batch_size=256, learning_starts=5000,
                seed=0, device='cpu', policy_kwargs={'net_arch': [256, 256]})
    model.learn(5000)
    model.set_logger(configure(format_strings=[]))
    return model


def main() -> None:
    """Answer until stdin ends."""
    torch.set_num_threads(1)
    models = {'ppo': ppo(), 'sac': sac()}
    models['ppo'].learn(2048)  # warm
    models['sac'].train(20, 256)
    print(json.dumps({p: version(p) for p in ('stable-baselines3', 'torch', 'gymnasium')}),
          flush=True)
    for line in sys.stdin:
        kind, count = line.split()
        begun = time.perf_counter()
        if kind == 'ppo':
            models['ppo'].learn(int(count))
        else:
            models['sac'].train(int(count), 256)
        print(json.dumps(time.perf_counter() - begun), flush=True)


if __name__ == '__main__':
    main()
