"""The conditional 1-D U-Net of Diffusion Policy: convolutions over the time of a chunk.

Chi et al., "Diffusion Policy: Visuomotor Policy Learning via Action Diffusion", RSS 2023,
section III-A (CNN-based); after Janner et al., "Planning with Diffusion for Flexible Behavior
Synthesis", ICML 2022. The condition scales and shifts the channels of every residual block
(FiLM: Perez et al., "FiLM: Visual Reasoning with a General Conditioning Layer", AAAI 2018).

The scales and shifts of all blocks come from outside as one tensor: one multiplication makes
them, and where the same condition is used again, it is made only once.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn
from torch.nn import functional


class UNet1d(nn.Module):
    """Noisy chunks to something of the same shape.

    Args:
        channels: D, the numbers per step.
        widths: Channels of each level; every level but the last halves the time.
        kernel_size: Of the convolutions, odd.
        groups: Of the group norms; divides every width.
    """

    def __init__(
        self, channels: int, widths: tuple[int, ...], kernel_size: int, groups: int
    ) -> None:
        super().__init__()
        self._multiple = 2 ** (len(widths) - 1)

        def pairs(ends: Iterable[tuple[int, int]]) -> nn.ModuleList:
            return nn.ModuleList(
                FiLMBlock(i, outputs, kernel_size, groups)
                for inputs, outputs in ends for i in (inputs, outputs))

        self.down = pairs(zip((channels, *widths), widths))
        self.shrink = nn.ModuleList(nn.Conv1d(w, w, 3, stride=2, padding=1) for w in widths[:-1])
        self.middle = pairs([(widths[-1], widths[-1])])
        # the deeper level comes in beside the level's own output on the way down
        climb = list(zip(widths[:0:-1], widths[-2::-1]))
        self.grow = nn.ModuleList(
            nn.ConvTranspose1d(deep, deep, 4, stride=2, padding=1) for deep, _ in climb)
        self.up = pairs((deep + w, w) for deep, w in climb)
        self.outlet = nn.Sequential(
            *_conv_block(widths[0], widths[0], kernel_size, groups),
            nn.Conv1d(widths[0], channels, 1))
        blocks = (*widths, *widths[::-1])  # down, middle and up, two blocks each
        self._film_sizes = [2 * w for w in blocks for _ in range(2)]
        self.film_dim = sum(self._film_sizes)

    def forward(self, x: torch.Tensor, film: torch.Tensor) -> torch.Tensor:
        """Chunks ``(N, D, T)`` and the modulation of all blocks ``(N, film_dim)``.

        A T that cannot be halved often enough is padded with zeros here, and the padding cut
        off the ``(N, D, T)`` result.
        """
        length = x.shape[-1]
        films = iter(film.split(self._film_sizes, -1))
        h = functional.pad(x, (0, -length % self._multiple))  # (N, D, T')
        kept: list[torch.Tensor] = []
        for i, block in enumerate(self.down):  # two for each level
            h = block(h, next(films))  # (N, widths[i // 2], T' / 2^(i // 2))
            if i % 2 and i // 2 < len(self.shrink):
                kept.append(h)
                h = self.shrink[i // 2](h)
        for block in self.middle:
            h = block(h, next(films))
        for i, block in enumerate(self.up):
            if i % 2 == 0:
                h = torch.cat([self.grow[i // 2](h), kept.pop()], 1)
            h = block(h, next(films))
        out: torch.Tensor = self.outlet(h)[..., :length]
        return out


class FiLMBlock(nn.Module):
    """Two convolutions, the channels scaled and shifted between them, and a way around both."""

    def __init__(self, inputs: int, outputs: int, kernel_size: int, groups: int) -> None:
        super().__init__()
        self.first = _conv_block(inputs, outputs, kernel_size, groups)
        self.second = _conv_block(outputs, outputs, kernel_size, groups)
        self.around = nn.Conv1d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: torch.Tensor, film: torch.Tensor) -> torch.Tensor:
        """``(N, inputs, T)`` and ``(N, 2 * outputs)`` to ``(N, outputs, T)``."""
        scale, shift = film[..., None].chunk(2, 1)  # each (N, outputs, 1)
        h = torch.addcmul(shift, self.first(x), 1 + scale)
        out: torch.Tensor = self.second(h) + self.around(x)
        return out


def _conv_block(inputs: int, outputs: int, kernel_size: int, groups: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv1d(inputs, outputs, kernel_size, padding=kernel_size // 2),
        nn.GroupNorm(groups, outputs), nn.Mish())
