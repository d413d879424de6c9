"""The imitation library's BC, to be measured by bc_vs_imitation.py; runs in its own environment.

    IMITATION_PYTHON benchmarks/imitation_bc.py DATA.npz THREADS

``DATA.npz`` has ``features`` (N, F) and ``actions`` (N, D). Answers lines on stdin, ``HIDDEN
BATCH COUNT`` with HIDDEN as 256,256,256, with the seconds that ``BC.train`` took for COUNT
batches. Everything is as the library has it (Gaussian log-likelihood, Adam, its data loader,
float32); the policy has the hidden layers asked for, with ReLU, and no layers for the value, of
which BC makes no use.
"""

from __future__ import annotations

import json
import sys
import time
from importlib.metadata import version
from typing import Any

import gymnasium
import numpy as np
import torch
from imitation.algorithms.bc import BC
from imitation.data.types import Transitions
from imitation.util.logger import configure
from stable_baselines3.common.policies import ActorCriticPolicy


def make_bc(data: dict[str, np.ndarray], hidden: list[int], batch: int) -> BC:
    """BC on the transitions of one long trajectory."""
    features, actions = data['features'], data['actions']
    observations, acts = (gymnasium.spaces.Box(-np.inf, np.inf, (v.shape[1],), np.float32)
                          for v in (features, actions))
    # stable-baselines3 wants bounded actions; nothing is clipped in training
    acts = gymnasium.spaces.Box(-1e6, 1e6, acts.shape, np.float32)
    demonstrations = Transitions(
        obs=features, acts=actions, infos=np.array([{}] * len(features)),
        next_obs=np.roll(features, -1, 0), dones=np.zeros(len(features), bool))
    policy = ActorCriticPolicy(
        observations, acts, lambda _: torch.finfo(torch.float32).max,
        net_arch={'pi': hidden, 'vf': []}, activation_fn=torch.nn.ReLU)
    return BC(
        observation_space=observations, action_space=acts, rng=np.random.default_rng(0),
        policy=policy, demonstrations=demonstrations, batch_size=batch, device='cpu',
        custom_logger=configure(format_strs=[]))


def main() -> None:
    """Answer until stdin ends."""
    file, threads = sys.argv[1:]
    torch.set_num_threads(int(threads))
    data = dict(np.load(file))
    learners: dict[Any, BC] = {}
    versions = {name: version(name) for name in ('imitation', 'stable_baselines3', 'torch')}
    print(json.dumps(versions), flush=True)
    for line in sys.stdin:
        widths, batch, count = line.split()
        if (widths, batch) not in learners:
            learners[widths, batch] = make_bc(data, [*map(int, widths.split(','))], int(batch))
        begin = time.perf_counter()
        learners[widths, batch].train(n_batches=int(count), progress_bar=False)
        print(time.perf_counter() - begin, flush=True)


if __name__ == '__main__':
    main()
