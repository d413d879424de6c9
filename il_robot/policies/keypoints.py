"""Where marked points of objects appear in a picture: one heat map each, and how sure it is.

A fully convolutional network gives every mark a probability of each cell of the picture, and
of "out of view", trained as a classifier (Tompson et al., NIPS 2014, trained such heat maps;
cross-entropy here, so that their width is honest). A mark between cells belongs to the four
around it, in proportion, so that the mean of the map around its peak is a place finer than its
cells. The map's own width, and the probability outside of that neighbourhood, say how much the
place can be trusted. Nothing beyond the network's receptive field matters, and wherever the
object is, it looks the same to it: few placements teach all of them.

N is the number of pictures, P that of marks, (h, w) the size of the maps; image coordinates
as in :mod:`il_robot.policies.views`.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from il_robot.policies.views import NEAREST
from il_robot.types import Float64

STRIDE = 4
"""Pixels per cell."""
_FIRST = 0.5
"""Where the middle of the first cell is [px], by the padding of the layers with a stride."""
_REACH = 2
"""Cells around the peak, on each side, that its place is the mean of."""
_FLOOR = 0.1
"""Least variance of a place [cells^2]."""


class HeatMaps(nn.Module):
    """Pictures ``(N, 3, H, W)``, normalised, to logits ``(N, P, h w + 1)``, "out of view" last.

    Args:
        count: P.
        widths: Channels of the layers: 5 x 5 pixels with stride 2, 3 x 3 with stride 2, then
            3 x 3 each, all but the first of these dilated by 2 (Yu and Koltun, ICLR 2016).
    """

    def __init__(self, count: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for i, width in enumerate(widths):
            kernel, stride, dilation = 5 if i == 0 else 3, 2 if i < 2 else 1, 2 if i > 2 else 1
            convolution = nn.Conv2d(
                channels, width, kernel, stride, dilation * (kernel // 2), dilation)
            nn.init.kaiming_normal_(convolution.weight, nonlinearity='relu')
            assert convolution.bias is not None
            nn.init.zeros_(convolution.bias)
            layers += [convolution, nn.ReLU()]
            channels = width
        self.body = nn.Sequential(*layers)
        self.heat = nn.Conv2d(channels, count, 1)
        self.outside = nn.Parameter(torch.zeros(count))

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """See the class."""
        cells = self.heat(self.body(pictures)).flatten(2)
        outside = self.outside[None, :, None].expand(len(cells), -1, 1)
        return torch.cat([cells, outside], -1)


def grid_of(size: tuple[int, int]) -> tuple[int, int]:
    """``(h, w)`` of the maps of pictures ``(H, W)``."""
    return -(-size[0] // STRIDE), -(-size[1] // STRIDE)


def classify(
    logits: torch.Tensor, marks: torch.Tensor, size: tuple[int, int]
) -> torch.Tensor:
    """Cross-entropy ``(N, P)`` of heat maps.

    Args:
        logits: ``(N, P, h w + 1)``.
        marks: ``(N, P, 3)``: image coordinates, and the distance along the line of sight [m].
        size: ``(H, W)`` of the pictures.
    """
    h, w = grid_of(size)
    # half heights to cells: both sides of a cell are STRIDE pixels
    unit = marks.new_tensor([size[0] / 2, size[0] / 2])
    middle = marks.new_tensor([size[1] / 2, size[0] / 2])
    x, y = ((marks[..., :2] * unit + middle - _FIRST) / STRIDE).unbind(-1)
    outside = (x < -0.5) | (x > w - 0.5) | (y < -0.5) | (y > h - 0.5)
    outside |= marks[..., 2] < NEAREST
    x, y = x.clamp(0, w - 1), y.clamp(0, h - 1)
    left, top = x.floor().clamp(max=w - 2), y.floor().clamp(max=h - 2)
    a, b = x - left, y - top
    first = (top * w + left).long()
    index = torch.stack([first, first + 1, first + w, first + w + 1], -1)
    share = torch.stack([(1 - a) * (1 - b), a * (1 - b), (1 - a) * b, a * b], -1)
    index = torch.where(outside[..., None], h * w, index)
    share = torch.where(outside[..., None], 0.25, share)
    return -(logits.log_softmax(-1).gather(-1, index) * share).sum(-1)


def locate(logits: torch.Tensor, size: tuple[int, int]) -> tuple[Float64, Float64]:
    """The places of marks.

    Args:
        logits: ``(N, P, h w + 1)``.
        size: ``(H, W)`` of the pictures.

    Returns:
        Image coordinates ``(N, P, 2)``, and their information ``(N, P, 2, 2)``.
    """
    h, w = grid_of(size)
    share: Float64 = logits.double().softmax(-1)[..., :-1].unflatten(-1, (h, w)).cpu().numpy()
    n, p = share.shape[:2]
    top, left = np.divmod(share.reshape(n, p, -1).argmax(-1), w)
    around = np.arange(-_REACH, _REACH + 1)
    # a margin of zeros, so that a peak at the border has neighbours, too
    padded = np.pad(share, ((0, 0), (0, 0), (_REACH, _REACH), (_REACH, _REACH)))
    rows = (top[..., None] + around + _REACH)[..., :, None]
    columns = (left[..., None] + around + _REACH)[..., None, :]
    near = padded[np.arange(n)[:, None, None, None], np.arange(p)[:, None, None], rows, columns]
    mass = near.sum((2, 3))
    near = near / np.maximum(mass, 1e-12)[..., None, None]
    offsets = np.stack(np.meshgrid(around, around), -1).reshape(-1, 2)  # x, y
    flat = near.reshape(n, p, -1)
    mean = flat @ offsets
    apart = offsets - mean[:, :, None]
    covariance = np.einsum('npk,npki,npkj->npij', flat, apart, apart) + _FLOOR * np.eye(2)
    cells = mean + np.stack([left, top], -1)
    image = (cells * STRIDE + _FIRST - np.array([size[1], size[0]]) / 2) / (size[0] / 2)
    unit = STRIDE / (size[0] / 2)
    # a peak that is one of several is no evidence: the square makes half a probability a quarter
    information = np.linalg.inv(covariance * unit ** 2) * (mass ** 2)[..., None, None]
    return image, information
