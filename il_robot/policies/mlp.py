"""Behaviour cloning with a multi-layer perceptron: one step, or a chunk of steps at once.

One step: Pomerleau, "ALVINN: An Autonomous Land Vehicle in a Neural Network", NIPS 1988. Chunk:
action chunking as in Zhao et al., "Learning Fine-Grained Bimanual Manipulation with Low-Cost
Hardware" (ACT), RSS 2023, section IV-B, without its transformer and its CVAE: the trunk's last
layer gives all ``T x D`` targets.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn
from torch.nn import functional

from il_robot.policies.backpropagation import RegressionGradient
from il_robot.policies.features import FeatureLayout
from il_robot.policies.policy import Batch, ClosedForm, Losses, Policy, masked_mean


@dataclass(frozen=True)
class MLPConfig:
    """The one-step policy.

    Attributes:
        hidden: Widths of the hidden layers.
        loss: ``l1`` (the median of the demonstrations) or ``mse`` (their mean).
        n_obs_steps: Observations looked at. One is the default on purpose: with a history, a
            cloned policy tends to copy the last action (de Haan et al., NeurIPS 2019).
    """

    hidden: tuple[int, ...] = (256, 256, 256)
    loss: Literal['l1', 'mse'] = 'l1'
    n_obs_steps: int = 1

    def __post_init__(self) -> None:
        if not self.hidden or min(self.hidden) < 1:
            raise ValueError(f'hidden must name one or more widths >= 1, got {self.hidden}')
        if self.n_obs_steps < 1:
            raise ValueError(f'n_obs_steps must be >= 1, got {self.n_obs_steps}')


@dataclass(frozen=True)
class ChunkMLPConfig(MLPConfig):
    """The chunk policy.

    Attributes:
        chunk_size: Actions predicted at once; 20 are 0.4 s at 50 Hz.
    """

    chunk_size: int = 20

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.chunk_size < 1:
            raise ValueError(f'chunk_size must be >= 1, got {self.chunk_size}')


class MLPPolicy(Policy):
    """``(B, n_obs_steps, F)`` features to ``(B, T, D)`` targets; deterministic."""

    def __init__(
        self, config: MLPConfig, layout: FeatureLayout, action_dim: int, chunk_size: int
    ) -> None:
        super().__init__()
        self.chunk_size = chunk_size
        self.n_obs_steps = config.n_obs_steps
        self._kind = config.loss
        self._error = {'l1': functional.l1_loss, 'mse': functional.mse_loss}[config.loss]
        self.trunk = mlp(
            layout.dim * config.n_obs_steps, config.hidden, chunk_size * action_dim
        )

    def loss(self, batch: Batch, generator: torch.Generator) -> Losses:
        """The masked L1 or squared error of all steps."""
        action = batch['action']
        error = self._error(self._targets(batch), action, reduction='none')
        return {'loss': masked_mean(error, batch)}

    def closed_form(self) -> ClosedForm:
        """That of the perceptron."""
        return RegressionGradient(self.trunk, self._kind)

    def forward(self, batch: Batch, noise: torch.Tensor) -> torch.Tensor:
        """All targets in one pass, without noise."""
        return self._targets(batch)

    def _targets(self, batch: Batch) -> torch.Tensor:
        flat: torch.Tensor = self.trunk(batch['features'].flatten(1))
        return flat.view(len(flat), self.chunk_size, -1)


def mlp(inputs: int, hidden: tuple[int, ...], outputs: int) -> nn.Sequential:
    """Linear layers with ReLU between them."""
    widths = (inputs, *hidden)
    layers: list[nn.Module] = []
    for a, b in zip(widths, widths[1:]):
        layers += [nn.Linear(a, b), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(widths[-1], outputs))


def build_mlp(config: MLPConfig, layout: FeatureLayout, action_dim: int) -> MLPPolicy:
    """The one-step policy."""
    return MLPPolicy(config, layout, action_dim, chunk_size=1)


def build_chunk_mlp(config: ChunkMLPConfig, layout: FeatureLayout, action_dim: int) -> MLPPolicy:
    """The chunk policy."""
    return MLPPolicy(config, layout, action_dim, config.chunk_size)
