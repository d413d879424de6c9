"""A small bounded correction on top of a policy that stays as it is.

Johannink et al., "Residual Reinforcement Learning for Robot Control", ICRA 2019; Silver et al.,
"Residual Policy Learning", 2018. With ``b`` the first step of the base policy's answer,

    answer + limit tanh(net(features, b)),

the same correction for every step of a chunk. The last layer begins as zeros: a fresh one is the
base policy, bit for bit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from il_robot.policies.mlp import mlp
from il_robot.policies.policy import Batch, Losses, Policy, masked_mean


@dataclass(frozen=True)
class ResidualConfig:
    """A corrected policy.

    Attributes:
        policy: The base policy's name in the registry.
        model: The base policy's configuration.
        hidden: Widths of the correction's hidden layers.
        limit: Largest correction of each number, in deviations of the demonstrated actions.
    """

    policy: str = 'chunk_mlp'
    model: Mapping[str, Any] = field(default_factory=dict)
    hidden: tuple[int, ...] = (256, 256)
    limit: float = 0.5

    def __post_init__(self) -> None:
        if self.policy == 'residual':
            raise ValueError('policy: a correction of a correction is one with a larger limit')
        if not self.hidden or min(self.hidden) < 1:
            raise ValueError(f'hidden must name one or more widths >= 1, got {self.hidden}')
        if not self.limit > 0:
            raise ValueError(f'limit must be > 0, got {self.limit}')


class ResidualPolicy(Policy):
    """``(B, n_obs_steps, F)`` features to the base policy's answer ``(B, T, D)``, corrected.

    Args:
        base: Its weights are frozen.
        config: Of the correction.
        inputs: Length of the flattened features.
        action_dim: D.
    """

    def __init__(
        self, base: Policy, config: ResidualConfig, inputs: int, action_dim: int
    ) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.chunk_size, self.n_obs_steps = base.chunk_size, base.n_obs_steps
        self.limit = config.limit
        self.trunk = mlp(inputs + action_dim, config.hidden, action_dim)
        last = self.trunk[-1]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def loss(self, batch: Batch, generator: torch.Generator) -> Losses:
        """Squared error of the corrected answer: what imitation would teach the correction."""
        with torch.no_grad():
            noise = self.base.draw(len(batch['action']), generator)
            answer = self.base(batch, noise)
        corrected = answer + self.correction(batch['features'].flatten(1), answer[:, 0])[:, None]
        return {'loss': masked_mean((corrected - batch['action']).square(), batch)}

    def forward(self, batch: Batch, noise: torch.Tensor) -> torch.Tensor:
        """The corrected answer."""
        answer, correction = self.parts(batch, noise)
        return answer + correction[:, None]

    def draw(self, size: int, generator: torch.Generator) -> torch.Tensor:
        """The base policy's."""
        return self.base.draw(size, generator)

    def parts(self, batch: Batch, noise: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The base policy's answer ``(B, T, D)`` and the correction ``(B, D)``."""
        answer: torch.Tensor = self.base(batch, noise)
        return answer, self.correction(batch['features'].flatten(1), answer[:, 0])

    def correction(self, features: torch.Tensor, base: torch.Tensor) -> torch.Tensor:
        """``(B, D)`` within the limit, of features ``(B, n_obs_steps F)`` and base ``(B, D)``."""
        correction: torch.Tensor = self.trunk(torch.cat([features, base], 1))
        return self.limit * torch.tanh(correction)
