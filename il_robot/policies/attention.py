"""Transformer layers (Vaswani et al., "Attention Is All You Need", NIPS 2017) for small batches.

The layers of DETR (Carion et al., ECCV 2020), which ACT took over: positions are added to
queries and keys of every layer and never to values. B is the batch, S and Q numbers of tokens,
d the width of a token, H the number of heads.

Dropout has its own function. On a CPU, ``torch.nn.functional.dropout`` of the hidden layer takes
longer than the matrix product before it; :func:`keep_mask` draws 64 random bits at a time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional


@dataclass(frozen=True)
class LayerConfig:
    """The shape of every layer of a transformer.

    Attributes:
        dim: Width of a token, d.
        heads: Attention heads, H; divides ``dim``.
        feedforward: Width of the hidden layer.
        dropout: Share of attention weights, hidden units and layer outputs dropped in training.
        pre_norm: LayerNorm before each sub-layer (Xiong et al., ICML 2020) instead of behind
            its residual sum (the original).
    """

    dim: int
    heads: int
    feedforward: int
    dropout: float
    pre_norm: bool


def sinusoid(count: int, dim: int) -> torch.Tensor:
    """Fixed positions ``(count, dim)``, Vaswani et al., section 3.5; ``dim`` is even."""
    frequency = torch.exp(torch.arange(0, dim, 2) * (-math.log(10_000.0) / dim))  # (d / 2,)
    angle = torch.arange(count)[:, None] * frequency
    return torch.stack((angle.sin(), angle.cos()), dim=-1).flatten(1)


def sinusoid_2d(grid: tuple[int, int], dim: int) -> torch.Tensor:
    """Fixed positions ``(h w, dim)`` of a map's cells, row by row; ``dim`` divides by 4.

    Half of the numbers for the row and half for the column, as in DETR.
    """
    rows, columns = (sinusoid(count, dim // 2) for count in grid)
    return torch.cat([
        rows[:, None].expand(-1, grid[1], -1), columns.expand(grid[0], -1, -1)], -1).flatten(0, 1)


def keep_mask(like: torch.Tensor, dropout: float) -> torch.Tensor:
    """Random 0 (with probability ``dropout``, to 2^-16) and 1, shape and type of ``like``."""
    bits = torch.empty(-(-like.numel() // 4), dtype=torch.int64, device=like.device)
    words = bits.random_(-2**63, None).view(torch.int16)[:like.numel()]
    return words.ge_(round(dropout * 0xFFFF) - 0x8000).view(like.shape).to(like.dtype)


class Dropout(nn.Module):
    """As ``nn.Dropout``, from :func:`keep_mask`."""

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Drop entries of ``x`` and scale the others up, in training only."""
        if not self.training or not self.dropout:
            return x
        return x * keep_mask(x, self.dropout).mul_(1 / (1 - self.dropout))


