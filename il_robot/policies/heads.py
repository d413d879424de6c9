"""One-step behaviour cloning that predicts a distribution: a Gaussian or a mixture of them.

BC-GMM of Mandlekar et al., "What Matters in Learning from Offline Human Demonstrations for Robot
Manipulation" (robomimic), CoRL 2021; mixture densities: Bishop, "Mixture Density Networks", 1994.
The perceptron of :mod:`il_robot.policies.mlp` gives weights w, means mu and deviations sigma of
M modes, each with independent numbers,

    p(a | features) = sum_m w_m prod_d N(a_d; mu_md, sigma_md^2),

and the loss is ``-log p`` of the demonstration, per number of the action, so that the gradient
is clipped alike for robots with few and many joints. One mode is the Gaussian policy.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch.nn import functional

from il_robot.policies.features import FeatureLayout
from il_robot.policies.mlp import mlp
from il_robot.policies.policy import Batch, Losses, Policy, masked_mean


@dataclass(frozen=True)
class GaussianConfig:
    """The one-step policy with one Gaussian.

    Attributes:
        hidden: Widths of the hidden layers.
        n_obs_steps: Observations looked at.
        min_std: Smallest deviation, in deviations of the data. robomimic has 0.01 for its
            Gaussian and 0.0001 for its mixture; the latter lets joints that hardly move rule
            the loss.
        low_noise: Act by the mean of the mode drawn, as robomimic does in evaluation (up to a
            deviation of 0.0001); otherwise by a sample of the distribution.
    """

    hidden: tuple[int, ...] = (256, 256, 256)
    n_obs_steps: int = 1
    min_std: float = 0.01
    low_noise: bool = True

    def __post_init__(self) -> None:
        if not self.hidden or min(self.hidden) < 1:
            raise ValueError(f'hidden must name one or more widths >= 1, got {self.hidden}')
        if self.n_obs_steps < 1:
            raise ValueError(f'n_obs_steps must be >= 1, got {self.n_obs_steps}')
        if not 0 < self.min_std < math.inf:
            raise ValueError(f'min_std must be > 0 and finite, got {self.min_std}')


@dataclass(frozen=True)
class GMMConfig(GaussianConfig):
    """The one-step policy with a mixture.

    Attributes:
        modes: Gaussians in the mixture, M; 5 in robomimic.
    """

    modes: int = 5

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.modes < 2:
            raise ValueError(f'modes must be >= 2, got {self.modes}; for one: mlp_gaussian')


class MixturePolicy(Policy):
    """``(B, n_obs_steps, F)`` features to a distribution of ``(B, 1, D)`` targets."""

    chunk_size = 1

    def __init__(
        self, config: GaussianConfig, layout: FeatureLayout, action_dim: int, modes: int
    ) -> None:
        super().__init__()
        self.n_obs_steps = config.n_obs_steps
        self._modes = modes
        self._min_std = config.min_std
        self._low_noise = config.low_noise
        self._action_dim = action_dim
        # only the differences of the weights' logits matter: the first is 0
        outputs = modes - 1 + 2 * modes * action_dim
        self.trunk = mlp(layout.dim * config.n_obs_steps, config.hidden, outputs)

    def loss(self, batch: Batch, generator: torch.Generator) -> Losses:
        """The masked negative log-likelihood per number [nats]."""
        action = batch['action']  # (B, 1, D)
        log_p = log_likelihood(action[:, 0], *self.distribution(batch['features']))  # (B,)
        error = -log_p / action.shape[-1]
        return {'loss': masked_mean(error[:, None, None], batch)}

    def forward(self, batch: Batch, noise: torch.Tensor) -> torch.Tensor:
        """The mean of a mode drawn by its weight, or a sample of it.

        The first of M exponential clocks that run at the speeds w rings with probability w.
        """
        log_weight, mean, std = self.distribution(batch['features'])
        clocks, normal = noise.split([self._modes, noise.shape[1] - self._modes], 1)
        mode = (log_weight.exp() / clocks).argmax(1, keepdim=True)  # (B, 1)
        index = mode[..., None].expand(-1, 1, mean.shape[-1])
        action = mean.gather(1, index)  # (B, 1, D)
        if not self._low_noise:
            action = action + normal[:, None] * std.gather(1, index)
        return action

    def draw(self, size: int, generator: torch.Generator) -> torch.Tensor:
        """M exponential numbers, then D normal ones where a sample is asked for."""
        clocks = torch.empty(size, self._modes, device=generator.device)
        clocks.exponential_(generator=generator)
        normal = torch.empty(
            size, 0 if self._low_noise else self._action_dim, device=generator.device)
        return torch.cat([clocks, normal.normal_(generator=generator)], 1)

    def distribution(
        self, features: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Log-weights ``(B, M)``, means and deviations ``(B, M, D)`` of the modes."""
        modes = self._modes
        out = self.trunk(features.flatten(1))
        logits, rest = out[:, :modes - 1], out[:, modes - 1:].unflatten(1, (2, modes, -1))
        log_weight = functional.pad(logits, (1, 0)).log_softmax(-1)
        return log_weight, rest[:, 0], functional.softplus(rest[:, 1]) + self._min_std


def log_likelihood(
    action: torch.Tensor, log_weight: torch.Tensor, mean: torch.Tensor, std: torch.Tensor
) -> torch.Tensor:
    """Log-density of a mixture of Gaussians with diagonal covariance.

    Args:
        action: ``(B, D)``.
        log_weight: ``(B, M)``.
        mean: ``(B, M, D)``.
        std: ``(B, M, D)``.

    Returns:
        ``(B,)`` [nats].
    """
    z = (action[:, None] - mean) / std  # (B, M, D)
    log_normal = -0.5 * z**2 - std.log() - 0.5 * math.log(2 * math.pi)
    return torch.logsumexp(log_weight + log_normal.sum(-1), -1)


def build_mlp_gaussian(
    config: GaussianConfig, layout: FeatureLayout, action_dim: int
) -> MixturePolicy:
    """The one-step policy with one Gaussian."""
    return MixturePolicy(config, layout, action_dim, modes=1)


def build_mlp_gmm(config: GMMConfig, layout: FeatureLayout, action_dim: int) -> MixturePolicy:
    """The one-step policy with a mixture."""
    return MixturePolicy(config, layout, action_dim, config.modes)
