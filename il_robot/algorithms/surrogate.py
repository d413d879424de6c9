"""The gradient of PPO's clipped surrogate for a Gaussian around a perceptron, written out.

Schulman et al., "Proximal Policy Optimization Algorithms", 2017, equation 7, with an entropy
bonus and an anchor. With ``z = (a - mean) / std`` and the weight ``w`` of a row, the derivative of
the loss by its log-density, it is ``w z / std`` by the mean and ``w (z^2 - 1)`` by ``log std``.
"""

from __future__ import annotations

import math

import torch

from il_robot.algorithms.actor import LEAST_LOG_STD, MOST_LOG_STD, Actor
from il_robot.policies.backpropagation import Perceptron
from il_robot.policies.policy import Batch, Gradients, Losses

_ENTROPY = 0.5 * math.log(2 * math.pi * math.e)  # of a number with deviation 1


class SurrogateGradient:
    """Loss and gradients of all of an actor's parameters, in their order.

    Args:
        actor: Its weights stay where they are in memory.
        net: The passes of its network.
    """

    def __init__(self, actor: Actor, net: Perceptron) -> None:
        self._net = net
        self._log_std = actor.log_std.detach()
        self._by_log_std = torch.empty_like(self._log_std)

    def __call__(
        self, batch: Batch, clip: float, entropy: float, anchor: float
    ) -> tuple[Losses, Gradients]:
        """Of one batch; the next call overwrites the gradients.

        Args:
            batch: ``obs`` ``(B, O)``; ``action`` ``(B, A)``; ``log_p`` and ``gain`` ``(B,)``; for
                an anchor ``start`` ``(B, A)``, the means of the policy to stay close to.
            clip: Of the ratio of the likelihoods.
            entropy: Weight of the Gaussian's entropy.
            anchor: Weight of the divergence from them [1/nats].
        """
        with torch.inference_mode():
            mean = self._net.forward(batch['obs'])
            log_std = self._log_std.clamp(LEAST_LOG_STD, MOST_LOG_STD)
            inverse = log_std.neg().exp_()
            z = (batch['action'] - mean).mul_(inverse)
            square = z.square()
            out, weight = self._surrogate(batch, square, log_std, clip)
            torch.mul(z, inverse, out=self._net.slope).mul_(weight[:, None])
            by_log_std = torch.mv(square.t(), weight).sub_(weight.sum() + entropy)
            if entropy:
                out['actor_loss'] -= entropy * (log_std.sum() + _ENTROPY * len(log_std))
            if 'start' in batch:
                far = (mean - batch['start']).mul_(inverse)
                share = anchor / len(far)
                self._net.slope.addcmul_(far, inverse, value=share)
                by_dim = far.square_().sum(0)
                by_log_std.sub_(by_dim, alpha=share)
                out['from_start'] = by_dim.sum() / (2 * len(mean))
            # beyond the bounds it changes nothing
            torch.mul(by_log_std, log_std == self._log_std, out=self._by_log_std)
            return out, [self._by_log_std, *self._net.backward()]

    def _surrogate(
        self, batch: Batch, square: torch.Tensor, log_std: torch.Tensor, clip: float
    ) -> tuple[Losses, torch.Tensor]:
        """The loss, and its derivatives ``(B,)`` by the log-densities of the rows."""
        constant = log_std.sum() + 0.5 * math.log(2 * math.pi) * len(log_std)
        ratio = (-0.5 * square.sum(1)).sub_(batch['log_p']).sub_(constant).exp_()
        free = ratio * batch['gain']
        clipped = ratio.clamp_(1 - clip, 1 + clip).mul_(batch['gain'])
        least = torch.minimum(free, clipped)
        # where the clipped one is less, no step changes it
        weight = free.mul_(free <= clipped).mul_(-1 / len(free))
        return {'actor_loss': -least.mean()}, weight
