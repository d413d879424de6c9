"""The gradient of a perceptron's loss, written out (Rumelhart et al., Nature 1986).

Autograd notes down every operation, allocates every result and walks back through its notes;
for a net of a few thousand weights that costs several times the arithmetic. Here the same
operations run in the same order into buffers that stay, and give the bits that autograd gives
(where all outputs are asked for; otherwise the last sums may round differently).
"""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import Literal

import torch
from torch import nn

from il_robot.policies.policy import Batch, Gradients, Losses, step_counts


class Perceptron:
    """Linear layers with ReLU between them, forwards and backwards.

    Both passes are to run under ``torch.inference_mode``: each operation then asks less. What
    they return is overwritten by the next ones.

    Args:
        trunk: Those layers; its weights stay where they are in memory.
        outputs: How many of its first outputs are asked for; None for all.
        before: What is done to the inputs first, with nothing in it that is trained.
    """

    def __init__(
        self, trunk: nn.Sequential, outputs: int | None = None,
        before: Callable[[torch.Tensor], torch.Tensor] | None = None,
    ) -> None:
        linear = [layer for layer in trunk if isinstance(layer, nn.Linear)]
        self._parameters = [p for layer in linear for p in (layer.weight, layer.bias)]
        self._gradients = [torch.empty_like(p) for p in self._parameters]
        self._weights = [layer.weight.detach() for layer in linear]
        self._biases = [layer.bias.detach() for layer in linear]
        self._by_weights, self._by_biases = self._gradients[::2], self._gradients[1::2]
        for values in (self._weights, self._biases, self._by_weights, self._by_biases):
            values[-1] = values[-1][:outputs]
        self._not_asked = [g[outputs:] for g in self._gradients[-2:]] if outputs else []
        self._transposed = [weight.t() for weight in self._weights]
        self._before, self._rows = before, -1

    @staticmethod
    def of(net: nn.Module) -> Perceptron | None:
        """The passes of a network that is one, all of it trained; None for others.

        It is one where it is Linear, ReLU, Linear, ..., Linear, or where it says what it is
        (:class:`Wrapped`); nothing in it may be used twice, hooked or parametrized.
        """
        if isinstance(net, Wrapped):
            found = net.perceptron()
        elif type(net) is nn.Sequential and _alternates(net):
            found = Perceptron(net)
        else:
            return None
        parameters = list(net.parameters())
        same = len(parameters) == len(found._parameters) and all(
            a is b and a.requires_grad for a, b in zip(parameters, found._parameters))
        return found if same else None

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """``(B, O)`` of ``(B, I)``."""
        if len(inputs) != self._rows:
            self._allocate(len(inputs))
        if self._before is not None:
            inputs = self._before(inputs)
        self._inputs = below = inputs
        last = len(self._weights) - 1
        for i, out in enumerate(self._outputs):
            torch.addmm(self._biases[i], below, self._transposed[i], out=out)
            below = out.relu_() if i < last else out
        return below

    @property
    def slope(self) -> torch.Tensor:
        """``(B, O)`` derivatives by the outputs, to be filled in for :meth:`backward`."""
        return self._errors[-1]

    def backward(self) -> list[torch.Tensor]:
        """The gradients of all parameters, in their order, for :attr:`slope`."""
        for i in range(len(self._weights) - 1, -1, -1):
            error, below = self._errors[i], self._outputs[i - 1] if i else self._inputs
            torch.mm(self._turned[i], below, out=self._by_weights[i])
            torch.sum(error, 0, out=self._by_biases[i])
            if i:
                # the outputs of ReLU are not needed any more; their signs are its slopes
                torch.mm(error, self._weights[i], out=self._errors[i - 1]).mul_(below.sign_())
        for rest in self._not_asked:  # each time: who clips them may have made them no numbers
            rest.zero_()
        return self._gradients

    def _allocate(self, rows: int) -> None:
        self._rows = rows
        self._outputs, self._errors = (
            [bias.new_empty(rows, len(bias)) for bias in self._biases] for _ in range(2))
        self._turned = [error.t() for error in self._errors]


def _alternates(net: nn.Sequential) -> bool:
    """Whether it is Linear, ReLU, Linear, ..., Linear, as they come."""
    return len(net) % 2 == 1 and not net._forward_hooks and not net._forward_pre_hooks and all(
        type(layer) is (nn.ReLU if i % 2 else nn.Linear)
        and getattr(layer, 'bias', True) is not None
        and not layer._forward_hooks and not layer._forward_pre_hooks
        and not layer._backward_hooks for i, layer in enumerate(net))


class Wrapped(abc.ABC):
    """A network that is a perceptron, with something before it, or of which only a part counts."""

    @abc.abstractmethod
    def perceptron(self) -> Perceptron:
        """Its passes."""


class RegressionGradient:
    """Loss and gradients of linear layers with ReLU between them.

    Args:
        trunk: Those layers; its weights stay where they are in memory.
        kind: Error of the outputs: absolute or squared.
    """

    def __init__(self, trunk: nn.Sequential, kind: Literal['l1', 'mse']) -> None:
        self._net, self._kind = Perceptron(trunk), kind

    def __call__(
        self, batch: Batch, generator: torch.Generator | None = None
    ) -> tuple[Losses, Gradients]:
        """See :meth:`il_robot.policies.policy.Policy.closed_form`."""
        with torch.inference_mode():
            loss = self._error(batch, self._net.forward(batch['features'].flatten(1)))
            return {'loss': loss}, self._net.backward()

    def _error(self, batch: Batch, output: torch.Tensor) -> torch.Tensor:
        """The masked mean error; its derivative by the outputs becomes the net's slope."""
        action, slope = batch['action'], self._net.slope  # (B, T, D), (B, T D)
        difference = output.sub_(action.flatten(1))
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
        value = torch.dot(difference.view(-1), slope.view(-1))
        return value if self._kind == 'l1' else value / 2
