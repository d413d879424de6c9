"""The state of a dataset being written, and the commit of one episode to it.

One episode is one data file, one video per camera and one row file in ``meta/episodes``. All
are written under ``.il_robot/pending`` and made durable there; then they are renamed, the row
file last: **that rename is the commit**. ``info.json`` and ``stats.json`` follow; they only
sum up what the row files say, and :mod:`il_robot.data.repair` rebuilds them from those.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from il_robot.data import layout, stats, tables
from il_robot.data.features import Features
from il_robot.data.rows import EpisodeRows
from il_robot.data.stats import Stats
from il_robot.data.video import EncodedVideo, count_frames
from il_robot.errors import DatasetError


@dataclass
class Catalog:
    """What a writer must know of the episodes already committed.

    Attributes:
        path: The dataset's folder.
        info: ``meta/info.json``.
        stats: ``meta/stats.json``.
        tasks: Task index to instruction.
        episodes: Episodes committed.
        frames: Rows committed.
        next_file: Number of the next file of every kind; larger than all that exist.
    """

    path: Path
    info: dict[str, Any]
    stats: Stats
    tasks: dict[int, str]
    episodes: int = 0
    frames: int = 0
    next_file: int = 0

    @property
    def features(self) -> Features:
        """The columns, in order."""
        features: Features = self.info['features']
        return features

    @property
    def fps(self) -> float:
        """Rows per second [Hz]."""
        return float(self.info['fps'])

    def commit(self, rows: EpisodeRows, videos: Mapping[str, EncodedVideo]) -> int:
        """Make one finished episode part of the dataset, durably.

        Args:
            rows: At least one row.
            videos: Image column to its file, in the pending folder.

        Returns:
            The episode's index.

        Raises:
            DatasetError: a video misses frames, or the disk refuses (full, read-only); the
                dataset is then as before, without this episode.
        """
        pending = self.path / layout.PENDING
        moves: list[tuple[Path, Path]] = []
        try:
            task_index = self._task_index(rows.info.language)
            columns = rows.columns(self.episodes, self.frames, task_index, self.fps)
            episode_stats = stats.table_stats(columns)
            for key, video in videos.items():
                _check_video(video, rows.length)
                episode_stats[key] = video.stats
                moves.append((video.file, self._file(layout.VIDEO_PATH, video_key=key)))
            data, row_file = pending / 'data.parquet', pending / 'episode.parquet'
            moves += [(data, self._file(layout.DATA_PATH)),
                      (row_file, self._file(layout.EPISODES_PATH))]
            tables.write_rows(data, columns, self.features)
            tables.write_episode_row(row_file, self._row(rows, videos, episode_stats))
            for temporary, _ in moves:
                layout.sync_file(temporary)
            for temporary, final in moves:
                layout.publish(temporary, final)
        except (OSError, DatasetError) as error:
            for temporary, final in moves:
                temporary.unlink(missing_ok=True)
                final.unlink(missing_ok=True)
            raise DatasetError(
                f'episode {self.episodes} was not saved to {self.path}: {error}; the '
                f'{self.episodes} before it are intact'
            ) from None
        index = self.episodes
        self.episodes += 1
        self.frames += rows.length
        self.next_file += 1
        self.stats = stats.merge(self.stats, episode_stats)
        self.write_summary()
        return index

    def write_summary(self) -> None:
        """Replace ``info.json`` and ``stats.json`` by what is committed.

        Raises:
            DatasetError: the disk refuses; the episodes are safe, the next open repairs this.
        """
        self.info |= totals(self.episodes, self.frames, len(self.tasks))
        try:
            layout.write_json(self.path / layout.STATS, stats.to_json(self.stats))
            layout.write_json(self.path / layout.INFO, self.info)
        except OSError as error:
            raise DatasetError(
                f'cannot update the totals of {self.path}: {error.strerror}; its '
                f'{self.episodes} episodes are intact, run: il_robot dataset repair'
            ) from None

    def _file(self, template: str, **names: str) -> Path:
        chunk, number = layout.file_number(self.next_file, self.info['chunks_size'])
        return self.path / template.format(chunk_index=chunk, file_index=number, **names)

    def _task_index(self, language: str) -> int:
        for index, text in self.tasks.items():
            if text == language:
                return index
        index = max(self.tasks, default=-1) + 1
        tables.write_tasks(self.path, {**self.tasks, index: language})
        self.tasks[index] = language
        return index

    def _row(
        self, rows: EpisodeRows, videos: Mapping[str, EncodedVideo], episode_stats: Stats
    ) -> dict[str, Any]:
        chunk, number = layout.file_number(self.next_file, self.info['chunks_size'])
        info = rows.info
        row: dict[str, Any] = {
            'episode_index': self.episodes, 'tasks': [info.language], 'length': rows.length,
            'data/chunk_index': chunk, 'data/file_index': number,
            'dataset_from_index': self.frames, 'dataset_to_index': self.frames + rows.length,
        }
        for key in videos:
            row |= {
                f'videos/{key}/chunk_index': chunk, f'videos/{key}/file_index': number,
                f'videos/{key}/from_timestamp': 0.0,
                f'videos/{key}/to_timestamp': rows.length / self.fps,
            }
        return row | {
            'meta/episodes/chunk_index': chunk, 'meta/episodes/file_index': number,
            'task_name': info.task, 'outcome': info.outcome.value, 'seed': info.seed,
            'round': info.round, 'checkpoint': info.checkpoint,
            'discarded': ' '.join(f'{start}:{stop}' for start, stop in info.discarded),
            **stats.to_row(episode_stats),
        }


def _check_video(video: EncodedVideo, length: int) -> None:
    frames = count_frames(video.file)
    if not frames == video.frames == length:
        raise DatasetError(f'{video.file.name} holds {frames} of {length} frames')


def totals(episodes: int, frames: int, tasks: int) -> dict[str, Any]:
    """The entries of ``info.json`` that change with every episode."""
    return {'total_episodes': episodes, 'total_frames': frames, 'total_tasks': tasks,
            'splits': {'train': f'0:{episodes}'} if episodes else {}}


def new_info(robot: str, features: Features, fps: float) -> dict[str, Any]:
    """``info.json`` of an empty dataset."""
    video = any(f['dtype'] == 'video' for f in features.values())
    return {
        'codebase_version': layout.VERSION, 'robot_type': robot, **totals(0, 0, 0),
        'chunks_size': layout.CHUNKS_SIZE, 'data_files_size_in_mb': layout.DATA_FILES_MB,
        'video_files_size_in_mb': layout.VIDEO_FILES_MB,
        'fps': int(fps) if float(fps).is_integer() else fps,
        'data_path': layout.DATA_PATH, 'video_path': layout.VIDEO_PATH if video else None,
        'features': features,
    }


def load_catalog(path: Path) -> Catalog:
    """The catalog of a dataset that needs no repair.

    Raises:
        DatasetError: damaged files, or a layout this does not append to.
    """
    info = layout.read_info(path)
    rows = tables.read_episode_rows(path)
    for key, ours in (('data_path', layout.DATA_PATH), ('video_path', layout.VIDEO_PATH)):
        if info.get(key) not in (ours, None):
            raise DatasetError(f'{path}: {key} {info[key]!r} is not {ours!r}; cannot append')
    merged = stats.from_json(layout.read_json(path / layout.STATS)) if rows else {}
    return Catalog(
        path, info, merged, tables.read_tasks(path), len(rows),
        sum(row['length'] for row in rows), next_file(rows, info.get('chunks_size', 1000)),
    )


def next_file(rows: Sequence[Mapping[str, Any]], chunks_size: int) -> int:
    """One more than the largest file number any episode's row names, of any kind."""
    return 1 + max((
        int(row[cell]) * chunks_size + int(row[cell.replace('chunk_index', 'file_index')])
        for row in rows for cell in row
        if cell.endswith('/chunk_index') and row[cell] is not None
    ), default=-1)
