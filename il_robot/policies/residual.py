"""A small bounded correction on top of a policy that stays as it is.

Johannink et al., "Residual Reinforcement Learning for Robot Control", ICRA 2019; Silver et al.,
"Residual Policy Learning", 2018; on policies that predict chunks: Ankile et al., "From Imitation
to Refinement", 2024. With ``b`` the action that the base policy's plan has for this instant,

    action = b + limit tanh(net(features, b)),

all normalised. The base plans as it always did, several steps at once; the correction looks at
every ``hold``-th observation and stays until the next.
:class:`il_robot.policies.residual_runner.ResidualRunner` runs both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from il_robot.policies.mlp import mlp
from il_robot.policies.policy import Batch, Losses, Policy, masked_mean


@dataclass(frozen=True)
class ResidualConfig:
    """A corrected policy.

    Attributes:
        policy: The base policy's name in the registry.
        model: The base policy's configuration.
        execution: How the base policy's chunks become its plan (``control.chunks.Execution``).
        hidden: Widths of the correction's hidden layers.
        limit: Largest correction of each number, in deviations of the demonstrated actions.
        hold: Control steps that a correction stays. Where only the outcome is rewarded, fewer
            decisions lie between a correction and what it brought.
    """

    policy: str = 'chunk_mlp'
    model: Mapping[str, Any] = field(default_factory=dict)
    execution: Mapping[str, Any] = field(default_factory=dict)
    hidden: tuple[int, ...] = (256, 256)
    limit: float = 0.5
    hold: int = 1

    def __post_init__(self) -> None:
        if self.policy == 'residual':
            raise ValueError('policy: a correction of a correction is one with a larger limit')
        if not self.hidden or min(self.hidden) < 1:
            raise ValueError(f'hidden must name one or more widths >= 1, got {self.hidden}')
        if not self.limit > 0:
            raise ValueError(f'limit must be > 0, got {self.limit}')
        if self.hold < 1:
            raise ValueError(f'hold must be >= 1, got {self.hold}')


def bounded(answer: torch.Tensor, limit: float) -> torch.Tensor:
    """The correction that the network's answer stands for."""
    return limit * torch.tanh(answer)


class ResidualPolicy(Policy):
    """The base policy and the network that corrects it.

    Called as other policies are, it corrects the base's newest chunk, every step of it alike:
    what runs where the base predicts anew in each control step and executes the newest chunk.

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
        self.limit, self.hold = config.limit, config.hold
        self.trunk = mlp(inputs + action_dim, config.hidden, action_dim)

    def loss(self, batch: Batch, generator: torch.Generator) -> Losses:
        """Squared error of the corrected answer: what imitation would teach the correction."""
        with torch.no_grad():
            answer = self.base(batch, self.base.draw(len(batch['action']), generator))
        corrected = self._corrected(batch, answer)
        return {'loss': masked_mean((corrected - batch['action']).square(), batch)}

    def forward(self, batch: Batch, noise: torch.Tensor) -> torch.Tensor:
        """The corrected answer ``(B, T, D)``."""
        return self._corrected(batch, self.base(batch, noise))

    def draw(self, size: int, generator: torch.Generator) -> torch.Tensor:
        """The base policy's."""
        return self.base.draw(size, generator)

    def correction(self, features: torch.Tensor, base: torch.Tensor) -> torch.Tensor:
        """``(B, D)`` within the limit, of features ``(B, n_obs_steps F)`` and base ``(B, D)``."""
        return bounded(self.trunk(torch.cat([features, base], 1)), self.limit)

    def _corrected(self, batch: Batch, answer: torch.Tensor) -> torch.Tensor:
        return answer + self.correction(batch['features'].flatten(1), answer[:, 0])[:, None]
