"""An ensemble of critics with layer normalisation, and the gradient of their squared error.

The gradient is written out (Rumelhart et al., Nature 1986), as that of a perceptron is in
:mod:`il_robot.policies.backpropagation`, and for the same reason.
"""

from __future__ import annotations

import math

import torch
from torch import nn

from il_robot.policies.policy import Gradients

_EPSILON = 1e-5  # of the normalisation


class Critics(nn.Module):
    """E networks of the same shape at once: ``(B, O + A)`` to ``(E, B)``.

    Linear, layer normalisation, ReLU; the last layer linear. Without the normalisation values of
    actions never tried run away (RLPD, section 4.2).

    Args:
        inputs: O + A.
        hidden: Widths.
        count: E.
    """

    def __init__(self, inputs: int, hidden: tuple[int, ...], count: int) -> None:
        super().__init__()
        widths = (inputs, *hidden, 1)
        self.weights, self.biases, self.gains, self.shifts = (
            nn.ParameterList() for _ in range(4))
        for a, b in zip(widths, widths[1:]):
            bound = 1 / math.sqrt(a)  # as nn.Linear
            self.weights.append(nn.Parameter(torch.empty(count, a, b).uniform_(-bound, bound)))
            self.biases.append(nn.Parameter(torch.empty(count, 1, b).uniform_(-bound, bound)))
            if b != 1:
                self.gains.append(nn.Parameter(torch.ones(count, 1, b)))
                self.shifts.append(nn.Parameter(torch.zeros(count, 1, b)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``(E, B)``."""
        count = len(self.weights[0])
        x = x.expand(count, *x.shape)
        for i, gain in enumerate(self.gains):
            x = torch.baddbmm(self.biases[i], x, self.weights[i])
            x = nn.functional.layer_norm(x, x.shape[-1:], eps=_EPSILON)
            x = torch.relu(torch.addcmul(self.shifts[i], x, gain))
        return torch.baddbmm(self.biases[-1], x, self.weights[-1])[..., 0]


class WrittenOut:
    """Critics without autograd, one after the other: what one computes with stays in the cache.

    Results of a quarter of a megabyte that are allocated anew each time would be memory given
    back to the operating system and asked for again. The next call overwrites gradients.

    Args:
        critics: Their weights stay where they are in memory.
    """

    def __init__(self, critics: Critics) -> None:
        kinds = critics.weights, critics.biases, critics.gains, critics.shifts
        weights = [[p.detach() for p in kind] for kind in kinds]
        gradients = [[torch.empty_like(p) for p in kind] for kind in kinds]
        self._gradients = [g for kind in gradients for g in kind]
        self._each = [
            _One(*([[p[e] for p in kind] for kind in every] for every in (weights, gradients)))
            for e in range(len(critics.weights[0]))]

    def values(self, x: torch.Tensor) -> torch.Tensor:
        """``(E, B)`` of ``(B, O + A)``."""
        with torch.inference_mode():
            return torch.stack([one.forward(x)[:, 0] for one in self._each])

    def error(self, x: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, Gradients]:
        """The mean squared error, and its gradients of all parameters, in their order.

        Args:
            x: ``(B, O + A)``.
            target: ``(B,)`` for each of the critics.
        """
        with torch.inference_mode():
            total, count = x.new_zeros(()), len(self._each) * len(x)
            for one in self._each:
                error = one.forward(x) - target[:, None]
                one.backward(error * (2 / count))
                total += error.square_().sum()
            return total / count, self._gradients

    def slope(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The mean value ``()`` of ``(B, O + A)``, over critics and rows; its derivative by it."""
        with torch.inference_mode():
            total, slope, count = x.new_zeros(()), torch.zeros_like(x), len(self._each) * len(x)
            for one in self._each:
                total += one.forward(x).sum()
                one.backward(x.new_full((len(x), 1), 1 / count), slope)
            return total / count, slope


class _One:
    """One critic, forwards and backwards into buffers that stay.

    Args:
        parameters: Weights ``(I, W)``, biases, gains and shifts ``(1, W)``, those of each layer.
        gradients: Of them, to be filled in.
    """

    def __init__(
        self, parameters: list[list[torch.Tensor]], gradients: list[list[torch.Tensor]]
    ) -> None:
        self._weights, self._biases, self._gains, self._shifts = parameters
        self._by_weights, self._by_biases, self._by_gains, self._by_shifts = gradients
        self._rows = -1

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``(B, 1)`` of ``(B, I)``."""
        if len(x) != self._rows:
            self._allocate(len(x))
        self._below, self._normal = [x], []
        for i, total in enumerate(self._sums):
            torch.addmm(self._biases[i], self._below[i], self._weights[i], out=total)
            if i < len(self._gains):
                self._normal.append(torch.native_layer_norm(
                    total, total.shape[-1:], self._gains[i][0], self._shifts[i][0], _EPSILON))
                self._below.append(self._normal[i][0].relu_())
        return self._sums[-1]

    def backward(self, slope: torch.Tensor, by_input: torch.Tensor | None = None) -> None:
        """From ``(B, 1)`` derivatives by the values to those by all parameters.

        Args:
            slope: See above.
            by_input: Instead add the derivatives by the input ``(B, I)`` to it.
        """
        learn = by_input is None
        for i in range(len(self._weights) - 1, -1, -1):
            if i < len(self._gains):
                output, mean, inverse = self._normal[i]
                torch.ops.aten.threshold_backward.grad_input(slope, output, 0, grad_input=slope)
                slope, by_gain, by_shift = torch.ops.aten.native_layer_norm_backward(
                    slope, self._sums[i], slope.shape[-1:], mean, inverse, self._gains[i][0],
                    self._shifts[i][0], [True, learn, learn])
                if learn:
                    self._by_gains[i].copy_(by_gain)
                    self._by_shifts[i].copy_(by_shift)
            if learn:
                torch.mm(self._below[i].t(), slope, out=self._by_weights[i])
                torch.sum(slope, 0, keepdim=True, out=self._by_biases[i])
            if i:
                slope = torch.mm(slope, self._weights[i].t(), out=self._errors[i - 1])
        if by_input is not None:
            by_input.addmm_(slope, self._weights[0].t())

    def _allocate(self, rows: int) -> None:
        self._rows = rows
        self._sums = [bias.new_empty(rows, bias.shape[-1]) for bias in self._biases]
        self._errors = [torch.empty_like(total) for total in self._sums[:-1]]
