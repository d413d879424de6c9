"""GAIL (Ho and Ermon, NIPS 2016): a policy that cannot be told apart from the demonstrations.

"Generative Adversarial Imitation Learning". A discriminator ``D(s, a)`` learns to tell the
demonstrations (1) from what the policy does (0); the policy learns by PPO
(:mod:`il_robot.algorithms.ppo`) from a reward made of its logit ``f``, ``D = sigmoid(f)``:

- ``gail``: ``-log(1 - D)``, above 0; for tasks in which to go on is good;
- ``log``: ``log D``, below 0; for tasks that are to be ended soon;
- ``airl``, the default: ``log D - log(1 - D) = f``, of either sign (Fu et al., "Learning Robust
  Rewards with Adversarial Inverse Reinforcement Learning", ICLR 2018, without their term of the
  states). The other two pay for staying alive, or for dying, whatever is done (Kostrikov et al.,
  "Discriminator-Actor-Critic", ICLR 2019).

Stable by a gradient penalty on mixtures of both (Gulrajani et al. 2017) or by spectral
normalisation (Miyato et al. 2018).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional
from torch.nn.utils.parametrizations import spectral_norm

from il_robot.algorithms.optimizer import AdamW
from il_robot.algorithms.rollout import Rollout
from il_robot.policies.mlp import mlp
from il_robot.types import Float32

_FLAT = 1e-3


@dataclass(frozen=True)
class GAILConfig:
    """Of the discriminator.

    Attributes:
        reward: See the module.
        hidden: Widths of its hidden layers.
        learning_rate: Of AdamW.
        batch_size: Pairs of each kind per step.
        steps: Per rollout.
        penalty: Weight of the gradient penalty; 0 for none.
        spectral: Normalise every layer by its largest singular value.
        noise: Deviation of Gaussian noise on its inputs, in deviations of the demonstrations.
    """

    reward: Literal['airl', 'gail', 'log'] = 'airl'
    hidden: tuple[int, ...] = (64, 64)
    learning_rate: float = 3e-4
    batch_size: int = 256
    steps: int = 20
    penalty: float = 1.0
    spectral: bool = False
    noise: float = 0.0

    def __post_init__(self) -> None:
        if self.batch_size < 1 or self.steps < 1:
            raise ValueError(
                f'batch_size and steps must be >= 1, got {self.batch_size} and {self.steps}')
        if self.penalty < 0 or self.noise < 0:
            raise ValueError(
                f'penalty and noise must be >= 0, got {self.penalty} and {self.noise}')


class GAIL:
    """The discriminator and its training: the ``shape`` of a PPOTrainer.

    Args:
        obs: ``(N, O)`` demonstrated.
        action: ``(N, A)`` demonstrated, or ``(N,)`` where they are numbers of a choice.
        choices: How many there are then; 0 for numbers ``(N, A)``.
        config: See there.
        seed: Of the weights and all random numbers here.
        bounds: Lowest and highest actions ``(A,)``, at which the worlds hold what is beyond:
            the demonstrations have none beyond, and a policy is judged by what was done.

    Raises:
        ValueError: no demonstrations, or not as many actions.
    """

    def __init__(
        self, obs: Float32, action: NDArray[Any], choices: int, config: GAILConfig, seed: int,
        bounds: tuple[Float32, Float32] | None = None,
    ) -> None:
        if not len(obs) or len(obs) != len(action):
            raise ValueError(
                f'as many observations as actions are needed, got {len(obs)} and {len(action)}')
        torch.manual_seed(seed)
        self._choices, self._bounds, self.config = choices, bounds, config
        pairs = self._pairs(obs, action)
        spread = pairs.std(0)
        # what the demonstrations never vary is not a thousand times as suspicious as the rest
        self._offset, self._scale = pairs.mean(0), torch.where(spread > _FLAT, spread, 1.0)
        self._expert = (pairs - self._offset) / self._scale
        self.net = mlp(pairs.shape[1], config.hidden, 1)
        if config.spectral:
            for layer in self.net:
                if isinstance(layer, nn.Linear):
                    spectral_norm(layer)
        self._optimizer = AdamW(self.net, 0.0)
        self._generator = torch.Generator().manual_seed(seed)

    def _pairs(self, obs: Float32, action: NDArray[Any]) -> torch.Tensor:
        """``(N, O + A)``, choices one-hot."""
        action = np.asarray(action)
        if self._bounds is not None:
            action = action.clip(*self._bounds)
        seen, did = torch.from_numpy(obs), torch.from_numpy(action)
        if self._choices:
            did = functional.one_hot(did.long(), self._choices)
        return torch.cat([seen, did.float()], 1)

    def __call__(self, rollout: Rollout) -> tuple[Float32, dict[str, torch.Tensor]]:
        """Learn from a rollout, then reward it: ``(T, W)``, and losses, detached."""
        shape = rollout.reward.shape
        action = rollout.action.reshape(-1, *rollout.action.shape[2:])
        pairs = self._pairs(rollout.obs.reshape(len(action), -1), action)
        own = (pairs - self._offset) / self._scale
        losses: dict[str, torch.Tensor] = {}
        for _ in range(self.config.steps):
            losses = self._step(self._draw(self._expert), self._draw(own))
        return self.reward(own).numpy().reshape(shape), losses

    def reward(self, pairs: torch.Tensor) -> torch.Tensor:
        """``(N,)`` of normalised pairs."""
        with torch.no_grad():
            logit: torch.Tensor = self.net(pairs)[:, 0]
        return {'airl': lambda: logit, 'gail': lambda: functional.softplus(logit),
                'log': lambda: -functional.softplus(-logit)}[self.config.reward]()

    def _draw(self, pairs: torch.Tensor) -> torch.Tensor:
        rows = torch.randint(len(pairs), (self.config.batch_size,), generator=self._generator)
        drawn = pairs[rows]
        if self.config.noise:
            drawn = drawn + self.config.noise * torch.empty_like(drawn).normal_(
                generator=self._generator)
        return drawn

    def _step(self, expert: torch.Tensor, own: torch.Tensor) -> dict[str, torch.Tensor]:
        config = self.config
        theirs, ours = self.net(expert)[:, 0], self.net(own)[:, 0]
        loss = functional.softplus(-theirs).mean() + functional.softplus(ours).mean()
        out = {'discriminator_loss': loss.detach(),
               'expert_accuracy': (theirs > 0).float().mean(),
               'policy_accuracy': (ours < 0).float().mean()}
        if config.penalty:
            share = torch.empty(len(own), 1).uniform_(generator=self._generator)
            mixed = (share * expert + (1 - share) * own).requires_grad_()
            slope, = torch.autograd.grad(self.net(mixed).sum(), mixed, create_graph=True)
            loss = loss + config.penalty * (slope.norm(dim=1) - 1).square().mean()
        gradients = torch.autograd.grad(loss, list(self.net.parameters()))
        self._optimizer.update(gradients, config.learning_rate)
        return out