class Attention(nn.Module):
    """Multi-head attention, section 3.2: ``softmax(Q K^T / sqrt(d / H)) V``."""

    def __init__(self, config: LayerConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.query, self.key, self.value, self.out = (
            nn.Linear(config.dim, config.dim) for _ in range(4))
        self.dropout = Dropout(config.dropout)

    def forward(
        self, queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor,
        mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """What the queries find.

        Args:
            queries: ``(B, Q, d)``, or ``(1, Q, d)`` where they are the same for all samples.
            keys: ``(B, S, d)``.
            values: ``(B, S, d)``.
            mask: ``(B, 1, 1, S)``, added to the logits.

        Returns:
            ``(B, Q, d)``.
        """
        k, v = self._split(self.key(keys)), self._split(self.value(values))  # (B, H, S, d / H)
        q = self._split(self.query(queries)).expand(len(k), -1, -1, -1)  # (B, H, Q, d / H)
        if self.training and self.dropout.dropout:
            # Explicit, because torch has no fast kernel with dropout on a CPU.
            logits = (q * q.shape[-1] ** -0.5) @ k.mT  # (B, H, Q, S)
            if mask is not None:
                logits += mask
            found = self.dropout(logits.softmax(-1)) @ v
        else:
            found = functional.scaled_dot_product_attention(q, k, v, mask)
        return self.out(found.transpose(1, 2).flatten(2))

    def _split(self, x: torch.Tensor) -> torch.Tensor:
        """``(B, S, d)`` to ``(B, H, S, d / H)``."""
        return x.unflatten(2, (self.heads, -1)).transpose(1, 2)


class FeedForward(nn.Module):
    """Two linear layers with ReLU, section 3.3; ``(B, S, d)`` to ``(B, S, d)``."""

    def __init__(self, config: LayerConfig) -> None:
        super().__init__()
        self.inner = nn.Linear(config.dim, config.feedforward)
        self.outer = nn.Linear(config.feedforward, config.dim)
        self.dropout = config.dropout

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The hidden layer is by far the largest tensor: there is one, changed in place."""
        hidden = self.inner(x.flatten(0, 1))  # (B S, feedforward)
        if not self.training or not self.dropout:
            return self.outer(hidden.relu_()).view_as(x)
        # Unseen by autograd, and right: what is dropped here is 0 before the ReLU, through
        # which no gradient flows at 0. Scaling up what is kept waits for the smaller tensor.
        hidden.detach().mul_(keep_mask(hidden, self.dropout))
        out = functional.linear(hidden.relu_(), self.outer.weight) / (1 - self.dropout)
        return (out + self.outer.bias).view_as(x)


class EncoderLayer(nn.Module):
    """Self-attention and feed-forward layer."""

    def __init__(self, config: LayerConfig) -> None:
        super().__init__()
        self.attention, self.feed_forward = Attention(config), FeedForward(config)
        self.norm1, self.norm2 = nn.LayerNorm(config.dim), nn.LayerNorm(config.dim)
        self.dropout, self.pre_norm = Dropout(config.dropout), config.pre_norm

    def forward(
        self, x: torch.Tensor, positions: torch.Tensor, mask: torch.Tensor | None = None,
        count: int | None = None,
    ) -> torch.Tensor:
        """The first ``count`` tokens (all by default) after this layer.

        Args:
            x: ``(B, S, d)``.
            positions: ``(S, d)``.
            mask: ``(B, 1, 1, S)``, added to the logits.
            count: A last layer of which one token is read need not compute the others.

        Returns:
            ``(B, count, d)``.
        """
        y = self.norm1(x) if self.pre_norm else x
        placed = y + positions
        x = x[:, :count] + self.dropout(self.attention(placed[:, :count], placed, y, mask))
        if self.pre_norm:
            return x + self.dropout(self.feed_forward(self.norm2(x)))
        x = self.norm1(x)
        return self.norm2(x + self.dropout(self.feed_forward(x)))


class DecoderLayer(nn.Module):
    """Self-attention (left out of a first layer), attention to a memory, feed-forward layer."""

    def __init__(self, config: LayerConfig, first: bool) -> None:
        super().__init__()
        self.self_attention = None if first else Attention(config)
        self.norm1 = None if first else nn.LayerNorm(config.dim)
        self.attention, self.feed_forward = Attention(config), FeedForward(config)
        self.norm2, self.norm3 = nn.LayerNorm(config.dim), nn.LayerNorm(config.dim)
        self.dropout, self.pre_norm = Dropout(config.dropout), config.pre_norm

    def forward(
        self, x: torch.Tensor, positions: torch.Tensor, keys: torch.Tensor, values: torch.Tensor
    ) -> torch.Tensor:
        """The tokens after this layer.

        Args:
            x: ``(B, Q, d)``; ``(1, Q, d)`` into a first layer.
            positions: ``(Q, d)``, of the tokens.
            keys: ``(B, S, d)``, the memory with its positions.
            values: ``(B, S, d)``, the memory.

        Returns:
            ``(B, Q, d)``.
        """
        if self.self_attention is not None and self.norm1 is not None:
            y = self.norm1(x) if self.pre_norm else x
            placed = y + positions
            x = x + self.dropout(self.self_attention(placed, placed, y))
            x = x if self.pre_norm else self.norm1(x)
        y = self.norm2(x) if self.pre_norm else x
        x = x + self.dropout(self.attention(y + positions, keys, values))
        if self.pre_norm:
            return x + self.dropout(self.feed_forward(self.norm3(x)))
        x = self.norm2(x)
        return self.norm3(x + self.dropout(self.feed_forward(x)))
