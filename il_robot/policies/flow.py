"""Flow matching: a chunk of actions drawn from noise in a few Euler steps.

Lipman et al., "Flow Matching for Generative Modeling", ICLR 2023, with the optimal transport
path of section 4.1, Example II, and sigma_min = 0: noise ``x0 ~ N(0, I)`` moves on a straight
line to the chunk ``x1`` of the demonstration,

    x_t = (1 - t) x0 + t x1                               (22)
    u_t(x_t | x1) = (x1 - x_t) / (1 - t)                  (21)

The network does not predict the velocity but the clean chunk, ``f(x_t, t, features)``, which
gives the velocity by (21). The loss ``|f - x1|^2`` is conditional flow matching (23) weighted by
``(1 - t)^2``: the late steps, where the noise is nearly gone and the velocity's error is
divided by almost nothing, count less, and a single Euler step is plain regression.

The network is a residual perceptron over the flattened chunk. Features and time scale and shift
every normalised layer (FiLM: Perez et al., AAAI 2018; as adaptive layer norm: Peebles and Xie,
"Scalable Diffusion Models with Transformers", ICCV 2023, section 3.2). They do not depend on
the chunk, so that prediction computes them once for all Euler steps.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from il_robot.policies.denoising import TimeEmbedding, hold_padding
from il_robot.policies.features import FeatureLayout
from il_robot.policies.inpainting import Inpainting, InpaintingPolicy
from il_robot.policies.policy import PART, Batch, Losses, draw_rows, masked_mean

_TIME_SCALE = 100.0  # t in [0, 1] to the range that TimeEmbedding resolves


@dataclass(frozen=True)
class FlowConfig:
    """The flow policy.

    Attributes:
        chunk_size: Actions predicted at once; 20 are 0.4 s at 50 Hz.
        n_obs_steps: Observations looked at.
        euler_steps: Steps from noise to chunk; 1 to 10. Trained once for all of them.
        width: Of the residual trunk.
        depth: Residual blocks.
        time_dim: Length of the embedding of t.
    """

    chunk_size: int = 20
    n_obs_steps: int = 1
    euler_steps: int = 5
    width: int = 256
    depth: int = 3
    time_dim: int = 64

    def __post_init__(self) -> None:
        for name in ('chunk_size', 'n_obs_steps', 'width', 'depth'):
            if getattr(self, name) < 1:
                raise ValueError(f'{name} must be >= 1, got {getattr(self, name)}')
        if not 1 <= self.euler_steps <= 10:
            raise ValueError(
                f'euler_steps must be from 1 to 10, got {self.euler_steps}: with clean-chunk '
                f'prediction more steps change little and only cost time')
        if self.time_dim < 2 or self.time_dim % 2:
            raise ValueError(f'time_dim must be even and >= 2, got {self.time_dim}')


class FlowPolicy(InpaintingPolicy):
    """``(B, n_obs_steps, F)`` features and noise to ``(B, T, D)`` targets."""

    def __init__(self, config: FlowConfig, layout: FeatureLayout, action_dim: int) -> None:
        super().__init__()
        self.chunk_size = config.chunk_size
        self.n_obs_steps = config.n_obs_steps
        self._outputs = config.chunk_size * action_dim
        self._steps = config.euler_steps
        self.net = FlowNet(config, layout.dim * config.n_obs_steps, self._outputs)

    def loss(self, batch: Batch, generator: torch.Generator) -> Losses:
        """The masked squared error of the clean chunk, at one random time per sample."""
        features, x1 = batch['features'], hold_padding(batch)  # (B, n_obs_steps, F), (B, T, D)
        x0 = draw_rows(len(x1), batch.get(PART), lambda n: x1.new_empty(n, *x1.shape[1:]).normal_(
            generator=generator))
        t = draw_rows(len(x1), batch.get(PART), lambda n: torch.rand(
            n, generator=generator, device=x1.device))  # (B,)
        x_t = torch.lerp(x0, x1, t[:, None, None])
        film = self.net.modulation(features.flatten(1), t)
        predicted = self.net(x_t.flatten(1), film).view_as(x1)
        return {'loss': masked_mean((predicted - x1) ** 2, batch)}

    def forward(
        self, batch: Batch, noise: torch.Tensor, inpainting: Inpainting | None = None
    ) -> torch.Tensor:
        """The chunks to which the flow carries noise ``(B, T * D)``."""
        features = batch['features'].flatten(1)  # (B, n_obs_steps * F)
        size, steps = len(features), self._steps
        t = torch.arange(steps, device=features.device) / steps
        films = self.net.modulation(
            features.repeat(steps, 1), t.repeat_interleave(size)).unflatten(0, (steps, size))

        def clean(x: torch.Tensor, k: int) -> torch.Tensor:
            predicted: torch.Tensor = self.net(x, films[k])
            return predicted

        drawn = clean if inpainting is None else inpainting.around(
            clean, [k / steps for k in range(steps)], lambda chunk: chunk.flatten(1))
        x1 = euler(drawn, noise, steps)
        return x1.view(size, self.chunk_size, -1)

    def draw(self, size: int, generator: torch.Generator) -> torch.Tensor:
        """Normal numbers, one for each of the chunk."""
        return torch.randn(size, self._outputs, generator=generator, device=generator.device)


def euler(
    clean: Callable[[torch.Tensor, int], torch.Tensor], x: torch.Tensor, steps: int
) -> torch.Tensor:
    """Follow the flow from t = 0 to t = 1 in equal Euler steps.

    Args:
        clean: The prediction of x1 from ``x_t`` and the index k of the step, t = k / steps.
        x: Noise, of any shape.
        steps: One or more.

    Returns:
        The chunk, of the same shape. ``x + (1 / steps) u_t`` with u_t of (21) is a step of
        ``1 / (steps - k)`` of the way to x1, so that the last step ends in the prediction.
    """
    for k in range(steps - 1):
        x = torch.lerp(x, clean(x, k), 1.0 / (steps - k))
    return clean(x, steps - 1)


class FlowNet(nn.Module):
    """The clean chunk from a noisy one.

    Args:
        config: Width, depth and time embedding.
        features: Length of the flattened features.
        outputs: Length of the flattened chunk, T * D.
    """

    def __init__(self, config: FlowConfig, features: int, outputs: int) -> None:
        super().__init__()
        width = config.width
        self.features = nn.Sequential(
            nn.Linear(features, width), nn.SiLU(), nn.Linear(width, width))
        self.time = nn.Sequential(
            TimeEmbedding(config.time_dim), nn.Linear(config.time_dim, width))
        # the scale and shift of every block and of the output in one multiplication
        self.film = nn.Linear(width, 2 * width * (config.depth + 1))
        self.inlet = nn.Linear(outputs, width)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
            for _ in range(config.depth))
        self.outlet = nn.Linear(width, outputs)

    def modulation(self, features: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """Flat features ``(N, n_obs_steps * F)``, times ``(N,)`` to ``(N, 2 W (depth + 1))``."""
        hidden = self.features(features) + self.time(_TIME_SCALE * t)
        film: torch.Tensor = self.film(functional.silu(hidden))
        return film

    def forward(self, x: torch.Tensor, film: torch.Tensor) -> torch.Tensor:
        """Noisy chunks ``(N, T * D)`` and their modulation to clean chunks ``(N, T * D)``."""
        h = self.inlet(x)  # (N, W)
        scales_and_shifts = film.chunk(2 * (len(self.blocks) + 1), -1)  # each (N, W)
        for i, block in enumerate(self.blocks):
            h = h + block(_modulated(h, *scales_and_shifts[2 * i:2 * i + 2]))
        out: torch.Tensor = self.outlet(_modulated(h, *scales_and_shifts[-2:]))
        return out


def _modulated(h: torch.Tensor, scale: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
    """Adaptive layer norm of ``(N, W)``."""
    return torch.addcmul(shift, functional.layer_norm(h, h.shape[-1:]), 1 + scale)


def build_flow(config: FlowConfig, layout: FeatureLayout, action_dim: int) -> FlowPolicy:
    """The flow policy."""
    return FlowPolicy(config, layout, action_dim)
