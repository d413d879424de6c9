"""Transitions, and a memory of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from il_robot.types import Float32


@dataclass(frozen=True, eq=False)
class Transitions:
    """N decisions and what came of them; an episode's are in order.

    Attributes:
        obs: ``(N, O)``.
        action: ``(N, A)``.
        reward: ``(N,)``.
        next_obs: ``(N, O)``.
        terminated: ``(N,)`` the task ended there, and nothing is to be gained behind.
    """

    obs: Float32
    action: Float32
    reward: Float32
    next_obs: Float32
    terminated: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.reward)

    def __getitem__(self, rows: Any) -> Transitions:
        return Transitions(*(getattr(self, f.name)[rows] for f in fields(self)))


def joined(parts: Iterable[Transitions]) -> Transitions:
    """One after the other."""
    parts = list(parts)
    return Transitions(*(
        np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(Transitions)))


class Replay:
    """A memory of returns over n steps, the oldest overwritten.

    ``R = r_0 + g r_1 + ... + g^(k-1) r_(k-1)`` with k = n, or fewer where the episode ends; what
    is still to come counts ``discount = g^k``, or nothing where the task ended. (Sutton 1988; in
    RLPD's code 3 to 5 steps for sparse rewards.)

    Args:
        capacity: Transitions remembered.
        obs_dim: O.
        action_dim: A.
        gamma: g.
        n_step: n.

    Attributes:
        arrays: ``obs (N, O)``, ``action (N, A)``, ``reward (N,)``, ``next_obs (N, O)`` and
            ``discount (N,)``; the first ``len()`` count.
    """

    def __init__(
        self, capacity: int, obs_dim: int, action_dim: int, gamma: float, n_step: int = 1
    ) -> None:
        shapes = {'obs': (obs_dim,), 'action': (action_dim,), 'reward': (),
                  'next_obs': (obs_dim,), 'discount': ()}
        self.arrays = {k: np.zeros((capacity, *s), np.float32) for k, s in shapes.items()}
        self._capacity, self._gamma, self._n_step = capacity, gamma, n_step
        self._next = self._size = 0
        self._recent: dict[int, deque[tuple[Float32, Float32, float]]] = {}

    def __len__(self) -> int:
        return self._size

    def add(
        self, world: int, obs: Float32, action: Float32, reward: float, next_obs: Float32, *,
        terminated: bool, truncated: bool,
    ) -> None:
        """One step of one world; of each world they come in order."""
        recent = self._recent.setdefault(world, deque())
        recent.append((obs, action, reward))
        ended = terminated or truncated
        while recent and (ended or len(recent) == self._n_step):
            total = 0.0
            for _, _, r in reversed(recent):
                total = r + self._gamma * total
            discount = 0.0 if terminated else self._gamma ** len(recent)
            first, did, _ = recent.popleft()
            self._store(first, did, total, next_obs, discount)

    def forget(self, world: int) -> None:
        """An episode was lost in its middle."""
        self._recent.pop(world, None)

    def extend(self, episode: Transitions) -> None:
        """A whole episode; where its last one is not terminated it was cut off there."""
        last = len(episode) - 1
        for i in range(len(episode)):
            self.add(-1, episode.obs[i], episode.action[i], float(episode.reward[i]),
                     episode.next_obs[i], terminated=bool(episode.terminated[i]),
                     truncated=i == last)

    def _store(
        self, obs: Float32, action: Float32, reward: float, next_obs: Float32, discount: float
    ) -> None:
        values: tuple[Any, ...] = obs, action, reward, next_obs, discount
        for array, value in zip(self.arrays.values(), values):
            array[self._next] = value
        self._next = (self._next + 1) % self._capacity
        self._size = min(self._size + 1, self._capacity)

    def sample(self, size: int, rng: np.random.Generator) -> dict[str, Float32]:
        """``size`` of them, each equally likely.

        Raises:
            ValueError: there is none.
        """
        if not self._size:
            raise ValueError('nothing to sample from')
        rows = rng.integers(self._size, size=size)
        return {key: values[rows] for key, values in self.arrays.items()}

    def state(self) -> dict[str, NDArray[Any]]:
        """All of it, but episodes that are still running."""
        place = np.array([self._next, self._size])
        return {**{k: v[:self._size] for k, v in self.arrays.items()}, 'place': place}

    def restore(self, state: dict[str, NDArray[Any]]) -> None:
        """The inverse of :meth:`state`."""
        self._next, self._size = state['place'].tolist()
        for key, values in self.arrays.items():
            values[:self._size] = state[key]
        self._recent = {}
