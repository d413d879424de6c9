"""A policy with noise around it, for reinforcement learning."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional

LEAST_LOG_STD, MOST_LOG_STD = math.log(1e-3), math.log(2.0)


class Actor(nn.Module):
    """A Gaussian around a network's answer; with a limit, squashed into it.

    ``a = limit tanh(u)`` with ``u ~ N(net(obs), std)``, or ``a = u`` without limit. One deviation
    per number of the action, the same everywhere: what is deployed is the network alone.

    Args:
        net: ``(B, O)`` to ``(B, A)``.
        action_dim: A.
        std: At first.
        limit: Of each number; infinite for none.
    """

    def __init__(
        self, net: nn.Module, action_dim: int, std: float = 0.1, limit: float = math.inf
    ) -> None:
        super().__init__()
        self.net, self.limit = net, limit
        self.log_std = nn.Parameter(torch.full((action_dim,), math.log(std)))

    def forward(self, obs: torch.Tensor) -> torch.Tensor:
        """``(B, A)`` without noise."""
        return self.squashed(self.net(obs))

    def squashed(self, u: torch.Tensor) -> torch.Tensor:
        """Into the limit."""
        return u if math.isinf(self.limit) else self.limit * torch.tanh(u)

    def std(self) -> torch.Tensor:
        """``(A,)``, kept between 0.001 and 2."""
        return self.log_std.clamp(LEAST_LOG_STD, MOST_LOG_STD).exp()

    def act(self, obs: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """``(B, A)`` for standard normal noise ``(B, A)``."""
        return self.squashed(self.net(obs) + self.std() * noise)

    def sample(
        self, obs: torch.Tensor, generator: torch.Generator | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """An action ``(B, A)`` with gradient, and its log-density ``(B,)`` [nats]."""
        return self.around(self.net(obs), self.noise(len(obs), generator))

    def noise(self, count: int, generator: torch.Generator | None = None) -> torch.Tensor:
        """``(count, A)`` for as many actions."""
        return torch.empty(count, len(self.log_std)).normal_(generator=generator)

    def around(
        self, mean: torch.Tensor, noise: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The same of the network's answer ``(B, A)`` and :meth:`noise`."""
        std = self.std()
        u = mean + std * noise
        log_p = (-0.5 * noise.square() - std.log() - 0.5 * math.log(2 * math.pi)).sum(-1)
        if not math.isinf(self.limit):
            # log(1 - tanh(u)^2), without rounding to log 0
            slope = 2 * (math.log(2) - u - functional.softplus(-2 * u))
            log_p = log_p - (slope + math.log(self.limit)).sum(-1)
        return self.squashed(u), log_p

    def slopes(
        self, mean: torch.Tensor, noise: torch.Tensor, by_action: torch.Tensor,
        by_log_p: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Derivatives by the network's answer ``(B, A)`` and by ``log_std`` ``(A,)``.

        They are those of anything that depends on what :meth:`around` gives.

        Args:
            mean: The network's answer ``(B, A)``.
            noise: See :meth:`around`.
            by_action: ``(B, A)`` derivatives by the actions.
            by_log_p: ``()`` by the log-density of each of the rows.
        """
        std = self.std()
        wide = std * noise
        by_mean = by_action
        if not math.isinf(self.limit):
            squashed = torch.tanh(mean + wide)  # its slope is 1 - its square
            by_mean = (by_action * self.limit * (1 - squashed.square())
                       + 2 * by_log_p * squashed)
        by_log_std = (by_mean * wide).sum(0) - by_log_p * len(mean)
        inside = (self.log_std >= LEAST_LOG_STD) & (self.log_std <= MOST_LOG_STD)
        return by_mean, by_log_std * inside

    def log_prob(self, obs: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        """Log-density ``(B,)`` [nats] of actions ``(B, A)``; without limit only.

        Raises:
            ValueError: there is one: an action at it has no density.
        """
        if not math.isinf(self.limit):
            raise ValueError('the density of a squashed action is only known where it is drawn')
        std = self.std()
        z = (action - self.net(obs)) / std
        density: torch.Tensor = (
            -0.5 * z.square() - std.log() - 0.5 * math.log(2 * math.pi)).sum(-1)
        return density

    def entropy(self) -> torch.Tensor:
        """``()`` [nats] of the Gaussian before any limit."""
        return (self.std().log() + 0.5 * math.log(2 * math.pi * math.e)).sum()

    def divergence(self, mean: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        """``(B,)`` [nats] KL divergence between Gaussians of this deviation around both."""
        return 0.5 * ((mean - other) / self.std()).square().sum(-1)


class Categorical(nn.Module):
    """The same for actions that are one of A.

    Args:
        net: ``(B, O)`` to logits ``(B, A)``.
        choices: A.
    """

    def __init__(self, net: nn.Module, choices: int) -> None:
        super().__init__()
        self.net, self.choices = net, choices

    def forward(self, obs: torch.Tensor) -> torch.Tensor:
        """The likeliest ``(B,)``."""
        return self.net(obs).argmax(-1)

    def sample(
        self, obs: torch.Tensor, generator: torch.Generator | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """One ``(B,)`` and its log-probability ``(B,)`` [nats]."""
        return self.around(self.net(obs), self.noise(len(obs), generator))

    def noise(self, count: int, generator: torch.Generator | None = None) -> torch.Tensor:
        """``(count, A)`` for as many choices."""
        return torch.empty(count, self.choices).exponential_(generator=generator)

    def around(
        self, logits: torch.Tensor, noise: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The same of the network's answer ``(B, A)`` and :meth:`noise`.

        The largest of ``p / e`` with exponential ``e`` is drawn with its probability p.
        """
        log_p = logits.log_softmax(-1)
        action = (log_p.exp() / noise).argmax(-1, keepdim=True)
        return action[:, 0], log_p.gather(1, action)[:, 0]

    def log_prob(self, obs: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        """Log-probability ``(B,)`` [nats] of actions ``(B,)``."""
        log_p = self.net(obs).log_softmax(-1)
        return log_p.gather(1, action.long()[:, None])[:, 0]

    def divergence(self, mean: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        """``(B,)`` [nats] KL divergence of the distributions with these logits ``(B, A)``."""
        ours, theirs = mean.log_softmax(-1), other.log_softmax(-1)
        return (ours.exp() * (ours - theirs)).sum(-1)


class CorrelatedNoise:
    """Standard normal noise that stays for a while.

    ``e_t = c e_(t-1) + sqrt(1 - c^2) n_t``: white noise at 50 Hz shakes an arm and takes it
    nowhere (Lillicrap et al., "Continuous Control with Deep Reinforcement Learning", 2015;
    Eberhard et al., "Pink Noise Is All You Need", ICLR 2023).

    Args:
        shape: ``(worlds, A)``.
        correlation: c from one step to the next, in [0, 1).
        generator: Draws it.
    """

    def __init__(
        self, shape: tuple[int, int], correlation: float, generator: torch.Generator
    ) -> None:
        self._c, self._generator = correlation, generator
        self._value = torch.empty(shape).normal_(generator=generator)

    def next(self) -> torch.Tensor:
        """``(worlds, A)`` of the next step."""
        fresh = torch.empty_like(self._value).normal_(generator=self._generator)
        self._value = self._c * self._value + math.sqrt(1 - self._c**2) * fresh
        return self._value
