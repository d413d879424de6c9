"""Chunks that continue the plan which is being executed: real-time chunking.

Black, Galliker and Levine, "Real-Time Execution of Action Chunking Flow Policies", 2025
(arXiv 2506.07339). While a new chunk is computed the robot goes on with the last one, so its next
``frozen`` steps are committed. Drawing a new chunk is then inpainting: those steps are given, the
others of the old plan count the less the later they are, and the rest is new. With weights W,
the plan Y and the prediction f(x, t) of the clean chunk there are two ways:

- ``guide``, the paper's: the gradient of ``|W^1/2 (Y - f)|^2`` through the network is added to
  the velocity, weighted by ``min(BETA, (1 - t) / (t r^2))`` with
  ``r^2 = (1 - t)^2 / (t^2 + (1 - t)^2)`` (Song et al., "Pseudoinverse-Guided Diffusion Models",
  ICLR 2023, for flows by Pokle et al., 2023). One backward pass per step.
- ``replace``: in every step f becomes ``f + W (Y - f)``, as Lugmayr et al., "RePaint", CVPR 2022,
  put in what is known; with soft weights it is the guidance with the Jacobian taken as 1. No
  gradient, and the committed steps come out exactly.

For the flow policy the second was smoother and solved more: docs/execution.md has the measurement.
"""

from __future__ import annotations

import abc
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch

from il_robot.errors import ConfigError
from il_robot.policies.observation import ImagePolicy
from il_robot.policies.policy import Batch, Policy

BETA = 5.0
"""Largest weight of the guidance; the paper's, for five steps."""

Clean: TypeAlias = Callable[[torch.Tensor, int], torch.Tensor]
"""The prediction of the clean chunk from a noisy one and the index of the step."""


@dataclass(frozen=True, eq=False)
class Inpainting:
    """What a chunk has to continue.

    Attributes:
        plan: Y, ``(B, T, D)`` normalised.
        weights: W, ``(T,)`` in [0, 1].
        method: See the module.
    """

    plan: torch.Tensor
    weights: torch.Tensor
    method: Literal['replace', 'guide'] = 'replace'

    def around(
        self, clean: Clean, times: Sequence[float], layout: Callable[[torch.Tensor], torch.Tensor],
        scales: Sequence[float] | None = None,
    ) -> Clean:
        """The prediction, drawn to the plan.

        Args:
            clean: The network's own.
            times: t of each step: 0 is noise alone, below 1.
            layout: ``(B, T, D)`` to the shape in which ``clean`` has chunks.
            scales: What the noisy chunk of each step is divided by for ``(1 - t) noise + t
                chunk``; 1 when None.
        """
        plan = layout(self.plan)
        weights = layout(self.weights[None, :, None].expand(self.plan.shape))

        def replaced(x: torch.Tensor, k: int) -> torch.Tensor:
            return torch.lerp(clean(x, k), plan, weights)

        def guided(x: torch.Tensor, k: int) -> torch.Tensor:
            with torch.enable_grad():
                x = x.detach().requires_grad_()
                x1 = clean(x, k)
                error = (weights * (plan - x1)).detach()
                gradient, = torch.autograd.grad(x1, x, error)
            scale = scales[k] if scales else 1.0
            return x1.detach() + (1 - times[k]) * guidance(times[k]) * scale * gradient

        return guided if self.method == 'guide' else replaced


class InpaintingPolicy(Policy):
    """A policy that can be told what its chunk has to continue."""

    @abc.abstractmethod
    def forward(
        self, batch: Batch, noise: torch.Tensor, inpainting: Inpainting | None = None
    ) -> torch.Tensor:
        """As of every policy; with ``inpainting``, a chunk that continues a plan."""


def guidance(t: float) -> float:
    """The weight of the guidance at time t, in [0, BETA]."""
    r2 = (1 - t) ** 2 / (t ** 2 + (1 - t) ** 2)
    return BETA if t <= 0 else min(BETA, (1 - t) / (t * r2))


def mask(frozen: int, overlap: int, steps: int) -> torch.Tensor:
    """How much each step of the plan counts; Black et al., section "soft masking".

    Args:
        frozen: d, steps that will have been executed when the chunk comes; they count 1.
        overlap: Steps the old plan still has; those behind count 0.
        steps: T.

    Returns:
        ``(T,)``: between, ``c (e^c - 1) / (e - 1)`` with c falling evenly from below 1 to 0.
    """
    overlap = min(overlap, steps)
    frozen = min(frozen, overlap)
    c = (overlap - torch.arange(steps)) / (overlap - frozen + 1)
    c = c.clamp(0.0, 1.0)
    weights = c * torch.expm1(c) / math.expm1(1.0)
    weights[:frozen] = 1.0
    return weights


def check_inpaints(policy: Policy, name: str) -> None:
    """Refuse a policy that cannot continue a plan.

    Args:
        policy: Any.
        name: Of its method.

    Raises:
        ConfigError: says what to do.
    """
    inner = policy.policy if isinstance(policy, ImagePolicy) else policy
    if not isinstance(inner, InpaintingPolicy):
        raise ConfigError(
            f'execution mode rtc is for policies that sample their chunks (flow, diffusion): '
            f'{name} cannot continue a plan; use mode ensemble, newest or blend')


def inpaint(
    policy: Policy, batch: Batch, noise: torch.Tensor, inpainting: Inpainting
) -> torch.Tensor:
    """Chunks ``(B, T, D)`` that continue a plan, of a policy that passed the check."""
    if isinstance(policy, ImagePolicy):
        return inpaint(policy.policy, policy.encoder(batch, None), noise, inpainting)
    actions: torch.Tensor = policy(batch, noise, inpainting)
    return actions
