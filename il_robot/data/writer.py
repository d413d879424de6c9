"""Recording to a LeRobotDataset v3.0: one durable unit per episode.

Use: ``with DatasetWriter.open(...) as writer: writer.begin(info); writer.add(step) ...;
writer.end(outcome)``. Images are encoded while they come; ``end`` returns at once and the
episode is committed in the background. At any instant at most one episode is not durable: the
open one, or the one just ended (``begin`` waits for it).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import TracebackType

import numpy as np

from il_robot.data import keys, layout
from il_robot.data.catalog import Catalog, load_catalog, new_info
from il_robot.data.features import Features, feature_differences, make_features
from il_robot.data.repair import repair_locked
from il_robot.data.rows import EpisodeRows
from il_robot.data.video import VideoEncoder
from il_robot.errors import DatasetError
from il_robot.spec import CameraSpec, RobotSpec, robot_spec_from_dict, spec_differences
from il_robot.types import EpisodeInfo, Outcome, Step


class DatasetWriter:
    """The only writer of one dataset; make it with :meth:`open`.

    What goes wrong in the background (a full disk) is raised as :class:`DatasetError` by the
    next :meth:`add`, :meth:`begin`, :meth:`flush` or :meth:`close`; the episode concerned is
    lost, those before it are intact, and the writer can go on.

    Attributes:
        path: The dataset's folder.
        repaired: What opening had to repair, one line each; empty after a clean shutdown.
    """

    def __init__(
        self, catalog: Catalog, spec: RobotSpec, object_names: Sequence[str],
        cameras: Sequence[CameraSpec], lock: int, repaired: Sequence[str],
    ) -> None:
        self.path = catalog.path
        self.repaired = tuple(repaired)
        self._catalog = catalog
        self._spec = spec
        self._object_names = tuple(object_names)
        self._cameras = tuple(cameras)
        self._lock: int | None = lock
        self._rows: EpisodeRows | None = None
        self._encoders: dict[str, VideoEncoder] = {}
        self._committing: Future[int] | None = None
        self._committer = ThreadPoolExecutor(1, thread_name_prefix='commit')

    @classmethod
    def open(
        cls,
        path: Path | str,
        spec: RobotSpec,
        object_names: Sequence[str] = (),
        cameras: Sequence[CameraSpec] = (),
    ) -> DatasetWriter:
        """Create a dataset, or open one to append to it, repairing it first if need be.

        Rows come at ``spec.rates.control``.

        Args:
            path: The dataset's folder; made if it does not exist.
            spec: The robot.
            object_names: Objects whose poses every observation holds.
            cameras: Cameras to record, with the size of their images; observations may hold
                others, which are not recorded.

        Raises:
            DatasetError: another writer is at work, the folder is something else, the disk
                refuses, or the dataset is of another robot or has other columns (both sides
                are printed).
        """
        path = Path(path)
        features = make_features(spec, object_names, cameras, spec.rates.control)
        existing = (path / layout.INFO).is_file()
        if not existing:
            _check_empty(path)
        lock = layout.lock(path)
        try:
            if existing:
                _check_same(path, spec, features)
                repaired = repair_locked(path)
            else:
                _create(path, spec, features)
                repaired = []
            (path / layout.PENDING).mkdir(parents=True, exist_ok=True)
            catalog = load_catalog(path)
        except OSError as error:
            os.close(lock)
            raise DatasetError(f'cannot write to {path}: {error.strerror}') from None
        except BaseException:
            os.close(lock)
            raise
        return cls(catalog, spec, object_names, cameras, lock, repaired)

    @property
    def n_episodes(self) -> int:
        """Episodes committed."""
        return self._catalog.episodes

    @property
    def n_frames(self) -> int:
        """Rows committed."""
        return self._catalog.frames

    @property
    def recording(self) -> bool:
        """Whether an episode is open."""
        return self._rows is not None

    @property
    def length(self) -> int:
        """Rows of the open episode."""
        return self._rows.length if self._rows else 0

    def begin(self, info: EpisodeInfo) -> None:
        """Open an episode; waits until the one before is committed.

        Raises:
            DatasetError: one is open already, or the one before could not be committed.
        """
        self._check_usable()
        if self._rows is not None:
            raise DatasetError('an episode is open already: end() or discard() it first')
        self.flush()
        self._encoders = {
            camera.name: VideoEncoder(
                self.path / layout.PENDING / f'{camera.name}.mp4',
                camera.height, camera.width, self._catalog.fps)
            for camera in self._cameras
        }
        self._rows = EpisodeRows(self._spec, self._object_names, info)

    def add(self, step: Step) -> None:
        """Append one row; everything is copied.

        Waits where the encoders are a second behind; no frame is ever dropped.

        Raises:
            DatasetError: no open episode; a step that does not fit (it is not added, the
                episode stays open); or an encoder failed (the episode is discarded).
        """
        rows = self._open_rows()
        for camera in self._cameras:
            self._check_image(camera, step)
        rows.add(step)
        try:
            for name, encoder in self._encoders.items():
                encoder.put(step.observation.images[name])
        except DatasetError as error:
            self.discard()
            raise DatasetError(f'the open episode was discarded: {error}; the '
                               f'{self.n_episodes} before it are intact') from None

    def end(self, outcome: Outcome | None = None) -> Future[int]:
        """Close the episode and commit it in the background.

        Args:
            outcome: How it ended; None keeps what :meth:`begin` was told.

        Returns:
            A future: the episode's index once it is durable, or the DatasetError.

        Raises:
            DatasetError: no open episode, or it has no row (it is discarded).
        """
        rows = self._open_rows()
        if not rows.length:
            self.discard()
            raise DatasetError('an episode needs at least one row; the empty one was discarded')
        if outcome is not None:
            rows.info = replace(rows.info, outcome=outcome)
        encoders, self._encoders, self._rows = self._encoders, {}, None
        for encoder in encoders.values():
            encoder.finish()
        self._committing = self._committer.submit(self._commit, rows, encoders)
        return self._committing

    def discard(self) -> None:
        """Throw the open episode away; without one, do nothing."""
        encoders, self._encoders, self._rows = self._encoders, {}, None
        for encoder in encoders.values():
            encoder.cancel()

    def flush(self) -> None:
        """Wait until every ended episode is durable.

        Raises:
            DatasetError: the last one could not be committed.
        """
        committing, self._committing = self._committing, None
        if committing is not None:
            committing.result()

    def close(self) -> None:
        """Commit what was ended, discard what is open, let the next writer in; idempotent.

        Raises:
            DatasetError: the last ended episode could not be committed.
        """
        if self._lock is None:
            return
        try:
            self.discard()
            self.flush()
        finally:
            self._committer.shutdown()
            shutil.rmtree(self.path / layout.PENDING, ignore_errors=True)
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> DatasetWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _commit(self, rows: EpisodeRows, encoders: dict[str, VideoEncoder]) -> int:
        try:
            videos = {keys.image_key(name): e.result() for name, e in encoders.items()}
        except DatasetError as error:
            for encoder in encoders.values():
                encoder.cancel()
            raise DatasetError(f'the episode was not saved: {error}; the '
                               f'{self.n_episodes} before it are intact') from None
        return self._catalog.commit(rows, videos)

    def _check_usable(self) -> None:
        if self._lock is None:
            raise DatasetError(f'the writer of {self.path} is closed')

    def _open_rows(self) -> EpisodeRows:
        self._check_usable()
        if self._rows is None:
            raise DatasetError('no episode is open: begin() one first')
        return self._rows

    def _check_image(self, camera: CameraSpec, step: Step) -> None:
        image = step.observation.images.get(camera.name)
        expected = (camera.height, camera.width, 3)
        if image is None or image.shape != expected or image.dtype != np.uint8:
            got = 'none' if image is None else f'{image.dtype} {image.shape}'
            raise DatasetError(
                f'camera {camera.name}: every step needs an image uint8 {expected}, got {got}')


def _check_empty(path: Path) -> None:
    """Refuse to write into a folder that holds something else."""
    if path.exists() and not path.is_dir():
        raise DatasetError(f'{path} is a file; a dataset is a folder')
    # What a recorder killed in its first instant leaves is no reason to refuse.
    own = {layout.WORK, 'meta', Path(layout.ROBOT).name}
    folders = [f for f in (path, path / 'meta') if f.is_dir()]
    others = [e.name for f in folders for e in f.iterdir() if e.name not in own]
    if others:
        raise DatasetError(
            f'{path} is not a dataset and not empty (it holds {others[0]} ...); nothing was '
            f'written. Give a new folder'
        )


def _create(path: Path, spec: RobotSpec, features: Features) -> None:
    layout.write_json(path / layout.ROBOT, spec.to_dict())
    layout.write_json(path / layout.INFO, new_info(spec.name, features, spec.rates.control))


def _check_same(path: Path, spec: RobotSpec, features: Features) -> None:
    """Refuse to append rows of another robot or with other columns.

    Raises:
        DatasetError: with one line per difference, the dataset's side first.
    """
    info = layout.read_info(path)
    lines = []
    if (path / layout.ROBOT).is_file():
        recorded = robot_spec_from_dict(layout.read_json(path / layout.ROBOT), str(path))
        lines += spec_differences(recorded, spec)
    lines += feature_differences(info['features'], features)
    if float(info['fps']) != spec.rates.control:
        lines.append(f'fps: {info["fps"]:g} | {spec.rates.control:g}')
    if lines:
        shown = '\n  '.join(lines)
        raise DatasetError(
            f'{path} is of another robot or has other columns; nothing was written.\n'
            f'  what: dataset | now\n  {shown}\nRecord to a new folder.'
        )
