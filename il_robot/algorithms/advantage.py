"""How much better than expected each step of a policy's own tries was: weights for imitation.

Advantage-weighted regression (Peng, Kumar, Zhang and Levine, "Advantage-Weighted Regression:
Simple and Scalable Off-Policy Reinforcement Learning", 2019): imitate what was done, each step
with weight ``exp(A / beta)``. Advantages are generalised ones (Schulman et al., "High-Dimensional
Continuous Control Using Generalized Advantage Estimation", ICLR 2016, eq. 16) for the reward 1 of
a success, over the values of a network that has not seen the episode: with half of the episodes
it learns what the other half is worth, else it would know how each one ended, and nothing would
surprise it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from il_robot.types import Float32, Float64

_BATCH, _RATE, _WIDTH, _FOLDS = 512, 1e-3, 256, 2
_MOST = 20.0
"""Largest weight, as in the paper."""


@dataclass(frozen=True)
class Tries:
    """Episodes of N steps in all, one after the other.

    Attributes:
        seen: ``(N, F)`` normalised features.
        stops: ``(E,)`` one past the last step of each; the first begins at 0.
        success: ``(E,)`` how it ended.
    """

    seen: Float32
    stops: NDArray[np.int64]
    success: NDArray[np.bool_]

    @property
    def starts(self) -> NDArray[np.int64]:
        """``(E,)`` first step of each."""
        return np.concatenate([[0], self.stops[:-1]])


def returns(tries: Tries, gamma: float) -> Float32:
    """``(N,)`` discounted: ``gamma^(steps left)`` in an episode that succeeded, else 0."""
    out = np.zeros(len(tries.seen), np.float32)
    for start, stop, success in zip(tries.starts, tries.stops, tries.success):
        if success:
            out[start:stop] = gamma ** np.arange(stop - start - 1, -1, -1)
    return out


def values(tries: Tries, gamma: float, steps: int, seed: int) -> Float32:
    """``(N,)`` the return expected of each step, by networks that have not seen its episode.

    Args:
        tries: At least two of them.
        gamma: Discount per step.
        steps: Of gradient, for each network.
        seed: Of everything random.
    """
    rng = np.random.default_rng([seed, 11])
    fold = np.empty(len(tries.stops), np.int64)
    fold[rng.permutation(len(fold))] = np.arange(len(fold)) % _FOLDS
    lengths = tries.stops - tries.starts
    rows = np.repeat(fold, lengths)
    # How late it is counts, since tries end.
    late = np.arange(len(rows)) - np.repeat(tries.starts, lengths)
    inputs = torch.from_numpy(np.concatenate(
        [tries.seen, (late[:, None] / 100.0).astype(np.float32)], axis=1))
    target = torch.from_numpy(returns(tries, gamma))
    out = np.zeros(len(rows), np.float32)
    for k in range(_FOLDS):
        net = _fitted(inputs, target, np.flatnonzero(rows != k), steps, rng)
        with torch.no_grad():
            for part in np.array_split(np.flatnonzero(rows == k), 1 + len(rows) // 100_000):
                out[part] = net(inputs[torch.from_numpy(part)])[:, 0].clamp(0.0, 1.0).numpy()
    return out


def _fitted(inputs: torch.Tensor, target: torch.Tensor, rows: NDArray[np.int64], steps: int,
            rng: np.random.Generator) -> nn.Module:
    torch.manual_seed(int(rng.integers(2**31)))
    net = nn.Sequential(
        nn.Linear(inputs.shape[1], _WIDTH), nn.LayerNorm(_WIDTH), nn.ReLU(),
        nn.Linear(_WIDTH, _WIDTH), nn.LayerNorm(_WIDTH), nn.ReLU(), nn.Linear(_WIDTH, 1))
    optimizer = torch.optim.AdamW(net.parameters(), _RATE, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        batch = torch.from_numpy(rng.choice(rows, _BATCH))
        loss = (net(inputs[batch])[:, 0] - target[batch]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return net.eval()


def advantages(tries: Tries, value: Float32, gamma: float, trace: float) -> Float64:
    """``(N,)`` generalised advantages.

    Args:
        tries: The episodes.
        value: ``(N,)`` of each step.
        gamma: Discount per step.
        trace: lambda: 0 looks one step ahead, 1 to the end.
    """
    out = np.zeros(len(value))
    for start, stop, success in zip(tries.starts, tries.stops, tries.success):
        following = np.append(gamma * value[start + 1:stop], float(success))
        surprise = following - value[start:stop]
        sum_ = 0.0
        for i in range(stop - start - 1, -1, -1):
            sum_ = surprise[i] + gamma * trace * sum_
            out[start + i] = sum_
    return out


def weights(advantage: Float64, temperature: float) -> Float32:
    """``(N,)`` ``exp(A / beta)``, mean 1, with ``beta`` the temperature times A's deviation."""
    beta = max(temperature * float(advantage.std()), 1e-6)
    out = np.exp(np.minimum(advantage / beta, np.log(_MOST)))
    return (out / out.mean()).astype(np.float32)
