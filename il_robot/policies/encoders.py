"""Networks that turn camera pictures into vectors or maps.

Two networks: ResNet-18 (He et al., "Deep Residual Learning", CVPR 2016) with GroupNorm (Wu and
He, ECCV 2018) in place of BatchNorm, as in Chi et al., "Diffusion Policy", RSS 2023, section
III-B, whose running mean of the weights BatchNorm would spoil; and a small stack of strided
convolutions for a CPU.

Either ends in a spatial softmax (Levine et al., "End-to-End Training of Deep Visuomotor
Policies", JMLR 2016, section 5.1; Finn et al., "Deep Spatial Autoencoders", ICRA 2016): each of
K channels becomes one point of the picture, the expectation of a softmax over its pixels,

    s_ij = exp(c_ij) / sum exp(c);   point = (sum_ij s_ij x_j, sum_ij s_ij y_i),

or gives its last feature map, for a transformer. N is the number of pictures, (h, w) the size of
the part seen and then of the feature map.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from il_robot.errors import ConfigError


@dataclass(frozen=True)
class EncoderConfig:
    """The network of a camera, and the augmentation of its pictures in training.

    Attributes:
        network: ``cnn`` (small, for a CPU too) or ``resnet18``.
        output: ``keypoints`` (the points of a spatial softmax) or ``map`` (every cell of the
            last feature map is a token; policy ``act`` only).
        keypoints: Points per camera, K; the encoded vector has 2 K numbers.
        widths: Channels of ``cnn``'s layers. The first has 5 x 5 pixels and stride 2, the
            second 3 x 3 and stride 2, each further one 3 x 3 and stride 1.
        shared: One set of weights for all cameras, instead of one per camera.
        crop: Share of the height and width that is seen: a random part in training (Chi et
            al., section III-B), the middle when running; 1 shows the whole picture.
        jitter: Largest relative change of brightness, contrast and saturation in training; 0
            changes none.
        pretrained: File with torchvision's weights of ``resnet18`` (.safetensors or .pth), or
            empty. Convolutions and the affine part of the norms are taken; BatchNorm's
            statistics have no counterpart.
    """

    network: Literal['cnn', 'resnet18'] = 'cnn'
    output: Literal['keypoints', 'map'] = 'keypoints'
    keypoints: int = 32
    widths: tuple[int, ...] = (16, 32, 32)
    shared: bool = False
    crop: float = 0.9
    jitter: float = 0.1
    pretrained: str = ''

    def __post_init__(self) -> None:
        if self.keypoints < 1:
            raise ValueError(f'keypoints must be >= 1, got {self.keypoints}')
        if not self.widths or min(self.widths) < 1:
            raise ValueError(f'widths must name one or more channels >= 1, got {self.widths}')
        if not 0.5 <= self.crop <= 1:
            raise ValueError(f'crop must be from 0.5 to 1, got {self.crop}')
        if not 0 <= self.jitter < 1:
            raise ValueError(f'jitter must be in [0, 1), got {self.jitter}')
        if self.pretrained and self.network != 'resnet18':
            raise ValueError(f'pretrained weights are for resnet18, network is {self.network}')


class CameraEncoder(nn.Module):
    """Pictures ``(N, 3, h, w)``, normalised, to ``(N, 2 K)`` points or ``(N, C, h', w')`` maps.

    Args:
        config: The network.
        size: ``(h, w)`` of the pictures it sees.

    Attributes:
        channels: Length of a vector, 2 K, or channels C of a map.
        grid: ``(h', w')`` of the map.

    Raises:
        ConfigError: the pictures are too small for the network.
    """

    def __init__(self, config: EncoderConfig, size: tuple[int, int]) -> None:
        super().__init__()
        if config.network == 'cnn':
            self.body: nn.Module = small_cnn(config.widths)
            width = config.widths[-1]
        else:
            self.body, width = ResNet18(), 512
        with torch.no_grad():
            shape = self.body(torch.zeros(1, 3, *size)).shape
        self.grid = (int(shape[2]), int(shape[3]))
        if min(self.grid) < 2:
            raise ConfigError(
                f'observation: pictures of {size[0]} x {size[1]} pixels (height, width) leave '
                f'{config.network} a map of {self.grid[0]} x {self.grid[1]}; use a larger '
                f'image_size')
        if config.output == 'keypoints':
            # no bias: a softmax over pixels does not see it
            self.head: nn.Module = nn.Sequential(
                nn.Conv2d(width, config.keypoints, 1, bias=False), SpatialSoftmax(self.grid))
            self.channels = 2 * config.keypoints
        else:
            self.head, self.channels = nn.Identity(), width

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """See the class."""
        encoded: torch.Tensor = self.head(self.body(pictures))
        return encoded


class SpatialSoftmax(nn.Module):
    """``(N, K, h, w)`` to the expected positions ``(N, 2 K)``: all x, then all y, in [-1, 1]."""

    positions: torch.Tensor

    def __init__(self, grid: tuple[int, int]) -> None:
        super().__init__()
        y, x = torch.meshgrid(
            torch.linspace(-1, 1, grid[0]), torch.linspace(-1, 1, grid[1]), indexing='ij')
        self.register_buffer('positions', torch.stack([x, y], -1).flatten(0, 1), persistent=False)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """See the class."""
        share = maps.flatten(2).float().softmax(-1)  # (N, K, h w)
        return (share @ self.positions).transpose(1, 2).flatten(1)  # (N, K, 2) to (N, 2 K)


def small_cnn(widths: tuple[int, ...]) -> nn.Sequential:
    """Convolutions with ReLU, the map a quarter of the picture's sides."""
    layers: list[nn.Module] = []
    channels = 3
    for i, width in enumerate(widths):
        kernel = 5 if i == 0 else 3
        layers += [nn.Conv2d(channels, width, kernel, 2 if i < 2 else 1, kernel // 2), nn.ReLU()]
        channels = width
    for layer in layers:
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity='relu')
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return nn.Sequential(*layers)


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(channels // 16, channels)


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions beside a short cut; He et al., figure 2."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = _norm(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = _norm(outputs)
        self.downsample: nn.Sequential | None = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), _norm(outputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``(N, inputs, h, w)`` to ``(N, outputs, h / stride, w / stride)``."""
        short = x if self.downsample is None else self.downsample(x)
        x = self.bn1(self.conv1(x)).relu()
        return (self.bn2(self.conv2(x)) + short).relu()


def _stage(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    return nn.Sequential(BasicBlock(inputs, outputs, stride), BasicBlock(outputs, outputs, 1))


class ResNet18(nn.Module):
    """``(N, 3, h, w)`` to ``(N, 512, h / 32, w / 32)``; names as in torchvision, norms too."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = _norm(64)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.layer1 = _stage(64, 64, 1)
        self.layer2 = _stage(64, 128, 2)
        self.layer3 = _stage(128, 256, 2)
        self.layer4 = _stage(256, 512, 2)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode='fan_out', nonlinearity='relu')

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """See the class."""
        x = self.maxpool(self.bn1(self.conv1(x)).relu())
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return x


def load_pretrained(network: nn.Module, path: str) -> None:
    """Copy torchvision's ResNet-18 weights into a :class:`ResNet18`; no code of the file runs.

    Raises:
        ConfigError: no such file, not weights, or of another network (what differs is named).
    """
    weights = _read_weights(Path(path))
    wanted = network.state_dict()
    missing = [k for k in wanted if k not in weights or weights[k].shape != wanted[k].shape]
    if missing:
        raise ConfigError(
            f"pretrained {path} is not of torchvision's resnet18: {len(missing)} of "
            f'{len(wanted)} tensors are missing or of another shape, first {missing[0]}')
    network.load_state_dict({k: weights[k] for k in wanted})


def _read_weights(path: Path) -> Mapping[str, torch.Tensor]:
    if not path.is_file():
        raise ConfigError(f'pretrained: no file {path}; nothing is downloaded')
    try:
        if path.suffix == '.safetensors':
            return load_file(path)
        weights = torch.load(path, map_location='cpu', weights_only=True)
    except (OSError, SafetensorError) as error:
        raise ConfigError(f'pretrained: cannot read {path}: {error}') from None
    except Exception as error:  # torch.load has no error of its own
        raise ConfigError(f'pretrained: {path} holds no plain weights: {error}') from None
    if not isinstance(weights, Mapping):
        raise ConfigError(f'pretrained: {path} holds no weights by name')
    return weights
