"""What a policy observes: the joints, any objects, any cameras; chosen in the recipe.

How pictures come into a policy: :class:`ImagePolicy` encodes those of a batch,
appends what comes out to the features, and hands the batch to any policy of the registry, which
has been built for a longer feature vector and knows nothing of cameras. The encoder learns from
that policy's loss.

Where the dataset knows object poses, there is another way: an estimator learns to see them
(:mod:`il_robot.policies.estimator`), and takes the place of the poses when the policy runs.
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
from il_robot.policies.estimator import EstimatorConfig
from il_robot.policies.features import FeatureLayout
from il_robot.policies.policy import IMAGES, PART, Batch, Losses, Policy


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
        encoder: The network. Not used where poses are estimated.
        estimate: Objects whose poses are estimated from the pictures when running; the dataset
            must know them, the robot the places of its cameras. The policy itself then sees no
            picture, but every pose.
        estimator: How, and how long that is learned.
    """

    cameras: tuple[str, ...] = ()
    objects: tuple[str, ...] | None = None
    hands: bool = True
    scales: tuple[float, ...] = (0.01, 0.04)
    image_size: tuple[int, int] = (96, 128)
    encoder: EncoderConfig = EncoderConfig()
    estimate: tuple[str, ...] = ()
    estimator: EstimatorConfig = EstimatorConfig()

    def __post_init__(self) -> None:
        for what, names in (('cameras', self.cameras), ('objects', self.objects or ()),
                            ('estimate', self.estimate)):
            if len(set(names)) != len(names):
                raise ValueError(f'{what} must differ, got {", ".join(names)}')
        if any(not 0 < scale < math.inf for scale in self.scales):
            raise ValueError(f'scales must be lengths > 0 [m], got {self.scales}')
        if min(self.image_size) < 16:
            raise ValueError(f'image_size must be at least [16, 16], got {self.image_size}')
        if self.estimate and not self.cameras:
            raise ValueError('estimate needs cameras')
        useless = set(self.estimate) - set(self.objects or self.estimate)
        if useless or (self.estimate and self.objects == ()):
            raise ValueError(
                f'estimate names {", ".join(sorted(useless or self.estimate))}, which the policy '
                f'does not ask for: add it to objects, or leave objects out for all')


@dataclass(frozen=True)
class EncodedLayout(FeatureLayout):
    """The features with what the cameras' encoders add; only policies see it.

    Attributes:
        vectors: Length of each camera's vector, behind the other features.
        grids: Height and width of each camera's map, where there are maps instead.
        channels: Numbers per cell of a map.
    """

    vectors: tuple[int, ...] = ()
    grids: tuple[tuple[int, int], ...] = ()
    channels: int = 0

    @cached_property
    def parts(self) -> tuple[int, ...]:
        """The joints, the objects, each camera."""
        return (*super().parts, *self.vectors)


class ObservationEncoder(nn.Module):
    """Encodes the pictures of a batch.

    Args:
        config: Cameras and network.
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

        The features are the given ones and each camera's vector.

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
        return self.policy.loss(self.encoder(batch, augment), generator)

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
