"""Diffusion Policy: a chunk of actions denoised step by step, given the observations.

Chi et al., "Diffusion Policy: Visuomotor Policy Learning via Action Diffusion", RSS 2023:
the conditional 1-D U-Net (section III-A), the squared-cosine schedule (III-C) and DDIM for few
steps at run time (III-D). With ``a_k`` for alpha-bar, the share of signal left at step k:

    x_k = sqrt(a_k) x_0 + sqrt(1 - a_k) eps        Ho et al., "DDPM", NeurIPS 2020, (4)
    loss = |eps - eps_theta(O, x_k, k)|^2          Chi et al. (5); Ho et al. (14)
    a_k = cos^2((k / K + s) / (1 + s) pi / 2)      Nichol and Dhariwal, ICML 2021, (17)
    x_j = sqrt(a_j) x_0' + sqrt(1 - a_j) eps'      Song et al., "DDIM", ICLR 2021, (12), sigma = 0

As in the paper the predicted x_0' is clipped to the range of the data in every step, which is
[-1, 1] with ``training.normalization: min_max``; the noise eps' is then the one that fits the
clipped x_0', so that x_j stays on the way between both.

The network may also predict x_0 itself, ``loss = |x_0 - f(O, x_k, k)|^2`` (Ho et al., section 3.2;
Salimans and Ho, "Progressive Distillation", ICLR 2022, section 4): where the observation nearly
determines the chunk, that is learned in far fewer steps than which of many noises was drawn.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from il_robot.policies.denoising import TimeEmbedding, hold_padding
from il_robot.policies.features import FeatureLayout
from il_robot.policies.inpainting import Inpainting, InpaintingPolicy
from il_robot.policies.policy import PART, Batch, Losses, draw_rows, masked_mean
from il_robot.policies.unet import UNet1d


@dataclass(frozen=True)
class DiffusionConfig:
    """Diffusion Policy.

    Attributes:
        chunk_size: Actions predicted at once.
        n_obs_steps: Observations looked at.
        train_steps: K, the noise levels of training.
        ddim_steps: Denoising steps at run time, at most K.
        prediction: What the network predicts: the ``noise``, as in the paper, or the ``sample``.
        clip: The predicted clean chunk is clipped to [-clip, clip]; 0 does not clip, which
            ``mean_std`` normalisation wants.
        widths: Channels of the U-Net's levels; each after the first halves the time.
        kernel_size: Of its convolutions, odd.
        groups: Of its group norms; divides every width.
        time_dim: Length of the embedding of the noise level.
    """

    chunk_size: int = 16
    n_obs_steps: int = 1
    train_steps: int = 100
    ddim_steps: int = 10
    prediction: Literal['noise', 'sample'] = 'noise'
    clip: float = 1.0
    widths: tuple[int, ...] = (64, 128)
    kernel_size: int = 5
    groups: int = 8
    time_dim: int = 64

    def __post_init__(self) -> None:
        for name in ('chunk_size', 'n_obs_steps', 'train_steps', 'groups'):
            if getattr(self, name) < 1:
                raise ValueError(f'{name} must be >= 1, got {getattr(self, name)}')
        if not 1 <= self.ddim_steps <= self.train_steps:
            raise ValueError(
                f'ddim_steps must be from 1 to train_steps = {self.train_steps}, got '
                f'{self.ddim_steps}')
        if self.clip < 0:
            raise ValueError(f'clip must be >= 0, got {self.clip}; 0 does not clip')
        if not self.widths or min(self.widths) < 1 or any(w % self.groups for w in self.widths):
            raise ValueError(
                f'widths must name one or more multiples of groups = {self.groups}, got '
                f'{self.widths}')
        if self.kernel_size < 1 or self.kernel_size % 2 == 0:
            raise ValueError(f'kernel_size must be odd, got {self.kernel_size}')
        if self.time_dim < 2 or self.time_dim % 2:
            raise ValueError(f'time_dim must be even and >= 2, got {self.time_dim}')


class DiffusionPolicy(InpaintingPolicy):
    """``(B, n_obs_steps, F)`` features and noise to ``(B, T, D)`` targets."""

    alpha_bar: torch.Tensor
    ddim_levels: torch.Tensor

    def __init__(self, config: DiffusionConfig, layout: FeatureLayout, action_dim: int) -> None:
        super().__init__()
        self.chunk_size = config.chunk_size
        self.n_obs_steps = config.n_obs_steps
        self._action_dim = action_dim
        self._clip = config.clip
        self._predicts_noise = config.prediction == 'noise'
        alpha_bar = squared_cosine(config.train_steps)
        levels = ddim_levels(config.train_steps, config.ddim_steps)
        self._signal = [float(alpha_bar[k]) for k in levels]
        self.register_buffer('alpha_bar', alpha_bar.float(), persistent=False)  # (K,)
        self.register_buffer('ddim_levels', torch.tensor(levels), persistent=False)
        time = config.time_dim
        self.time = nn.Sequential(
            TimeEmbedding(time), nn.Linear(time, 4 * time), nn.Mish(), nn.Linear(4 * time, time))
        self.unet = UNet1d(action_dim, config.widths, config.kernel_size, config.groups)
        self.film = nn.Sequential(
            nn.Mish(), nn.Linear(time + layout.dim * config.n_obs_steps, self.unet.film_dim))

    def loss(self, batch: Batch, generator: torch.Generator) -> Losses:
        """The masked squared error of the prediction, at one random level per sample."""
        features, x0 = batch['features'], hold_padding(batch)  # (B, n_obs_steps, F), (B, T, D)
        rows, part = len(x0), batch.get(PART)
        noise = draw_rows(rows, part, lambda n: x0.new_empty(n, *x0.shape[1:]).normal_(
            generator=generator))
        levels = draw_rows(rows, part, lambda n: torch.randint(
            len(self.alpha_bar), (n,), generator=generator, device=x0.device))  # (B,)
        signal = self.alpha_bar[levels][:, None, None]  # (B, 1, 1)
        x = signal.sqrt() * x0 + (1 - signal).sqrt() * noise
        film = self._modulation(features.flatten(1), levels)
        predicted = self.unet(x.transpose(1, 2), film).transpose(1, 2)
        target = noise if self._predicts_noise else x0
        return {'loss': masked_mean((predicted - target) ** 2, batch)}

    def forward(
        self, batch: Batch, noise: torch.Tensor, inpainting: Inpainting | None = None
    ) -> torch.Tensor:
        """The chunks that noise ``(B, D * T)`` becomes."""
        features = batch['features'].flatten(1)  # (B, n_obs_steps * F)
        size, steps = len(features), len(self._signal)
        x = noise.unflatten(1, (self._action_dim, self.chunk_size))
        # the condition does not depend on x: all denoising steps' at once
        films = self._modulation(
            features.repeat(steps, 1), self.ddim_levels.repeat_interleave(size)
        ).unflatten(0, (steps, size))

        def noise_in(x: torch.Tensor, i: int) -> torch.Tensor:
            predicted: torch.Tensor = self.unet(x, films[i])
            if self._predicts_noise:
                return predicted
            signal = self._signal[i]
            return (x - math.sqrt(signal) * predicted) / math.sqrt(1 - signal)

        drawn = noise_in if inpainting is None else self._continuing(noise_in, inpainting)
        return ddim(drawn, x, self._signal, self._clip).transpose(1, 2)

    def draw(self, size: int, generator: torch.Generator) -> torch.Tensor:
        """Normal numbers, one for each of the chunk."""
        return torch.randn(
            size, self._action_dim * self.chunk_size, generator=generator,
            device=generator.device)

    def _continuing(
        self, noise_in: Callable[[torch.Tensor, int], torch.Tensor], inpainting: Inpainting
    ) -> Callable[[torch.Tensor, int], torch.Tensor]:
        """The prediction of eps, drawn to a plan.

        ``x / (sqrt(a) + sqrt(1 - a))`` is on the straight line of a flow between eps and x_0.
        """
        parts = [(math.sqrt(a), math.sqrt(1 - a)) for a in self._signal]
        scales = [signal + noise for signal, noise in parts]

        def clean(x: torch.Tensor, i: int) -> torch.Tensor:
            signal, noise = parts[i]
            x0 = (x - noise * noise_in(x, i)) / signal
            return x0.clamp(-self._clip, self._clip) if self._clip else x0

        drawn = inpainting.around(
            clean, [signal / scale for (signal, _), scale in zip(parts, scales)],
            lambda chunk: chunk.transpose(1, 2), scales)
        return lambda x, i: (x - parts[i][0] * drawn(x, i)) / parts[i][1]

    def _modulation(self, features: torch.Tensor, levels: torch.Tensor) -> torch.Tensor:
        """Flat features ``(N, n_obs_steps * F)`` and levels ``(N,)`` to ``(N, film_dim)``."""
        film: torch.Tensor = self.film(torch.cat([self.time(levels.float()), features], -1))
        return film


def squared_cosine(steps: int) -> torch.Tensor:
    """Alpha-bar of the squared-cosine schedule.

    Args:
        steps: K.

    Returns:
        ``(K,)`` float64, falling from almost 1 to almost 0: entry k is what is left after k + 1
        steps of noise. The noise of one step is at most 0.999, so that the last is above 0.
    """
    k = torch.arange(steps + 1, dtype=torch.float64)
    wanted = torch.cos((k / steps + 0.008) / 1.008 * math.pi / 2) ** 2
    beta = (1 - wanted[1:] / wanted[:-1]).clamp_max(0.999)
    return torch.cumprod(1 - beta, 0)


def ddim_levels(train_steps: int, steps: int) -> list[int]:
    """The noise levels visited, from the noisiest to 0; Song et al., D.2, "linear".

    They begin one stride below the last level, where eps tells nothing about x_0 any more.
    """
    stride = train_steps // steps
    return [stride * i for i in reversed(range(steps))]


def ddim(
    noise_in: Callable[[torch.Tensor, int], torch.Tensor], x: torch.Tensor,
    signal: Sequence[float], clip: float = 0.0,
) -> torch.Tensor:
    """Denoise without adding noise; Song et al. (12) with sigma = 0.

    Args:
        noise_in: The prediction of eps from x and the index of the level in ``signal``.
        x: Noise, of any shape.
        signal: Alpha-bar of the levels visited, rising.
        clip: The clean chunk lies in [-clip, clip]; 0 does not clip.

    Returns:
        The clean chunk, of the same shape.
    """
    for i, (a, following) in enumerate(zip(signal, (*signal[1:], 1.0))):
        noise = noise_in(x, i)
        x0 = (x - math.sqrt(1 - a) * noise) / math.sqrt(a)
        if clip:
            x0 = x0.clamp(-clip, clip)
            noise = (x - math.sqrt(a) * x0) / math.sqrt(1 - a)
        x = math.sqrt(following) * x0 + math.sqrt(1 - following) * noise
    return x


def build_diffusion(
    config: DiffusionConfig, layout: FeatureLayout, action_dim: int
) -> DiffusionPolicy:
    """Diffusion Policy."""
    return DiffusionPolicy(config, layout, action_dim)
