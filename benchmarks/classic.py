"""Classic control problems with an expert each, for gail_vs_imitation.py and its other half."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import pendulum
from numpy.typing import NDArray

Array = NDArray[Any]


def push(obs: Array) -> Array:
    """CartPole: to where the pole falls; ``(N, 4)`` to ``(N,)``."""
    return np.asarray(obs @ np.array([0.05, 0.1, 1.0, 0.4]) > 0, np.int64)


@dataclass(frozen=True)
class Problem:
    """One environment.

    Attributes:
        env: Its id.
        expert: Actions for observations, ``N`` at once.
        choices: Number of discrete actions; 0 for a box.
        steps: Of the environment that a method may use.
    """

    env: str
    expert: Callable[[Array], Array]
    choices: int
    steps: int


PROBLEMS = {'cartpole': Problem('CartPole-v1', push, 2, 200_000),
            'pendulum': Problem('Pendulum-v1', pendulum.expert, 0, 400_000)}
EVALUATED = range(200)
"""Reset seeds of the evaluation; demonstrations begin at 1 000 000."""


def returns(problem: Problem, act: Callable[[Array], Array], seeds: range) -> Array:
    """Sums of rewards ``(N,)`` of the episodes of these reset seeds, all at once."""
    envs = [gym.make(problem.env) for _ in seeds]
    obs = np.stack([e.reset(seed=s)[0] for e, s in zip(envs, seeds)])
    total, running = np.zeros(len(envs)), np.ones(len(envs), bool)
    while running.any():
        actions = act(obs)
        for i in np.flatnonzero(running):
            obs[i], reward, terminated, truncated, _ = envs[i].step(actions[i])
            total[i] += float(reward)
            running[i] = not (terminated or truncated)
    return total


def demonstrations(problem: Problem, seed: int, episodes: int) -> list[tuple[Array, Array, bool]]:
    """Of each episode: observations ``(T + 1, O)``, actions ``(T, ...)``, whether it ended."""
    found = []
    env = gym.make(problem.env)
    for k in range(episodes):
        seen, did, ended = [env.reset(seed=1_000_000 + 1000 * seed + k)[0]], [], False
        terminated = False
        while not ended:
            did.append(problem.expert(seen[-1][None])[0])
            obs, _, terminated, truncated, _ = env.step(did[-1])
            seen.append(obs)
            ended = terminated or truncated
        found.append((np.array(seen, np.float32), np.array(did), terminated))
    return found
