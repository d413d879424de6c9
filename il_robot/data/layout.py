"""Where the files of a LeRobotDataset v3.0 lie, and how one is written so that it lasts.

``meta/info.json``, ``meta/stats.json``, ``meta/tasks.parquet``, ``meta/episodes/``, ``data/``
and ``videos/`` are LeRobot's; ``meta/robot.json`` (the RobotSpec) and the work folder
``.il_robot/`` (lock, unfinished files, quarantine) are ours.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from il_robot.data import keys
from il_robot.errors import DatasetError

VERSION = 'v3.0'
CHUNKS_SIZE = 1000
DATA_FILES_MB, VIDEO_FILES_MB = 100, 200

INFO, STATS, TASKS = 'meta/info.json', 'meta/stats.json', 'meta/tasks.parquet'
ROBOT = 'meta/robot.json'
EPISODES_PATH = 'meta/episodes/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet'
DATA_PATH = 'data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet'
VIDEO_PATH = 'videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4'

WORK = '.il_robot'
LOCK, PENDING, QUARANTINE = f'{WORK}/lock', f'{WORK}/pending', f'{WORK}/quarantine'


def file_number(position: int, chunks_size: int = CHUNKS_SIZE) -> tuple[int, int]:
    """``(chunk_index, file_index)`` of the n-th file of a kind, counted from 0."""
    return position // chunks_size, position % chunks_size


def data_file(path: Path, info: Mapping[str, Any], row: Mapping[str, Any]) -> Path:
    """The data file an episode's row points to."""
    return path / str(info['data_path']).format(
        chunk_index=row['data/chunk_index'], file_index=row['data/file_index'])


def video_file(path: Path, info: Mapping[str, Any], row: Mapping[str, Any], key: str) -> Path:
    """The video file an episode's row points to.

    Raises:
        DatasetError: the row does not name one.
    """
    try:
        chunk, number = row[f'videos/{key}/chunk_index'], row[f'videos/{key}/file_index']
    except KeyError:
        raise DatasetError(
            f'{path}: episode {row["episode_index"]} names no video for {key}') from None
    return path / str(info['video_path']).format(
        video_key=key, chunk_index=int(chunk), file_index=int(number))


def read_info(path: Path) -> dict[str, Any]:
    """``meta/info.json`` of a v3.0 dataset.

    Raises:
        DatasetError: no such folder, no dataset, another version, or damaged.
    """
    if not path.is_dir():
        raise DatasetError(f'no dataset at {path}: there is no such folder')
    if not (path / INFO).is_file():
        raise DatasetError(f'{path} is not a LeRobotDataset v3.0: it has no {INFO}')
    info = read_json(path / INFO)
    version = str(info.get('codebase_version', 'missing'))
    if version.startswith(('v1', 'v2')):
        raise DatasetError(
            f'{path} is a LeRobotDataset {version}; this reads {VERSION}. Convert it once, in '
            f'place, with the script convert_dataset_v21_to_v30 of the LeRobot package '
            f'(--repo-id=any/name --root={path} --push-to-hub=false)'
        )
    if not version.startswith('v3.'):
        raise DatasetError(f'{path}: codebase_version {version!r} is unknown; this reads v3.x')
    missing = [k for k in ('fps', 'features', 'data_path') if k not in info]
    if missing:
        raise DatasetError(f'{path / INFO} lacks {", ".join(missing)}')
    missing = [k for k in keys.REQUIRED if k not in info['features']]
    if missing:
        raise DatasetError(f'{path / INFO} lacks the feature(s) {", ".join(missing)}')
    return info


def read_json(path: Path) -> dict[str, Any]:
    """One JSON object.

    Raises:
        DatasetError: unreadable, not JSON, or not an object.
    """
    try:
        data = json.loads(path.read_text(encoding='utf-8'))
    except OSError as error:
        raise DatasetError(f'cannot read {path}: {error.strerror}') from None
    except ValueError as error:
        raise DatasetError(f'{path} is damaged: {error}') from None
    if not isinstance(data, dict):
        raise DatasetError(f'{path} is damaged: not a JSON object')
    return data


def write_json(path: Path, data: Mapping[str, Any]) -> None:
    """Replace a JSON file atomically; it lasts through a power cut once this returns."""
    text = json.dumps(data, indent=4, ensure_ascii=False)
    replace(path, lambda temporary: temporary.write_text(text, encoding='utf-8'))


def replace(path: Path, write: Callable[[Path], Any]) -> None:
    """Let ``write`` fill a temporary file, make it durable, and rename it to ``path``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f'.{path.name}.tmp')
    try:
        write(temporary)
        sync_file(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


def lock(path: Path) -> int:
    """Become the only writer of a dataset; ends with the process, or with ``os.close``.

    Returns:
        The descriptor that holds the lock.

    Raises:
        DatasetError: another process writes to it (said which), or it is not writable.
    """
    import fcntl

    file = path / LOCK
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise DatasetError(f'cannot write to {path}: {error.strerror}') from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f'process {os.getpid()} on {os.uname().nodename}'.encode(), 0)
    except OSError as error:
        holder = os.pread(descriptor, 200, 0).decode(errors='replace')
        os.close(descriptor)
        if isinstance(error, BlockingIOError):
            raise DatasetError(
                f'{path} is being written by {holder or "another process"}; two writers would '
                f'destroy it. Wait for it, end it, or record to another folder'
            ) from None
        raise DatasetError(f'cannot lock {path}: {error.strerror}') from None
    return descriptor


def publish(temporary: Path, path: Path) -> None:
    """Rename a file that is already durable to its final name, durably."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary.replace(path)
    sync_folder(path.parent)


def sync_file(path: Path) -> None:
    """Flush a file's content to the disk."""
    _sync(path, os.O_RDONLY)


def sync_folder(path: Path) -> None:
    """Flush a folder's names to the disk, so that a rename in it lasts."""
    _sync(path, os.O_RDONLY | getattr(os, 'O_DIRECTORY', 0))


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
