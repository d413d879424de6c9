"""Reader of LeRobotDataset v3.0, ours or LeRobot's: every low-dimensional column in memory.

Images stay on disk; :meth:`Dataset.frames` decodes those of one episode.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from il_robot.data import keys, layout, tables, video
from il_robot.data.columns import read_columns
from il_robot.data.features import Features, is_image, object_names
from il_robot.errors import DatasetError, unknown
from il_robot.spec import RobotSpec, robot_spec_from_dict
from il_robot.types import Float32, Observation, Outcome, UInt8

Int64 = NDArray[np.int64]
Bool = NDArray[np.bool_]


@dataclass(frozen=True)
class VideoClip:
    """Where an episode lies in a video file: first frame at ``start`` [s]."""

    file: Path
    start: float


@dataclass(frozen=True)
class EpisodeRecord:
    """One committed episode.

    Attributes:
        index: Episode index in the dataset.
        start: First row; ``stop``: one past the last (rows of this Dataset).
        language: The instruction (LeRobot's task string).
        task: Registered task name, empty where the dataset does not say.
        outcome: Unknown where the dataset does not say.
        seed: Reset seed, or -1.
        round: DAgger round, 0 = demonstrations.
        checkpoint: Hash of the policy that drove, or empty.
        clips: Camera name to its video; empty for images kept in the table.
        discarded: Its rows ``[start, stop)``, counted from 0, of corrections that were taken
            back.
    """

    index: int
    start: int
    stop: int
    language: str
    task: str
    outcome: Outcome
    seed: int
    round: int
    checkpoint: str
    clips: Mapping[str, VideoClip]
    discarded: tuple[tuple[int, int], ...] = ()

    def __len__(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True, eq=False)
class Dataset:
    """All rows of a dataset, episode after episode.

    ``N`` rows, ``E`` episodes, ``D`` joints, ``n`` objects. A column the dataset lacks has the
    default that claims nothing: proposals NaN, source unknown (-1), round 0.

    Attributes:
        path: The dataset's folder.
        fps: Rows per second [Hz].
        features: As in ``meta/info.json``.
        spec: The robot it was recorded on, or None where the dataset does not say.
        episodes: The committed episodes in order.
        columns: Column name to ``(N,)`` or ``(N, size)`` values, all numeric columns.
    """

    path: Path
    fps: float
    features: Features
    spec: RobotSpec | None
    episodes: tuple[EpisodeRecord, ...]
    columns: Mapping[str, NDArray[Any]]

    def __len__(self) -> int:
        return self.episodes[-1].stop if self.episodes else 0

    def _column(self, key: str) -> NDArray[Any]:
        if key not in self.columns:
            raise DatasetError(unknown('column', key, self.columns, str(self.path)))
        return self.columns[key]

    def _proposal(self, key: str) -> Float32:
        if key in self.columns:
            return self.columns[key]
        return np.full_like(self.action, np.nan)

    @property
    def state(self) -> Float32:
        """``(N, D)`` joint positions [rad] and gripper widths [m]."""
        return self._column(keys.STATE)

    @property
    def action(self) -> Float32:
        """``(N, D)`` action executed [rad, m]."""
        return self._column(keys.ACTION)

    @cached_property
    def policy(self) -> Float32:
        """``(N, D)`` the policy's proposal, NaN where there was none."""
        return self._proposal(keys.PROPOSAL_POLICY)

    @cached_property
    def expert(self) -> Float32:
        """``(N, D)`` the expert's label, NaN where there was none."""
        return self._proposal(keys.PROPOSAL_EXPERT)

    @cached_property
    def objects(self) -> Float32:
        """``(N, n, 7)`` poses in ``base``, in the order of :attr:`object_names`."""
        names = self.object_names
        if not names:
            return np.zeros((len(self), 0, 7), dtype=np.float32)
        return self._column(keys.OBJECTS).reshape(len(self), len(names), 7)

    @cached_property
    def object_names(self) -> tuple[str, ...]:
        """The objects whose poses are known."""
        return object_names(self.features)

    @cached_property
    def source(self) -> Int64:
        """``(N, arms)`` who drove: ``types.Source``, or -1 where the dataset does not say."""
        arms = len(self.spec.arms) if self.spec else 1
        if keys.SOURCE not in self.columns:
            return np.full((len(self), arms), keys.UNKNOWN_SOURCE, dtype=np.int64)
        return self.columns[keys.SOURCE].reshape(len(self), -1)

    @cached_property
    def intervention(self) -> Bool:
        """``(N,)`` an expert had taken over from a running policy."""
        return self._default(keys.INTERVENTION, np.bool_)

    @cached_property
    def discarded(self) -> Bool:
        """``(N,)`` rows of corrections that were taken back: they teach nothing."""
        mask = np.zeros(len(self), dtype=bool)
        for episode in self.episodes:
            for start, stop in episode.discarded:
                mask[episode.start + start:episode.start + stop] = True
        return mask

    @cached_property
    def success(self) -> Bool:
        """``(N,)`` the task was solved in the state reached."""
        return self._default(keys.SUCCESS, np.bool_)

    @cached_property
    def done(self) -> Bool:
        """``(N,)`` last row of its episode."""
        return self._default(keys.DONE, np.bool_)

    @cached_property
    def reward(self) -> Float32:
        """``(N,)`` reward of the transition out of the row."""
        return self._default(keys.REWARD, np.float32)

    @property
    def weight(self) -> Float32 | None:
        """``(N,)`` how much each row counts in training, where an algorithm has said so."""
        return self.columns.get(keys.WEIGHT)

    def _default(self, key: str, dtype: type[np.generic]) -> NDArray[Any]:
        return self.columns[key] if key in self.columns else np.zeros(len(self), dtype=dtype)

    def first_episodes(self, count: int) -> Dataset:
        """The first ``count`` episodes alone."""
        episodes = self.episodes[:count]
        rows = episodes[-1].stop if episodes else 0
        return replace(self, episodes=episodes,
                       columns={key: values[:rows] for key, values in self.columns.items()})

    @cached_property
    def starts(self) -> Int64:
        """``(E,)`` first row of each episode."""
        return np.array([e.start for e in self.episodes], dtype=np.int64)

    @cached_property
    def stops(self) -> Int64:
        """``(E,)`` one past the last row of each episode."""
        return np.array([e.stop for e in self.episodes], dtype=np.int64)

    @cached_property
    def episode_of_row(self) -> Int64:
        """``(N,)`` position in :attr:`episodes` of each row's episode."""
        return np.repeat(np.arange(len(self.episodes)), self.stops - self.starts)

    @cached_property
    def cameras(self) -> tuple[str, ...]:
        """Names of the cameras recorded."""
        return tuple(keys.camera_name(k) for k, f in self.features.items() if is_image(f))

    def observation(self, row: int, cameras: Sequence[str] = ()) -> Observation:
        """What was seen at a row, bit for bit as it was recorded (images: as they decode).

        Args:
            row: Row of this dataset.
            cameras: Cameras to decode; none by default, since that takes milliseconds.
        """
        episode = int(self.episode_of_row[row])
        frame = int(row - self.episodes[episode].start)
        images = {c: next(self.frames(episode, c, frame, frame + 1)) for c in cameras}
        objects = dict(zip(self.object_names, self.objects[row]))
        return Observation(float(self.columns[keys.TIMESTAMP][row]), self.state[row], objects,
                           images)

    def frames(
        self, episode: int, camera: str, start: int = 0, stop: int | None = None
    ) -> Iterator[UInt8]:
        """Decode frames ``[start, stop)`` of one episode, one ``(H, W, 3)`` RGB at a time.

        Raises:
            DatasetError: unknown camera, or a missing, damaged or too short video.
        """
        record = self.episodes[episode]
        stop = len(record) if stop is None else stop
        if camera not in self.cameras:
            raise DatasetError(unknown('camera', camera, self.cameras, str(self.path)))
        if camera in record.clips:
            clip = record.clips[camera]
            return video.decode(clip.file, clip.start, self.fps, start, stop)
        return video.decode_stills(self._stills(record, camera), start, stop)

    def _stills(self, record: EpisodeRecord, camera: str) -> list[bytes]:
        """Encoded pictures of an episode whose camera has dtype ``image`` (bytes in the table)."""
        key = next(k for k in self.features if keys.camera_name(k) == camera)
        row = next(r for r in tables.read_episode_rows(self.path)
                   if r['episode_index'] == record.index)
        file = layout.data_file(self.path, layout.read_info(self.path), row)
        table = tables.read_table(file, [key, keys.EPISODE])
        mask = table.column(keys.EPISODE).to_numpy() == record.index
        return [cell['bytes'] for cell in table.column(key).filter(mask).to_pylist()]

    @cached_property
    def hash(self) -> str:
        """16 hex digits over columns, episodes and video sizes; the same for equal content.

        Neither the folder nor how episodes are spread over data files counts. Videos enter
        with their size only, since hashing gigabytes would make every training wait.
        """
        digest = hashlib.sha256()
        episodes = [
            [len(e), e.language, e.task, e.outcome.value, e.seed, e.round, e.checkpoint,
             sorted((c, clip.file.stat().st_size) for c, clip in e.clips.items()),
             *([e.discarded] if e.discarded else [])]  # as before there were any
            for e in self.episodes
        ]
        digest.update(json.dumps([self.fps, episodes], sort_keys=True).encode())
        for key in sorted(self.columns):
            array = self.columns[key]
            digest.update(f'{key} {array.dtype.str} {array.shape}'.encode())
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()[:16]


def open_dataset(path: Path | str) -> Dataset:
    """Read a LeRobotDataset v3.0.

    Only committed episodes are read (those in ``meta/episodes``), so a dataset that is being
    recorded, or whose recorder was killed, opens too.

    Raises:
        DatasetError: no dataset, another version, no episode yet, or damaged files.
    """
    path = Path(path)
    info = layout.read_info(path)
    rows = tables.read_episode_rows(path)
    if not rows:
        raise DatasetError(f'{path} has no finished episode yet')
    tasks = tables.read_tasks(path)
    spec = None
    if (path / layout.ROBOT).is_file():
        spec = robot_spec_from_dict(layout.read_json(path / layout.ROBOT), str(path))
    columns = read_columns(path, info, rows)
    stops = np.cumsum([row['length'] for row in rows])
    episodes = tuple(
        _record(path, info, row, int(stop), tasks, columns) for row, stop in zip(rows, stops)
    )
    return Dataset(path, float(info['fps']), info['features'], spec, episodes, columns)


def _record(
    path: Path, info: Mapping[str, Any], row: Mapping[str, Any], stop: int,
    tasks: Mapping[int, str], columns: Mapping[str, NDArray[Any]],
) -> EpisodeRecord:
    start = stop - row['length']
    language = (row.get('tasks') or [''])[0]
    if not language and keys.TASK in columns:
        language = tasks.get(int(columns[keys.TASK][start]), '')
    clips = {
        keys.camera_name(key): VideoClip(
            layout.video_file(path, info, row, key), float(row[f'videos/{key}/from_timestamp']))
        for key, feature in info['features'].items() if feature['dtype'] == 'video'
    }
    return EpisodeRecord(
        index=int(row['episode_index']), start=start, stop=stop, language=language,
        task=row.get('task_name') or '', outcome=Outcome(row.get('outcome') or 'unknown'),
        seed=_or(row.get('seed'), -1), round=_or(row.get('round'), 0),
        checkpoint=row.get('checkpoint') or '', clips=clips,
        discarded=_spans(row.get('discarded') or '', int(row['length'])),
    )


def _spans(text: str, length: int) -> tuple[tuple[int, int], ...]:
    """``12:34 50:60`` as pairs.

    Raises:
        DatasetError: something else, or beyond the episode's length.
    """
    try:
        spans = tuple((int(a), int(b)) for a, _, b in (s.partition(':') for s in text.split()))
    except ValueError:
        spans = ((0, length + 1),)
    if any(not 0 <= start < stop <= length for start, stop in spans):
        raise DatasetError(f'meta/episodes: discarded {text!r} is no spans of {length} rows')
    return spans


def _or(value: int | None, default: int) -> int:
    return default if value is None else int(value)
