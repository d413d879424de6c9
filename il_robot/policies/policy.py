"""The contract between a policy (one file, one method) and everything that trains or runs it.

A policy is a ``torch.nn.Module`` with a loss, a forward pass and two numbers. Its world is
normalised:
features and actions have been scaled by the dataset's statistics before they come in, and what
it predicts is scaled back by the runner. The keys of a batch:

- ``features``: ``(B, n_obs_steps, F)`` normalised low-dimensional features, oldest first.
- ``images.<camera>``: ``(B, n_obs_steps, 3, H, W)`` uint8 RGB, where the method uses images.
- ``action``: ``(B, chunk_size, D)`` normalised targets (training only).
- ``is_pad``: ``(B, chunk_size)`` bool, True where there is no target, for example behind the
  episode's end; absent when nothing is padded (training only).
- ``weight``: ``(B,)`` importance of each sample; absent when all are equal (training only).
- ``part``: ``(2,)`` int64 on the CPU: first row and size of the whole batch of which this one is
  the rows of one process; absent when it is the whole (training only).

Randomness (dropout aside) comes from the generator passed in, so that a seed repeats an episode.
Running, all of it is drawn beforehand as one tensor of noise: the forward pass is a pure function,
which another runtime can compute just as well (:mod:`il_robot.policies.runtime`).
:mod:`il_robot.policies.contract` holds what every registered policy must satisfy.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
from torch import nn

Batch: TypeAlias = dict[str, torch.Tensor]
Losses: TypeAlias = dict[str, torch.Tensor]
Gradients: TypeAlias = Sequence[torch.Tensor | None]
"""Of every trainable parameter, in their order; None where the loss does not depend on it."""

ClosedForm: TypeAlias = Callable[[Batch, torch.Generator], tuple[Losses, Gradients]]
"""What ``Policy.loss`` returns, detached, and its gradients, which the next call overwrites."""

PART = 'part'
IMAGES = 'images.'
"""Prefix of the keys of pictures in a batch."""


class Trainee(nn.Module, abc.ABC):
    """What gradient steps can train."""

    @abc.abstractmethod
    def loss(self, batch: Batch, generator: torch.Generator) -> Losses:
        """Scalars to report; the entry ``loss`` is the one to minimise.

        Made of :func:`masked_mean` and :func:`draw_rows`, it can be trained by several processes:
        every scalar is a weighted sum of such means, and random numbers are drawn by row.
        """

    def closed_form(self) -> ClosedForm | None:
        """The gradient of :meth:`loss` without autograd, for whole batches in float32.

        None, which is the default, leaves it to autograd. It holds for the weights in the memory
        in which they are now.
        """
        return None


class Policy(Trainee):
    """Base of all policies.

    Attributes:
        chunk_size: Actions predicted at once, T.
        n_obs_steps: Observations looked at, oldest first.
    """

    chunk_size: int
    n_obs_steps: int

    @abc.abstractmethod
    def forward(self, batch: Batch, noise: torch.Tensor) -> torch.Tensor:
        """Normalised actions ``(B, chunk_size, D)``, a function of the arguments alone.

        Args:
            batch: Observations.
            noise: ``(B, N)`` from :meth:`draw`.
        """

    def draw(self, size: int, generator: torch.Generator) -> torch.Tensor:
        """The noise of ``size`` predictions, ``(size, N)``; N = 0 where nothing is sampled."""
        return torch.empty(size, 0, device=generator.device)

    def predict(self, batch: Batch, generator: torch.Generator) -> torch.Tensor:
        """Normalised actions ``(B, chunk_size, D)``: drawn noise, then the forward pass."""
        size = len(next(iter(batch.values())))
        prediction: torch.Tensor = self(batch, self.draw(size, generator))
        return prediction


def draw_rows(
    rows: int, part: torch.Tensor | None, draw: Callable[[int], torch.Tensor]
) -> torch.Tensor:
    """Random numbers for the rows of a training batch.

    A process that has a part of a batch draws for the whole and keeps its rows, so that they do
    not depend on the number of processes and all generators stay alike.

    Args:
        rows: B.
        part: The batch's ``part``, or None.
        draw: Gives ``(n, ...)`` numbers for n rows.

    Returns:
        ``(B, ...)``.
    """
    if part is None:
        return draw(rows)
    start, whole = part.tolist()
    return draw(whole)[start:start + rows]


def masked_mean(error: torch.Tensor, batch: Batch) -> torch.Tensor:
    """The mean of ``error`` over real steps, weighted by sample.

    Args:
        error: ``(B, T, D)``.
        batch: Its ``is_pad`` and ``weight``, where present, decide what counts; where there is a
            ``part``, all processes must call this.

    Returns:
        A scalar; padding has neither value nor gradient. Of a part: its share of the mean over
        the whole, the shares of all processes summing up to it.
    """
    counts = step_counts(batch, error.shape[:2])
    if counts is None:
        mean = error.mean()
        return mean * (len(error) / int(batch[PART][1])) if PART in batch else mean
    total = counts.sum()
    if PART in batch:
        torch.distributed.all_reduce(total)
    return (error.mean(-1) * counts).sum() / total.clamp_min(1e-9)


def step_counts(batch: Batch, shape: torch.Size) -> torch.Tensor | None:
    """How much each step counts, of shape ``(B, T)``; None where all count alike."""
    counts = batch['weight'][:, None].expand(shape) if 'weight' in batch else None
    if 'is_pad' in batch:
        real = (~batch['is_pad']).float()
        counts = real if counts is None else real * counts
    return counts
