"""The pictures of a dataset for training: on the device where they fit, else read per batch."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from il_robot.data.dataset import Dataset
from il_robot.data.frames import OnFrames, cached_frames
from il_robot.policies.estimator import MARKS
from il_robot.policies.observation import ObservationConfig
from il_robot.policies.policy import IMAGES, Batch
from il_robot.types import Float32

_SHARE = 0.5
"""Of the free memory of a GPU that pictures may take; the rest is for the training."""


class Frames:
    """Pictures of all rows.

    Args:
        pictures: ``(N, H, W, 3)`` uint8 by camera; a memory map is read where it is needed.
        device: Where batches go, and the pictures themselves where they fit.
    """

    def __init__(
        self, pictures: Mapping[str, NDArray[np.uint8]], device: torch.device,
    ) -> None:
        tensors = {name: torch.from_numpy(array) for name, array in pictures.items()}
        if device.type == 'cuda':
            free, _ = torch.cuda.mem_get_info(device)
            if sum(t.nbytes for t in tensors.values()) < _SHARE * free:
                tensors = {name: t.to(device) for name, t in tensors.items()}
        self._tensors, self._device = tensors, device
        self._marks: dict[str, torch.Tensor] = {}

    def with_marks(self, marks: Mapping[str, Float32]) -> Frames:
        """The same pictures, with what an estimator of poses learns of them.

        Args:
            marks: ``(N, P, 3)`` by camera, see :data:`il_robot.policies.estimator.MARKS`.
        """
        other = copy.copy(self)
        other._marks = {name: torch.from_numpy(array) for name, array in marks.items()}
        return other

    def batch(self, rows: NDArray[np.int64]) -> Batch:
        """``images.<camera>`` ``(B, T, 3, H, W)`` and ``marks.<camera>`` at rows ``(B, T)``."""
        flat = torch.from_numpy(rows.reshape(-1))
        batch = {}
        for name, marks in self._marks.items():
            batch[MARKS + name] = marks[flat].unflatten(0, rows.shape).to(self._device)
        for name, tensor in self._tensors.items():
            pictures = tensor.index_select(0, flat.to(tensor.device)).to(self._device)
            batch[IMAGES + name] = pictures.unflatten(0, rows.shape).permute(0, 1, 4, 2, 3)
        return batch


def load_frames(
    dataset: Dataset, observation: ObservationConfig, device: torch.device, fallback: Path,
    on_frames: OnFrames = lambda camera, done, total: None,
) -> Frames | None:
    """The pictures of the cameras observed; None where there are none.

    Args:
        dataset: The dataset.
        observation: Cameras and size.
        device: Of the training.
        fallback: See :func:`il_robot.data.frames.cached_frames`.
        on_frames: As ``fallback``.

    Raises:
        DatasetError: see there.
    """
    if not observation.cameras:
        return None
    return Frames({
        name: cached_frames(dataset, name, observation.image_size, fallback, on_frames)
        for name in observation.cameras}, device)
