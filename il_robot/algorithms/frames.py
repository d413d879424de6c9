"""The pictures of a dataset for training: on the device where they fit, else read per batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from il_robot.data.dataset import Dataset
from il_robot.data.frames import OnFrames, cached_frames
from il_robot.data.normalizer import fit_normalizer
from il_robot.errors import DatasetError, unknown
from il_robot.policies.observation import IMAGES, POSES, ObservationConfig
from il_robot.policies.policy import Batch
from il_robot.rotations import rotation_6d
from il_robot.types import Float32

_SHARE = 0.5
"""Of the free memory of a GPU that pictures may take; the rest is for the training."""


class Frames:
    """Pictures of all rows.

    Args:
        pictures: ``(N, H, W, 3)`` uint8 by camera; a memory map is read where it is needed.
        device: Where batches go, and the pictures themselves where they fit.
        poses: ``(N, 9 n)`` normalised poses to be estimated, or None.
    """

    def __init__(
        self, pictures: Mapping[str, NDArray[np.uint8]], device: torch.device,
        poses: Float32 | None = None,
    ) -> None:
        tensors = {name: torch.from_numpy(array) for name, array in pictures.items()}
        if device.type == 'cuda':
            free, _ = torch.cuda.mem_get_info(device)
            if sum(t.nbytes for t in tensors.values()) < _SHARE * free:
                tensors = {name: t.to(device) for name, t in tensors.items()}
        self._tensors, self._device = tensors, device
        self._poses = None if poses is None else torch.from_numpy(poses)

    def batch(self, rows: NDArray[np.int64]) -> Batch:
        """``images.<camera>`` ``(B, T, 3, H, W)`` and ``poses`` at rows ``(B, T)``."""
        flat = torch.from_numpy(rows.reshape(-1))
        batch = {}
        if self._poses is not None:
            batch[POSES] = self._poses[flat].unflatten(0, rows.shape).to(self._device)
        for name, tensor in self._tensors.items():
            pictures = tensor.index_select(0, flat.to(tensor.device)).to(self._device)
            batch[IMAGES + name] = pictures.unflatten(0, rows.shape).permute(0, 1, 4, 2, 3)
        return batch


def load_frames(
    dataset: Dataset, observation: ObservationConfig, device: torch.device, fallback: Path,
    poses: Float32 | None = None,
    on_frames: OnFrames = lambda camera, done, total: None,
) -> Frames | None:
    """The pictures of the cameras observed; None where there are none.

    Args:
        dataset: The dataset.
        observation: Cameras and size.
        device: Of the training.
        fallback: See :func:`il_robot.data.frames.cached_frames`.
        poses: Of :func:`pose_targets`.
        on_frames: As ``fallback``.

    Raises:
        DatasetError: see there.
    """
    if not observation.cameras:
        return None
    return Frames({
        name: cached_frames(dataset, name, observation.image_size, fallback, on_frames)
        for name in observation.cameras}, device, poses)


def pose_targets(dataset: Dataset, objects: Sequence[str]) -> Float32 | None:
    """What is to be estimated, ``(N, 9 n)``; None without objects.

    Position and two columns of the rotation of each object, of mean 0 and deviation 1 over all
    rows; these statistics are not needed again when the policy runs.

    Raises:
        DatasetError: an object is missing, or a pose is not finite.
    """
    columns = []
    for name in objects:
        if name not in dataset.object_names:
            raise DatasetError(
                f'{unknown("object", name, dataset.object_names, str(dataset.path))} '
                f'(observation.estimate)')
        pose = dataset.objects[:, dataset.object_names.index(name)]
        columns += [pose[:, :3], rotation_6d(pose[:, 3:])]
    if not columns:
        return None
    poses = np.concatenate(columns, 1).astype(np.float32)
    if not np.isfinite(poses).all():
        raise DatasetError(f'{dataset.path}: poses with NaN or infinity (observation.estimate)')
    return fit_normalizer({POSES: poses}).normalize(POSES, poses)
