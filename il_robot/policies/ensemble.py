"""Several policies of one kind that act by their mean and say how far they disagree.

Lakshminarayanan et al., "Simple and Scalable Predictive Uncertainty Estimation using Deep
Ensembles", NeurIPS 2017: the members differ in their initial weights, the noise they were
trained with and the samples they saw. Each member learns from its own random share of every
batch, drawn anew in every step. This is not a bootstrap of the data (a window has no identity
here), which section 2.4 of the paper found no better than the initial weights alone.

Disagreement is what gates of interactive learning ask for: Menda et al., "EnsembleDAgger", IROS
2019 (doubt), and Hoque et al., "ThriftyDAgger", CoRL 2021 (novelty).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import nn

from il_robot.policies.policy import PART, Batch, Losses, Policy, draw_rows


@dataclass(frozen=True)
class EnsembleConfig:
    """An ensemble.

    Attributes:
        policy: The members' name in the registry.
        model: The members' configuration.
        size: Members, M.
        share: Probability of each sample of a batch to be learned from, for each member; 1
            leaves only the initial weights and the noise to differ.
    """

    policy: str = 'chunk_mlp'
    model: Mapping[str, Any] = field(default_factory=dict)
    size: int = 5
    share: float = 0.8

    def __post_init__(self) -> None:
        if self.policy == 'ensemble':
            raise ValueError('policy: an ensemble of ensembles is one ensemble of a larger size')
        if self.size < 2:
            raise ValueError(f'size must be >= 2, got {self.size}: one member cannot disagree')
        if not 0 < self.share <= 1:
            raise ValueError(f'share must be in (0, 1], got {self.share}')


@dataclass(frozen=True, eq=False)
class Spread:
    """What M members say together, normalised.

    Attributes:
        mean: ``(B, T, D)``.
        variance: ``(B, T, D)``, divided by M - 1.
        disagreement: ``(B, T)``, the root of the variance's mean over the D numbers: how far
            apart the members are, in deviations of the demonstrated actions.
    """

    mean: torch.Tensor
    variance: torch.Tensor
    disagreement: torch.Tensor


def spread(chunks: torch.Tensor) -> Spread:
    """Mean, variance and disagreement of the members' chunks ``(M, B, T, D)``."""
    variance, mean = torch.var_mean(chunks, 0)
    return Spread(mean, variance, variance.mean(-1).sqrt())


class EnsemblePolicy(Policy):
    """``(B, n_obs_steps, F)`` features to the members' mean ``(B, T, D)``.

    Args:
        policies: The members, M of one configuration, with weights of their own.
        share: See :class:`EnsembleConfig`.
    """

    def __init__(self, policies: Sequence[Policy], share: float) -> None:
        super().__init__()
        self.policies = cast('Sequence[Policy]', nn.ModuleList(policies))
        self.chunk_size = policies[0].chunk_size
        self.n_obs_steps = policies[0].n_obs_steps
        self._share = share

    def loss(self, batch: Batch, generator: torch.Generator) -> Losses:
        """The sum of the members' losses, so that each learns as it would alone.

        What else the members report is averaged.
        """
        each = [policy.loss(self._part(batch, generator), generator) for policy in self.policies]
        means = {name: torch.stack([l[name] for l in each]).mean() for name in each[0]}
        return {**means, 'loss': means['loss'] * len(each)}

    def forward(self, batch: Batch, noise: torch.Tensor) -> torch.Tensor:
        """The mean of the members' chunks."""
        return self.members(batch, noise).mean(0)

    def draw(self, size: int, generator: torch.Generator) -> torch.Tensor:
        """The noise of one member: all get the same."""
        return self.policies[0].draw(size, generator)

    def members(self, batch: Batch, noise: torch.Tensor) -> torch.Tensor:
        """The members' chunks ``(M, B, T, D)`` with noise of :meth:`draw`; for :func:`spread`.

        All members get the same random numbers: what differs is what they learned, and equal
        members agree exactly, sampling policies as well.
        """
        return torch.stack([policy(batch, noise) for policy in self.policies])

    def _part(self, batch: Batch, generator: torch.Generator) -> Batch:
        """The batch with weight 0 for the samples that a member does not learn from."""
        if self._share == 1:
            return batch
        action = batch['action']
        drawn = draw_rows(len(action), batch.get(PART), lambda n: torch.rand(
            n, generator=generator, device=action.device))
        chosen = drawn < self._share
        return {**batch, 'weight': chosen * batch.get('weight', action.new_ones(()))}
