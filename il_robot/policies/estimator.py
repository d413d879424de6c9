"""Poses of objects from pictures and joints, for policies that were made for known poses.

A small network per camera marks the middle and the corners of a box around each object in its
picture (:mod:`il_robot.policies.keypoints`); the poses that explain all marks, seen from cameras
whose places are known, are computed (:mod:`il_robot.policies.reprojection`). Only what must be
learned is learned: what the object looks like, from its poses in the demonstrations, projected
into every picture. How pictures turn into metres is geometry and cannot be overfitted, and a map
of a limited part of the picture cannot guess the object from where the arms are, which a network
that sees everything does from few demonstrations: they correlate the two.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import nn

from il_robot.policies.augmentation import scaled
from il_robot.policies.keypoints import HeatMaps, classify, locate
from il_robot.policies.policy import (
    IMAGES,
    PART,
    Batch,
    ClosedForm,
    Losses,
    Policy,
    Trainee,
    masked_mean,
)
from il_robot.policies.reprojection import Prior, Sight, solve_poses
from il_robot.policies.views import View, project
from il_robot.rotations import matrix_from_quaternion, quaternion_from_matrix
from il_robot.types import Float32, Float64

MARKS = 'marks.'
"""Prefix of ``(B, 1, P, 3)``: image coordinates of the marks in a camera's picture, and their
distance along the line of sight [m]; in the batches that an estimator learns from."""


@dataclass(frozen=True)
class EstimatorConfig:
    """The networks that see objects, and how they are trained.

    Attributes:
        widths: See :class:`~il_robot.policies.keypoints.HeatMaps`.
        extent: Half the side of the box around an object's origin whose corners are looked for
            [m]: for a box of about this size they are easy to see.
        jitter: As of :class:`~il_robot.policies.encoders.EncoderConfig`.
        steps: Gradient steps, before the first one of the policy.
        batch_size: Of these steps.
        learning_rate: Of these steps: their schedule is like that of the others.
    """

    widths: tuple[int, ...] = (8, 16, 24, 24, 24)
    extent: float = 0.02
    jitter: float = 0.1
    steps: int = 800
    batch_size: int = 16
    learning_rate: float = 4e-3

    def __post_init__(self) -> None:
        if len(self.widths) < 2 or min(self.widths) < 1:
            raise ValueError(f'widths must name two or more channels >= 1, got {self.widths}')
        for name in ('extent', 'learning_rate'):
            if getattr(self, name) <= 0:
                raise ValueError(f'{name} must be > 0, got {getattr(self, name)}')
        for name in ('steps', 'batch_size'):
            if getattr(self, name) < 1:
                raise ValueError(f'{name} must be >= 1, got {getattr(self, name)}')
        if not 0 <= self.jitter < 1:
            raise ValueError(f'jitter must be in [0, 1), got {self.jitter}')


class PoseEstimator(Trainee):
    """Sees objects.

    Args:
        config: The networks.
        cameras: Names, in order.
        objects: Names of what is seen, in order.
        size: ``(H, W)`` of the pictures.
    """

    mean: torch.Tensor
    information: torch.Tensor

    def __init__(
        self, config: EstimatorConfig, cameras: Sequence[str], objects: Sequence[str],
        size: tuple[int, int],
    ) -> None:
        super().__init__()
        self.config, self.size = config, size
        self.names, self.objects = tuple(cameras), tuple(objects)
        self.marks = box_marks(config.extent)
        self.cameras = cast('Sequence[HeatMaps]', nn.ModuleList(
            HeatMaps(len(self.marks) * len(objects), config.widths) for _ in cameras))
        self.register_buffer('mean', torch.zeros(len(objects), 3, dtype=torch.float64))
        self.register_buffer(
            'information', torch.eye(3, dtype=torch.float64).repeat(len(objects), 1, 1))

    def fit_prior(self, poses: Float32) -> None:
        """Remember where each object usually is, of poses ``(N, objects, 7)``.

        Twice as wide as what was seen: the prior decides only what no camera does.
        """
        for i in range(len(self.objects)):
            position = poses[:, i, :3].astype(np.float64)
            spread = 4 * np.cov(position.T) + 1e-3 * np.eye(3)
            self.mean[i] = torch.from_numpy(position.mean(0))
            self.information[i] = torch.from_numpy(np.linalg.inv(spread))

    def targets(
        self, poses: Float32, state: Float32, views: Mapping[str, View]
    ) -> dict[str, Float32]:
        """Where the marks are in every camera's picture.

        Args:
            poses: ``(N, objects, 7)`` in ``base``.
            state: ``(N, D)``.
            views: Of every camera.

        Returns:
            By camera ``(N, P, 3)``, see :data:`MARKS`.
        """
        rotation = matrix_from_quaternion(poses[..., 3:])  # (N, objects, 3, 3)
        points = self.marks @ rotation.swapaxes(2, 3) + poses[:, :, None, :3]
        flat = points.reshape(len(points), -1, 3)
        found = {}
        for name in self.names:
            image, depth = project(flat, views[name].frames(state), views[name].focal)
            found[name] = np.concatenate([image, depth[..., None]], -1).astype(np.float32)
        return found

    def loss(self, batch: Batch, generator: torch.Generator) -> Losses:
        """Mean cross-entropy over cameras and marks; colours change in training mode.

        Args:
            batch: ``images.<camera>`` ``(B, 1, 3, H, W)`` and ``marks.<camera>``.
            generator: Draws the colours.
        """
        augment = generator if self.training else None
        part = batch.get(PART)
        errors = []
        for name, camera in zip(self.names, self.cameras):
            pictures = scaled(batch[IMAGES + name], self.config.jitter, augment, part)
            logits = camera(_fast(pictures.flatten(0, 1)))
            errors.append(classify(logits, batch[MARKS + name].flatten(0, 1), self.size))
        per_sample = {key: batch[key] for key in ('weight', PART) if key in batch}
        loss = masked_mean(torch.cat(errors, -1)[:, None], per_sample)
        return {'loss': loss}

    @torch.inference_mode()
    def estimate(
        self, pictures: Mapping[str, torch.Tensor], state: Float32, views: Mapping[str, View]
    ) -> dict[str, Float32]:
        """The poses of all objects.

        Args:
            pictures: ``(N, 3, H, W)`` uint8 by camera.
            state: ``(N, D)`` of the same instants.
            views: Of every camera.

        Returns:
            ``(N, 7)`` by object, in ``base``: position [m] and quaternion.
        """
        count, device = len(self.marks), self.mean.device
        seen = {}
        for name, camera in zip(self.names, self.cameras):
            logits = camera(_fast(scaled(pictures[name][:, None].to(device))[:, 0]))
            seen[name] = *locate(logits.float(), self.size), views[name].frames(state)
        poses = {}
        for i, name in enumerate(self.objects):
            own = slice(i * count, (i + 1) * count)
            sights = {
                camera: Sight(image[:, own], information[:, own], frames, views[camera].focal)
                for camera, (image, information, frames) in seen.items()}
            prior = Prior(self.mean[i].cpu().numpy(), self.information[i].cpu().numpy())
            rotation, position = solve_poses(self.marks, sights, prior)
            quaternions = [quaternion_from_matrix(r) for r in rotation]
            poses[name] = np.concatenate([position, quaternions], 1).astype(np.float32)
        return poses


class EstimatingPolicy(Policy):
    """Any policy of known poses, with an estimator that tells them.

    Loss and forward pass are the policy's own; the estimator has learned before
    (:mod:`il_robot.algorithms.estimation`), and the runner asks it for the poses that the
    features are made of.
    """

    def __init__(self, estimator: PoseEstimator, policy: Policy) -> None:
        super().__init__()
        self.estimator, self.policy = estimator.requires_grad_(False), policy
        self.chunk_size, self.n_obs_steps = policy.chunk_size, policy.n_obs_steps

    def loss(self, batch: Batch, generator: torch.Generator) -> Losses:
        """The policy's own."""
        return self.policy.loss(batch, generator)

    def closed_form(self) -> ClosedForm | None:
        """The policy's own."""
        return self.policy.closed_form()

    def forward(self, batch: Batch, noise: torch.Tensor) -> torch.Tensor:
        """The policy's own."""
        prediction: torch.Tensor = self.policy(batch, noise)
        return prediction

    def draw(self, size: int, generator: torch.Generator) -> torch.Tensor:
        """The policy's own."""
        return self.policy.draw(size, generator)


def box_marks(extent: float) -> Float64:
    """``(9, 3)``: the origin, and the corners of a cube of half side ``extent`` around it [m].

    The middle is found before the corners can be told apart, and from further away.
    """
    sides = np.array([-extent, extent])
    corners = np.stack(np.meshgrid(sides, sides, sides, indexing='ij'), -1).reshape(-1, 3)
    return np.concatenate([np.zeros((1, 3)), corners])


def _fast(pictures: torch.Tensor) -> torch.Tensor:
    """The layout of the convolutions that is fast on CPU and GPU."""
    return pictures.contiguous(memory_format=torch.channels_last)
