"""What follows the gradient: clipping, AdamW, and the mean of the weights over the steps.

A small policy's step takes a tenth of a millisecond, so that what surrounds the arithmetic
counts: lists of tensors are made once, and they are the weights without their part in autograd.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Generic, TypeVar

import torch
from torch import nn

from il_robot.policies.policy import Gradients

Net = TypeVar('Net', bound=nn.Module)


def clip(gradients: Gradients, largest: float) -> None:
    """Scale all gradients so that their common norm is at most ``largest``.

    The numbers are those of ``torch.nn.utils.clip_grad_norm_``, which takes nearly twice as long,
    since it first looks up where each tensor is.
    """
    found = [g for g in gradients if g is not None]
    norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(found)))
    torch._foreach_mul_(found, (largest / (norm + 1e-6)).clamp_(max=1.0))


class AdamW:
    """AdamW (Loshchilov and Hutter, ICLR 2019): torch's fused kernel without its Optimizer class.

    The first use of that class loads torch's compiler, which takes as long as torch itself.

    Args:
        policy: Its trainable weights are optimised; they stay where they are in memory.
        weight_decay: Decoupled from the gradient.
    """

    def __init__(self, policy: nn.Module, weight_decay: float) -> None:
        trainable = {n: p for n, p in policy.named_parameters() if p.requires_grad}
        self._names = list(trainable)
        self._weights = [p.detach() for p in trainable.values()]
        self._weight_decay = weight_decay
        # one tensor, so that counting is one call
        self._steps = torch.zeros(len(self._names), device=self._weights[0].device)
        self._step = list(self._steps.unbind())
        self._mean = [torch.zeros_like(w) for w in self._weights]
        self._square = [torch.zeros_like(w) for w in self._weights]

    def state(self) -> dict[str, dict[str, torch.Tensor]]:
        """Steps, and running means of the gradient and its square, each by parameter."""
        values = {'step': self._step, 'exp_avg': self._mean, 'exp_avg_sq': self._square}
        return {key: dict(zip(self._names, tensors)) for key, tensors in values.items()}

    def restore(self, state: Mapping[str, Mapping[str, torch.Tensor]]) -> None:
        """The inverse of :meth:`state`."""
        for key, values in self.state().items():
            for name, value in values.items():
                value.copy_(state[key][name])

    def update(self, gradients: Gradients, learning_rate: float) -> None:
        """One step of the weights that have a gradient.

        Args:
            gradients: Of each trainable weight, in the order of the policy's parameters.
            learning_rate: Of this step.
        """
        step, weights, mean, square = self._step, self._weights, self._mean, self._square
        found = [g for g in gradients if g is not None]
        if len(found) == len(weights):
            self._steps.add_(1)
        else:
            step, weights, mean, square = (
                [v for v, g in zip(values, gradients) if g is not None]
                for values in (step, weights, mean, square))
            torch._foreach_add_(step, 1)
        torch._fused_adamw_(
            weights, found, mean, square, [], step, lr=learning_rate, beta1=0.9, beta2=0.999,
            weight_decay=self._weight_decay, eps=1e-8, amsgrad=False, maximize=False)


class RunningMean(Generic[Net]):
    """The mean of the weights over the steps, forgetting old ones.

    Args:
        policy: Whose weights.
        decay: Of the mean; 0 keeps none.

    Attributes:
        policy: One with the mean weights; the given one itself where none are kept.
    """

    def __init__(self, policy: Net, decay: float) -> None:
        self.policy = copy.deepcopy(policy) if decay else policy
        self._decay = decay
        self._means, self._weights = (
            [p.detach() for p in each.parameters()] for each in (self.policy, policy))
        self._buffers = list(zip(self.policy.buffers(), policy.buffers()))

    def update(self, step: int) -> None:
        """Take in the weights after ``step`` steps."""
        if not self._decay:
            return
        # a mean over the steps there are, until there are enough of them
        decay = min(self._decay, step / (10 + step))
        torch._foreach_lerp_(self._means, self._weights, 1 - decay)
        for mean, value in self._buffers:
            mean.copy_(value)
