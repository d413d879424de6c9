"""Pictures of a dataset decoded once: one file of bytes per camera and size, read as memory.

Training reads pictures in random order, thousands of times; a video gives them one after the
other. The file is made at the first training and found again by every later one:
``.il_robot/frames/<hash of the dataset>_<camera>_<height>x<width>.npy``, rows of the dataset in
order. It is written beside its name and renamed when it is complete, and may be deleted at any
time.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from il_robot.data import keys, layout
from il_robot.data.dataset import Dataset
from il_robot.data.pictures import misfit, resized
from il_robot.errors import DatasetError, unknown
from il_robot.types import UInt8

OnFrames = Callable[[str, int, int], None]
"""Told the camera, the frames decoded so far, and how many there are."""


def picture_size(dataset: Dataset, camera: str) -> tuple[int, int]:
    """Height and width [px] of a camera's pictures as recorded.

    Raises:
        DatasetError: the dataset has no such camera.
    """
    if camera not in dataset.cameras:
        raise DatasetError(
            f'{unknown("camera", camera, dataset.cameras, str(dataset.path))}; record with '
            f'--cameras, or choose others (observation.cameras)')
    feature = next(f for k, f in dataset.features.items() if keys.camera_name(k) == camera)
    return _height_and_width(feature)


def check_cameras(
    dataset: Dataset, cameras: Iterable[str], size: tuple[int, int]
) -> dict[str, tuple[int, int]]:
    """Height and width [px] of the pictures of each camera, which must be able to become ``size``.

    Raises:
        DatasetError: a camera is missing, or its pictures are too small or of another shape.
    """
    sizes = {camera: picture_size(dataset, camera) for camera in cameras}
    for camera, have in sizes.items():
        why = misfit(have, size)
        if why:
            raise DatasetError(
                f'{dataset.path}, camera {camera}: {why} (observation.image_size is '
                f'[height, width])')
    return sizes


def _height_and_width(feature: Mapping[str, Any]) -> tuple[int, int]:
    """LeRobot knows both orders: (height, width, channels) and (channels, height, width)."""
    height, width, channels = feature['shape']
    if height <= 4 < channels:
        return int(width), int(channels)
    return int(height), int(width)


def cached_frames(
    dataset: Dataset, camera: str, size: tuple[int, int], fallback: Path,
    on_frames: OnFrames = lambda camera, done, total: None,
) -> UInt8:
    """All frames of a camera, of one size, as a memory map of the cache file.

    Args:
        dataset: The dataset.
        camera: Which camera.
        size: Height and width [px] wanted; frames are made smaller with
            :func:`il_robot.data.pictures.resized`.
        fallback: Folder for the file where the dataset's cannot be written.
        on_frames: Called now and then while frames are decoded.

    Returns:
        ``(N, height, width, 3)`` RGB, N rows of the dataset; what is written to it is not kept.

    Raises:
        DatasetError: no such camera, frames that do not fit ``size`` or cannot be decoded, or
            no room for the file.
    """
    check_cameras(dataset, [camera], size)
    shape = (len(dataset), *size, 3)
    name = f'{dataset.hash}_{camera}_{size[0]}x{size[1]}.npy'
    own = dataset.path / layout.WORK / 'frames'
    folders = [own, fallback / 'frames']
    for folder in folders:
        frames = _opened(folder / name, shape)
        if frames is not None:
            return frames
    folder = own if _writable(own) else folders[1]
    with _alone(folder):
        frames = _opened(folder / name, shape)  # somebody else was faster
        if frames is None:
            _write(folder / name, dataset, camera, shape, on_frames)
            for old in folder.glob(f'*_{camera}_{size[0]}x{size[1]}.npy'):
                if old.name != name:  # of the dataset before it grew; open maps stay valid
                    old.unlink(missing_ok=True)
            frames = _opened(folder / name, shape)
    if frames is None:
        raise DatasetError(f'{folder / name} was damaged while it was written; try again')
    return frames


def _opened(path: Path, shape: tuple[int, ...]) -> UInt8 | None:
    """The frames of a complete file; None where it is missing or damaged."""
    try:
        # copy on write: torch wants memory that may be written to
        frames = np.load(path, mmap_mode='c', allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return frames if frames.shape == shape and frames.dtype == np.uint8 else None


def _writable(folder: Path) -> bool:
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
    return os.access(folder, os.W_OK)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Wait until no other process writes to this cache: all ranks of a training start at once."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / 'lock', os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise DatasetError(f'cannot write decoded frames to {folder}: {error.strerror}') from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _write(
    path: Path, dataset: Dataset, camera: str, shape: tuple[int, ...], on_frames: OnFrames
) -> None:
    needed, free = int(np.prod(shape, dtype=np.int64)), shutil.disk_usage(path.parent).free
    if needed > 0.95 * free:
        raise DatasetError(
            f'decoded frames of {camera} need {needed / 1e9:.1f} GB in {path.parent}, where '
            f'{free / 1e9:.1f} GB are free; use a smaller observation.image_size, or make room')

    def fill(temporary: Path) -> None:
        frames = np.lib.format.open_memmap(temporary, 'w+', np.uint8, shape)
        for number, episode in enumerate(dataset.episodes):
            for i, picture in enumerate(dataset.frames(number, camera)):
                frames[episode.start + i] = resized(picture, (shape[1], shape[2]))
            on_frames(camera, episode.stop, shape[0])
        frames.flush()

    try:
        layout.replace(path, fill)
    except OSError as error:
        raise DatasetError(f'cannot write decoded frames to {path}: {error.strerror}') from None
