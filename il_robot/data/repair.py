"""Bring a dataset whose recorder was killed, or that lost files, back to a valid state.

Nothing is deleted but unfinished files; what does not belong to a committed episode is moved
to ``.il_robot/quarantine``.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from il_robot.data import keys, layout, stats, tables
from il_robot.data.catalog import totals
from il_robot.data.features import is_numeric
from il_robot.data.stats import Stats
from il_robot.errors import DatasetError

Row = dict[str, Any]


def repair(path: Path | str) -> list[str]:
    """Remove unfinished files, set aside orphans and damaged episodes, rebuild the totals.

    Returns:
        One line per thing done; empty where the dataset was in order.

    Raises:
        DatasetError: no dataset, a writer is at work, or damage in files that several
            episodes share (LeRobot's layout), which cannot be cut out safely.
    """
    path = Path(path)
    layout.read_info(path)
    lock = layout.lock(path)
    try:
        return repair_locked(path)
    except OSError as error:
        raise DatasetError(f'cannot repair {path}: {error}') from None
    finally:
        os.close(lock)


def repair_locked(path: Path) -> list[str]:
    """:func:`repair` for who holds the lock already."""
    info = layout.read_info(path)
    said = _remove_unfinished(path)
    rows, lost = _intact_rows(path, info)
    said += lost
    said += _quarantine_orphans(path, info, rows)
    said += _renumber(path, info, rows)
    said += _rebuild_tasks(path, info, rows)
    said += _rebuild_summary(path, info, rows)
    return said


def referenced_files(path: Path, info: Mapping[str, Any], row: Mapping[str, Any]) -> list[Path]:
    """The data file and the videos of an episode."""
    videos = [k for k, f in info['features'].items() if f['dtype'] == 'video']
    return [layout.data_file(path, info, row),
            *(layout.video_file(path, info, row, key) for key in videos)]


def orphans(path: Path, info: Mapping[str, Any], rows: list[Row]) -> list[Path]:
    """Files under ``data`` and ``videos`` that belong to no committed episode."""
    known = {file for row in rows for file in referenced_files(path, info, row)}
    found = [*(path / 'data').rglob('*'), *(path / 'videos').rglob('*')]
    return sorted(f for f in found if f.is_file() and f not in known)


def unfinished(path: Path) -> list[Path]:
    """Files of an episode that was never committed, and of interrupted replacements."""
    pending = [f for f in (path / layout.PENDING).glob('*') if f.is_file()]
    replaced = [f for folder in ('meta', 'data') for f in (path / folder).rglob('.*.tmp')]
    return sorted(pending + replaced)


def _remove_unfinished(path: Path) -> list[str]:
    files = unfinished(path)
    for file in files:
        file.unlink()
    shutil.rmtree(path / layout.PENDING, ignore_errors=True)
    return [f'removed {len(files)} file(s) of an episode that was not finished'] if files else []


def _intact_rows(path: Path, info: Mapping[str, Any]) -> tuple[list[Row], list[str]]:
    """Rows of all episodes whose files are whole; the others are set aside."""
    rows: list[Row] = []
    said: list[str] = []
    found: list[tuple[Path, list[Row]]] = []
    for file in tables.episode_files(path):
        try:
            found.append((file, tables.read_episode_file(file)))
        except DatasetError as error:
            _quarantine(path, file)
            said.append(f'set aside damaged {file.relative_to(path)} ({error})')
    shared = Counter(layout.data_file(path, info, row) for _, here in found for row in here)
    for file, here in found:
        damage = [(row, reason) for row in here if (reason := _damage(path, info, row, shared))]
        if not damage:
            rows += here
            continue
        row, reason = damage[0]
        if len(here) > 1 or shared[layout.data_file(path, info, row)] > 1:
            raise DatasetError(
                f'{path}: episode {row["episode_index"]}: {reason}. Its files hold other episodes '
                f'too, so nothing was changed; restore the file, or drop the episode with '
                f'LeRobot: lerobot-edit-dataset --operation.type delete_episodes'
            )
        _quarantine(path, file)  # first: without its row the episode is no longer committed
        for part in referenced_files(path, info, row):
            if part.exists():
                _quarantine(path, part)
        said.append(f'set aside damaged episode {row["episode_index"]} ({reason})')
    rows.sort(key=lambda row: int(row['episode_index']))
    return rows, said


def _damage(
    path: Path, info: Mapping[str, Any], row: Row, shared: Mapping[Path, int]
) -> str | None:
    """Why an episode cannot be used, or None; cheap (footers and sizes, no decoding)."""
    try:
        data, *videos = referenced_files(path, info, row)
        count = tables.open_parquet(data).metadata.num_rows
    except DatasetError as error:
        return str(error)
    if count < row['length'] or (shared[data] == 1 and count != row['length']):
        return f'{data.relative_to(path)} has {count} rows, its length says {row["length"]}'
    for video in videos:
        if not video.is_file() or not video.stat().st_size:
            return f'missing or empty {video.relative_to(path)}'
    return None


def _quarantine(path: Path, file: Path) -> None:
    target = path / layout.QUARANTINE / file.relative_to(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    number = 0
    final = target
    while final.exists():
        number += 1
        final = target.with_name(f'{target.name}.{number}')
    file.rename(final)
    layout.sync_folder(file.parent)


def _quarantine_orphans(path: Path, info: Mapping[str, Any], rows: list[Row]) -> list[str]:
    said = []
    for file in orphans(path, info, rows):
        _quarantine(path, file)
        said.append(f'set aside {file.relative_to(path)}, which belongs to no finished episode')
    return said


def _renumber(path: Path, info: Mapping[str, Any], rows: list[Row]) -> list[str]:
    """Close gaps in episode and row numbers; interrupted, the next repair finishes it."""
    said = []
    for index, (row, start) in enumerate(zip(rows, _starts(rows))):
        first = row.get('dataset_from_index', start)
        if row['episode_index'] == index and first == start:
            continue
        old = row['episode_index']
        _rewrite_numbers(path, info, row, index, start)
        said.append(f'renumbered episode {old} to {index}')
    return said


def _starts(rows: list[Row]) -> Iterator[int]:
    start = 0
    for row in rows:
        yield start
        start += row['length']


def _rewrite_numbers(
    path: Path, info: Mapping[str, Any], row: Row, index: int, start: int
) -> None:
    data = layout.data_file(path, info, row)
    features = {k: f for k, f in info['features'].items() if is_numeric(f)}
    table = tables.read_table(data, list(features))
    columns = {k: tables.to_numpy(table.column(k), f) for k, f in features.items()}
    columns[keys.EPISODE] = np.full(row['length'], index, dtype=np.int64)
    columns[keys.INDEX] = start + np.arange(row['length'], dtype=np.int64)
    layout.replace(data, lambda temporary: tables.write_rows(temporary, columns, features))
    file = path / layout.EPISODES_PATH.format(
        chunk_index=row['meta/episodes/chunk_index'], file_index=row['meta/episodes/file_index'])
    (full,) = tables.read_episode_file(file, stats=True)
    changed = {'episode_index': index, 'dataset_from_index': start,
               'dataset_to_index': start + row['length']}
    numbers = stats.table_stats({k: columns[k] for k in (keys.EPISODE, keys.INDEX)})
    full |= changed | stats.to_row(numbers)
    layout.replace(file, lambda temporary: tables.write_episode_row(temporary, full))
    row |= changed


def _rebuild_tasks(path: Path, info: Mapping[str, Any], rows: list[Row]) -> list[str]:
    """Write ``meta/tasks.parquet`` anew from the episodes where it is lost."""
    try:
        if not rows or tables.read_tasks(path):
            return []
    except DatasetError:
        _quarantine(path, path / layout.TASKS)
    tasks: dict[int, str] = {}
    for row in rows:
        table = tables.read_table(layout.data_file(path, info, row), [keys.EPISODE, keys.TASK])
        mask = table.column(keys.EPISODE).to_numpy() == row['episode_index']
        for task in np.unique(table.column(keys.TASK).to_numpy()[mask]):
            tasks[int(task)] = row['tasks'][0]
    tables.write_tasks(path, tasks)
    return [f'rebuilt {layout.TASKS} from {len(rows)} episodes']


def _rebuild_summary(path: Path, info: dict[str, Any], rows: list[Row]) -> list[str]:
    said = []
    frames = sum(row['length'] for row in rows)
    right = totals(len(rows), frames, len(tables.read_tasks(path)))
    if any(info.get(name) != value for name, value in right.items()):
        said.append(
            f'rebuilt totals: {info.get("total_episodes")} -> {len(rows)} episodes, '
            f'{info.get("total_frames")} -> {frames} rows')
        info |= right
        layout.write_json(path / layout.INFO, info)
    if rows and not _stats_current(path, frames):
        merged: Stats = {}
        for row in tables.read_episode_rows(path, stats=True):
            merged = stats.merge(merged, stats.from_row(row))
        if merged:
            layout.write_json(path / layout.STATS, stats.to_json(merged))
            said.append(f'rebuilt statistics from {len(rows)} episodes')
    return said


def _stats_current(path: Path, frames: int) -> bool:
    """Whether ``stats.json`` counts exactly the committed rows (up to the last row index)."""
    try:
        data = stats.from_json(layout.read_json(path / layout.STATS))
        index = data[keys.INDEX]
        return int(index['count'][0]) == frames and int(np.max(index['max'])) == frames - 1
    except (DatasetError, KeyError, ValueError, IndexError):
        return False
