"""A policy that tries something else: deviations from its answer, correlated over time.

White noise at 50 Hz shakes an arm and takes it nowhere; what explores is a deviation that stays
for a while (Lillicrap et al., "Continuous Control with Deep Reinforcement Learning", 2015, used
an Ornstein-Uhlenbeck process; here its exact discretisation)::

    e_t = c e_(t-1) + sqrt(1 - c^2) std n_t,    n_t ~ N(0, 1),    e_0 = std n_0.

It is Gaussian around ``c e_(t-1)``, which is known when the action is drawn: given that offset the
likelihood of an action has a closed form, so that policy gradients stay exact.

Everything is in the units of the policy's normalised actions. A chunk deviates as a whole: one
number per joint for all its steps, so that overlapping chunks are deviated alike.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from il_robot.policies.policy import Batch, ClosedForm, Losses, Policy
from il_robot.policies.residual import ResidualPolicy
from il_robot.types import Float32


@dataclass(frozen=True)
class Noise:
    """How much to explore.

    Attributes:
        std: Of the deviation, one for all numbers of an action or one for each; 0 for none.
        correlation: ``c`` from one prediction to the next, in [0, 1).
        limit: Largest deviation; what an algorithm corrects itself counts as such.
    """

    std: Sequence[float] | float = 0.0
    correlation: float = 0.0
    limit: float = math.inf

    def innovation(self) -> Float32:
        """Deviation of what is new in each prediction, ``(D,)`` or ``()``."""
        return np.asarray(self.std, np.float32) * np.float32(math.sqrt(1 - self.correlation**2))


@dataclass
class Notes:
    """What was predicted in an episode; one entry per prediction, all normalised.

    Attributes:
        features: ``(n_obs_steps F,)``.
        base: ``(D,)`` the first step of the policy's own answer; of a
            :class:`~il_robot.policies.residual.ResidualPolicy`, of the one it corrects.
        deviation: ``(D,)`` what was added to it.
        offset: ``(D,)`` what the deviation would have been on average, ``c e_(t-1)``.
    """

    features: list[Float32] = field(default_factory=list)
    base: list[Float32] = field(default_factory=list)
    deviation: list[Float32] = field(default_factory=list)
    offset: list[Float32] = field(default_factory=list)


class ExploringPolicy(Policy):
    """A policy for :class:`~il_robot.policies.runner.PolicyRunner`; without noise its very answer.

    Args:
        policy: What is explored around.

    Attributes:
        notes: Of the running episode.
        explores: False: the next prediction is noted without any deviation.
    """

    def __init__(self, policy: Policy) -> None:
        super().__init__()
        self.policy = policy
        self.chunk_size, self.n_obs_steps = policy.chunk_size, policy.n_obs_steps
        self.begin(Noise(), np.random.default_rng(0))

    def begin(self, noise: Noise, rng: np.random.Generator) -> None:
        """A new episode."""
        self._noise, self._rng, self._last = noise, rng, None
        self.notes, self.explores = Notes(), True

    def loss(self, batch: Batch, generator: torch.Generator) -> Losses:
        """The policy's own."""
        return self.policy.loss(batch, generator)

    def closed_form(self) -> ClosedForm | None:
        """The policy's own."""
        return self.policy.closed_form()

    def draw(self, size: int, generator: torch.Generator) -> torch.Tensor:
        """The policy's own."""
        return self.policy.draw(size, generator)

    def forward(self, batch: Batch, noise: torch.Tensor) -> torch.Tensor:
        """The answer ``(1, T, D)`` to one observation, deviated and noted."""
        if isinstance(self.policy, ResidualPolicy):
            answer, correction = self.policy.parts(batch, noise)
            own = correction[0].numpy().copy()
        else:
            answer = self.policy(batch, noise)
            own = np.zeros(answer.shape[-1], np.float32)
        deviation, offset = self._deviate(own)
        notes = self.notes
        notes.features.append(batch['features'][0].flatten().numpy().copy())
        notes.base.append(answer[0, 0].numpy().copy())
        notes.deviation.append(deviation)
        notes.offset.append(offset)
        return answer + torch.from_numpy(deviation) if deviation.any() else answer

    def _deviate(self, own: Float32) -> tuple[Float32, Float32]:
        """The deviation, what is corrected included, and the offset of its random part."""
        std = np.broadcast_to(np.asarray(self._noise.std, np.float32), own.shape)
        if not self.explores or not std.any():
            return own, np.zeros_like(own)
        fresh = self._rng.standard_normal(own.shape).astype(np.float32)
        if self._last is None:
            # given an offset of 0, the first one is wider than the others: drawn as they are
            offset, self._last = np.zeros_like(own), self._noise.innovation() * fresh
        else:
            offset = np.float32(self._noise.correlation) * self._last
            self._last = offset + self._noise.innovation() * fresh
        limit = self._noise.limit
        deviation = own + self._last
        return (deviation if math.isinf(limit) else deviation.clip(-limit, limit)), offset
