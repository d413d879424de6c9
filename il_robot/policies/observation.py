"""What a policy observes: the joints, any objects, any cameras; chosen in the recipe.

The one way by which pictures come into a policy: :class:`ImagePolicy` encodes those of a batch,
appends what comes out to the features, and hands the batch to any policy of the registry, which
has been built for a longer feature vector and knows nothing of cameras. The encoder learns from
that policy's loss.

Where the dataset knows object poses, the encoder can also learn to estimate them (Levine et al.,
JMLR 2016, section 5.2, begin with such a regression): few demonstrations say little about where
the object must be seen, its pose in every picture says it plainly. The estimate joins the
features; running, no pose is needed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import cast

import torch
from torch import nn

from il_robot.policies.augmentation import crop_pictures, cropped_size, scaled
from il_robot.policies.encoders import CameraEncoder, EncoderConfig, load_pretrained
from il_robot.policies.features import FeatureLayout
from il_robot.policies.mlp import mlp
from il_robot.policies.policy import PART, Batch, Losses, Policy, masked_mean

POSES = 'poses'
POSE_DIM = 9
IMAGES = 'images.'
"""Prefix of the keys of pictures in a batch; ``poses`` are ``(B, T, 9 n)``, normalised."""
_HIDDEN = (128,)


@dataclass(frozen=True)
class ObservationConfig:
    """What is observed beside the joints; stored in the checkpoint.

    Attributes:
        cameras: Names of the cameras, in order; empty for none.
        objects: Names of the objects whose poses are known; None for all of the dataset.
        hands: Also the poses of the hands, and of hands and objects as seen from one another
            (:mod:`il_robot.policies.features`), where the robot's kinematics is known.
        scales: Scales [m] at which the relative positions are given once more.
        image_size: Height and width [px] of the pictures as cached and encoded. Larger ones
            are made smaller, in training and in running by the same function.
        encoder: The network.
        estimate: Objects whose poses are estimated from the pictures alone (the expert's joints
            would give them away without looking); the dataset must know them.
        estimate_weight: Of the squared error of the estimates, in deviations, in the loss.
    """

    cameras: tuple[str, ...] = ()
    objects: tuple[str, ...] | None = None
    hands: bool = True
    scales: tuple[float, ...] = (0.01, 0.04)
    image_size: tuple[int, int] = (96, 128)
    encoder: EncoderConfig = EncoderConfig()
    estimate: tuple[str, ...] = ()
    estimate_weight: float = 1.0

    def __post_init__(self) -> None:
        for what, names in (('cameras', self.cameras), ('objects', self.objects or ()),
                            ('estimate', self.estimate)):
            if len(set(names)) != len(names):
                raise ValueError(f'{what} must differ, got {", ".join(names)}')
        if any(not 0 < scale < math.inf for scale in self.scales):
            raise ValueError(f'scales must be lengths > 0 [m], got {self.scales}')
        if min(self.image_size) < 16:
            raise ValueError(f'image_size must be at least [16, 16], got {self.image_size}')
        if self.estimate and (not self.cameras or self.encoder.output == 'map'):
            raise ValueError('estimate needs cameras and encoder.output keypoints')
        if self.estimate_weight < 0:
            raise ValueError(f'estimate_weight must be >= 0, got {self.estimate_weight}')


@dataclass(frozen=True)
class EncodedLayout(FeatureLayout):
    """The features with what the cameras' encoders add; only policies see it.

    Attributes:
        vectors: Length of each camera's vector, then of the estimate, behind the other features.
        grids: Height and width of each camera's map, where there are maps instead.
        channels: Numbers per cell of a map.
    """

    vectors: tuple[int, ...] = ()
    grids: tuple[tuple[int, int], ...] = ()
    channels: int = 0

    @cached_property
    def parts(self) -> tuple[int, ...]:
        """The joints, the objects, each camera, the estimate."""
        return (*super().parts, *self.vectors)


class ObservationEncoder(nn.Module):
    """Encodes the pictures of a batch.

    Args:
        config: Cameras, network and estimate.
        low: The features without cameras.

    Attributes:
        layout: The features with what this adds.
    """

    def __init__(self, config: ObservationConfig, low: FeatureLayout) -> None:
        super().__init__()
        self.config = config
        self._seen = cropped_size(config.image_size, config.encoder.crop)
        count = 1 if config.encoder.shared else len(config.cameras)
        self.cameras = cast('Sequence[CameraEncoder]', nn.ModuleList(
            CameraEncoder(config.encoder, self._seen) for _ in range(count)))
        first, count = self.cameras[0], len(config.cameras)
        given = {field.name: getattr(low, field.name) for field in fields(low)}
        if config.encoder.output == 'map':
            self.layout = EncodedLayout(
                **given, grids=(first.grid,) * count, channels=first.channels)
            return
        vectors = (first.channels,) * count
        self.poses: nn.Module | None = None
        if config.estimate:
            poses = POSE_DIM * len(config.estimate)
            self.poses = mlp(sum(vectors), _HIDDEN, poses)
            vectors += (poses,)
        self.layout = EncodedLayout(**given, vectors=vectors)

    def load_pretrained(self) -> None:
        """Start from the weights the configuration names, if any.

        Raises:
            ConfigError: no such file, or not weights of this network.
        """
        if self.config.encoder.pretrained:
            for camera in self.cameras:
                load_pretrained(camera.body, self.config.encoder.pretrained)

    def forward(self, batch: Batch, generator: torch.Generator | None) -> Batch:
        """The batch with longer ``features``, or with ``map`` ``(B, S, channels)``.

        The features are the given ones, each camera's vector, and the estimated poses.

        Args:
            batch: With ``images.<camera>`` ``(B, T, 3, H, W)`` uint8 of every camera.
            generator: Draws the augmentation; None for none.
        """
        encoder, config, part = self.config.encoder, self.config, batch.get(PART)
        pictures = [
            scaled(crop_pictures(batch[IMAGES + name], self._seen, generator, part),
                   encoder.jitter, generator, part)
            for name in config.cameras]
        count, steps = pictures[0].shape[:2]
        # the layout of the convolutions that is fast on CPU and GPU
        flat = [p.flatten(0, 1).contiguous(memory_format=torch.channels_last) for p in pictures]
        if encoder.shared:
            encoded = self.cameras[0](torch.cat(flat)).chunk(len(flat))
        else:
            encoded = [camera(p) for camera, p in zip(self.cameras, flat)]
        rest = {k: v for k, v in batch.items() if not k.startswith(IMAGES)}
        if encoder.output == 'map':
            # (B, C, h, w) each to (B, cameras h w, C)
            cells = torch.cat([e.flatten(2) for e in encoded], 2).transpose(1, 2)
            return {**rest, 'map': cells}
        vectors = [e.unflatten(0, (count, steps)) for e in encoded]  # (B, T, 2 K) each
        if self.poses is not None:
            vectors.append(self.poses(torch.cat(vectors, -1)))
        return {**rest, 'features': torch.cat([batch['features'], *vectors], -1)}


class ImagePolicy(Policy):
    """Any policy behind an encoder of pictures."""

    def __init__(self, encoder: ObservationEncoder, policy: Policy) -> None:
        super().__init__()
        self.encoder, self.policy = encoder, policy
        self.chunk_size, self.n_obs_steps = policy.chunk_size, policy.n_obs_steps

    def loss(self, batch: Batch, generator: torch.Generator) -> Losses:
        """The policy's own; pictures are augmented in training mode."""
        augment = generator if self.training else None
        encoded = self.encoder(batch, augment)
        losses = self.policy.loss(encoded, generator)
        if POSES not in batch:
            return losses
        poses = batch[POSES]  # (B, T, 9 n)
        error = (encoded['features'][..., -poses.shape[-1]:] - poses).square()
        per_sample = {key: batch[key] for key in ('weight', PART) if key in batch}
        estimate = masked_mean(error, per_sample)
        weight = self.encoder.config.estimate_weight
        return {**losses, 'estimate': estimate, 'loss': losses['loss'] + weight * estimate}

    def forward(self, batch: Batch, noise: torch.Tensor) -> torch.Tensor:
        """The policy's own, without augmentation."""
        prediction: torch.Tensor = self.policy(self.encoder(batch, None), noise)
        return prediction

    def draw(self, size: int, generator: torch.Generator) -> torch.Tensor:
        """The policy's own."""
        return self.policy.draw(size, generator)


def without_targets(batch: Mapping[str, torch.Tensor]) -> Batch:
    """What there is of a batch when running: features and pictures."""
    return {k: v for k, v in batch.items() if k == 'features' or k.startswith(IMAGES)}
