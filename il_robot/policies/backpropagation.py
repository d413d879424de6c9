"""The gradient of a perceptron's regression loss, written out (Rumelhart et al., Nature 1986).

Autograd notes down every operation, allocates every result and walks back through its notes;
for a net of a few thousand weights that costs several times the arithmetic. Here the same
operations run in the same order into buffers that stay, and give the bits that autograd gives.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

from il_robot.policies.policy import Batch, Gradients, Losses, step_counts


class RegressionGradient:
    """Loss and gradients of linear layers with ReLU between them.

    Args:
        trunk: Those layers; its weights stay where they are in memory.
        kind: Error of the outputs: absolute or squared.
    """

    def __init__(self, trunk: nn.Sequential, kind: Literal['l1', 'mse']) -> None:
        linear = [layer for layer in trunk if isinstance(layer, nn.Linear)]
        self._weights = [layer.weight.detach() for layer in linear]
        self._transposed = [weight.t() for weight in self._weights]
        self._biases = [layer.bias.detach() for layer in linear]
        self._kind = kind
        self._gradients = [torch.empty_like(p) for p in trunk.parameters()]
        self._rows = -1

    def __call__(
        self, batch: Batch, generator: torch.Generator
    ) -> tuple[Losses, Gradients]:
        """See :meth:`il_robot.policies.policy.Policy.closed_form`."""
        with torch.inference_mode():  # each operation then asks less
            return {'loss': self._passes(batch)}, self._gradients

    def _passes(self, batch: Batch) -> torch.Tensor:
        """Forwards and backwards; the loss."""
        features = batch['features'].flatten(1)
        if len(features) != self._rows:
            self._allocate(len(features))
        last = len(self._weights) - 1
        below = features
        for i, out in enumerate(self._outputs):
            torch.addmm(self._biases[i], below, self._transposed[i], out=out)
            below = out.relu_() if i < last else out
        loss = self._error(batch)
        for i in range(last, -1, -1):
            error, below = self._errors[i], self._outputs[i - 1] if i else features
            torch.mm(self._turned[i], below, out=self._gradients[2 * i])
            torch.sum(error, 0, out=self._gradients[2 * i + 1])
            if i:
                # the outputs of ReLU are not needed any more; their signs are its slopes
                torch.mm(error, self._weights[i], out=self._errors[i - 1]).mul_(below.sign_())
        return loss

    def _error(self, batch: Batch) -> torch.Tensor:
        """The masked mean error; its derivative by the outputs becomes the last error."""
        action, slope = batch['action'], self._errors[-1]  # (B, T, D), (B, T D)
        difference = self._outputs[-1].sub_(action.flatten(1))
        if self._kind == 'l1':
            torch.sign(difference, out=slope)
        else:
            torch.mul(difference, 2, out=slope)
        counts = step_counts(batch, action.shape[:2])
        if counts is None:
            slope.mul_(1 / slope.numel())
        else:
            share = counts * (1 / counts.sum().clamp_min_(1e-9)) / action.shape[-1]
            slope.view(action.shape).mul_(share[..., None])
        # Euler: position times slope is the value of a norm, and twice that of a square
        value = torch.dot(*self._flat)
        return value if self._kind == 'l1' else value / 2

    def _allocate(self, rows: int) -> None:
        self._rows = rows
        self._outputs, self._errors = (
            [bias.new_empty(rows, len(bias)) for bias in self._biases] for _ in range(2))
        self._turned = [error.t() for error in self._errors]
        self._flat = self._outputs[-1].view(-1), self._errors[-1].view(-1)
