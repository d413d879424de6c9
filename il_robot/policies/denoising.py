"""What the methods that turn noise into a chunk have in common: the time they see, and padding."""

from __future__ import annotations

import math

import torch
from torch import nn

from il_robot.policies.policy import Batch


class TimeEmbedding(nn.Module):
    """Sines and cosines of a time; Vaswani et al., "Attention Is All You Need", 2017, 3.5.

    Args:
        dim: Length of the embedding, even; wavelengths from 2 pi to 2 pi 10^4.
    """

    frequencies: torch.Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        exponent = torch.arange(dim // 2) / max(1, dim // 2 - 1)
        self.register_buffer('frequencies', torch.exp(-math.log(1e4) * exponent), persistent=False)

    def forward(self, time: torch.Tensor) -> torch.Tensor:
        """Times ``(N,)``, from 0 to about 100, to ``(N, dim)``."""
        angle = time[:, None] * self.frequencies
        return torch.cat([angle.sin(), angle.cos()], -1)


def hold_padding(batch: Batch) -> torch.Tensor:
    """The targets ``(B, T, D)``, with padded steps holding the last real one.

    Noise is added to whole chunks, so that what stands in the padding is seen by the network
    even though the loss leaves it out; it is what the robot does behind an episode's end.
    """
    action = batch['action']
    if 'is_pad' not in batch:
        return action
    padded = batch['is_pad']  # (B, T)
    steps = torch.arange(padded.shape[1], device=padded.device)
    last = steps.masked_fill(padded, 0).cummax(1).values  # (B, T)
    known = action.masked_fill(padded[..., None], 0.0)  # a chunk that begins with padding: 0
    return known.gather(1, last[..., None].expand_as(known))
