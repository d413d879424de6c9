"""Check every invariant of a dataset on disk; what fails is named, nothing is changed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from il_robot.data import keys, layout, stats, tables, video
from il_robot.data.catalog import totals
from il_robot.data.dataset import open_dataset
from il_robot.data.features import is_numeric
from il_robot.data.repair import orphans, unfinished
from il_robot.errors import DatasetError, IlRobotError
from il_robot.spec import RobotSpec, robot_spec_from_dict

Row = dict[str, Any]
Columns = dict[str, NDArray[Any]]

#: Share of a joint's range by which a measured position may lie beyond its limit: a real joint
#: overshoots, and an encoder has an offset. Commands get the float32 rounding only.
STATE_MARGIN, ACTION_MARGIN = 0.02, 1e-6
TIME_TOLERANCE = 1e-4  # [s], LeRobot's own
STATS_TOLERANCE = 1e-4  # relative to the column's range


@dataclass
class Check:
    """One invariant: its name, what it says, and every place where it does not hold."""

    name: str
    meaning: str
    problems: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether it holds."""
        return not self.problems


@dataclass(frozen=True)
class Report:
    """Result of :func:`verify`.

    Attributes:
        path: The dataset's folder.
        checks: All checks, in the order they were made.
        hash: The dataset's hash, or empty where it cannot be read.
    """

    path: Path
    checks: tuple[Check, ...]
    hash: str

    @property
    def ok(self) -> bool:
        """Whether every check holds."""
        return all(check.ok for check in self.checks)

    def failed(self) -> list[str]:
        """``name: problem`` of everything that does not hold."""
        return [f'{check.name}: {p}' for check in self.checks for p in check.problems]


_MEANINGS = {
    'info': 'meta/info.json and meta/robot.json are readable',
    'episodes': 'meta/episodes is readable, numbered 0, 1, 2 ... without gap',
    'totals': 'episodes, rows, tasks and splits add up',
    'files': 'every file an episode names exists and can be opened',
    'orphans': 'no file without an episode, nothing unfinished',
    'columns': 'the data files have the columns of info.json',
    'rows': 'length, frame_index, index, timestamp and done are continuous',
    'tasks': 'every task index has its instruction',
    'finite': 'no NaN or infinity, proposals NaN as a whole',
    'limits': 'states and actions are inside the joint limits',
    'videos': 'every video has one frame per row, and each decodes',
    'statistics': 'meta/stats.json describes these rows',
}


def verify(path: Path | str, *, decode: bool = True) -> Report:
    """Check a dataset.

    Args:
        path: The dataset's folder.
        decode: Decode every video frame (slow: milliseconds each); else count them only.

    Raises:
        DatasetError: there is no dataset at all.
    """
    path = Path(path)
    checks = {name: Check(name, meaning) for name, meaning in _MEANINGS.items()}
    info = layout.read_info(path)
    spec = _check_robot(path, checks['info'])
    rows = _check_episodes(path, checks['episodes'])
    tasks = _check_totals(path, info, rows, checks)
    checks['orphans'].problems += [
        f'{f.relative_to(path)} belongs to no episode' for f in orphans(path, info, rows)]
    checks['orphans'].problems += [
        f'{f.relative_to(path)} is unfinished' for f in unfinished(path)]
    merged: stats.Stats = {}
    for row, columns in _episodes(path, info, rows, checks):
        _check_rows(info, row, columns, checks['rows'])
        _check_tasks(tasks, row, columns, checks['tasks'])
        _check_finite(info, row, columns, checks['finite'])
        if spec is not None:
            _check_limits(spec, row, columns, checks['limits'])
        finite = {k: c for k, c in columns.items() if np.isfinite(c).all()}
        merged = stats.merge(merged, stats.table_stats(finite))
    for row in rows:
        _check_videos(path, info, row, decode, checks)
    _check_stats(path, info, merged, checks['statistics'])
    try:
        digest = open_dataset(path).hash if rows else ''
    except (IlRobotError, OSError):
        digest = ''
    return Report(path, tuple(checks.values()), digest)


def _check_robot(path: Path, check: Check) -> RobotSpec | None:
    if not (path / layout.ROBOT).is_file():
        return None  # LeRobot's own datasets have none
    try:
        return robot_spec_from_dict(layout.read_json(path / layout.ROBOT), layout.ROBOT)
    except IlRobotError as error:
        check.problems.append(str(error))
        return None


def _check_episodes(path: Path, check: Check) -> list[Row]:
    rows: list[Row] = []
    for file in tables.episode_files(path):
        try:
            rows += tables.read_episode_file(file)
        except DatasetError as error:
            check.problems.append(str(error))
    rows.sort(key=lambda row: int(row['episode_index']))
    start = 0
    for index, row in enumerate(rows):
        if row['episode_index'] != index:
            check.problems.append(f'episode {index} is missing, found {row["episode_index"]}')
            break
        span = (row.get('dataset_from_index'), row.get('dataset_to_index'))
        if row['length'] < 1 or span not in ((start, start + row['length']), (None, None)):
            check.problems.append(
                f'episode {index}: rows {span}, expected {(start, start + row["length"])}')
        start += row['length']
    return rows


def _check_totals(
    path: Path, info: Mapping[str, Any], rows: list[Row], checks: Mapping[str, Check]
) -> dict[int, str]:
    """Compare the totals; returns the tasks, none where their file is damaged."""
    try:
        tasks = tables.read_tasks(path)
    except DatasetError as error:
        checks['tasks'].problems.append(str(error))
        return {}
    right = totals(len(rows), sum(row['length'] for row in rows), len(tasks))
    checks['totals'].problems += [
        f'{name} is {info.get(name)!r}, counted {value!r}'
        for name, value in right.items() if info.get(name) != value]
    return tasks


def _episodes(
    path: Path, info: Mapping[str, Any], rows: list[Row], checks: Mapping[str, Check]
) -> Iterator[tuple[Row, Columns]]:
    """Every episode whose data can be read, with its numeric columns by row."""
    features = {k: f for k, f in info['features'].items() if is_numeric(f)}
    last: tuple[Path, Columns] | None = None
    for row in rows:
        file = layout.data_file(path, info, row)
        if last is None or last[0] != file:
            where = f'episode {row["episode_index"]}'
            try:
                schema = tables.open_parquet(file).schema_arrow
            except DatasetError as error:
                checks['files'].problems.append(f'{where}: {error}')
                continue
            wrong = tables.type_problems(schema, features)
            checks['columns'].problems += [f'{where}: {problem}' for problem in wrong]
            if wrong:
                continue
            try:
                table = tables.read_table(file, list(features))
                columns = {k: tables.to_numpy(table.column(k), f) for k, f in features.items()}
            except DatasetError as error:
                checks['files'].problems.append(f'{where}: {error}')
                continue
            last = (file, columns)
        mine = last[1][keys.EPISODE] == row['episode_index']
        if mine.any():
            yield row, {k: column[mine] for k, column in last[1].items()}
        else:
            checks['rows'].problems.append(f'episode {row["episode_index"]} has no row in {file}')


def _check_rows(
    info: Mapping[str, Any], row: Row, columns: Columns, check: Check
) -> None:
    n = row['length']
    where = f'episode {row["episode_index"]}'
    if len(columns[keys.EPISODE]) != n:
        check.problems.append(f'{where}: {len(columns[keys.EPISODE])} rows, length says {n}')
        return
    frame = np.arange(n)
    start = row.get('dataset_from_index', columns[keys.INDEX][0])
    expected: list[tuple[str, NDArray[Any], float]] = [
        (keys.FRAME, frame, 0), (keys.INDEX, start + frame, 0),
        (keys.TIMESTAMP, frame / info['fps'], TIME_TOLERANCE),
    ]
    if keys.DONE in columns:
        expected.append((keys.DONE, frame == n - 1, 0))
    for key, right, tolerance in expected:
        wrong = np.flatnonzero(np.abs(columns[key].astype(float) - right) > tolerance)
        if len(wrong):
            check.problems.append(
                f'{where}: {key} is {columns[key][wrong[0]]} at row {wrong[0]}, '
                f'expected {right[wrong[0]]}')


def _check_tasks(
    tasks: Mapping[int, str], row: Row, columns: Columns, check: Check
) -> None:
    said = set(row.get('tasks') or [])
    for index in np.unique(columns[keys.TASK]):
        if int(index) not in tasks:
            check.problems.append(f'episode {row["episode_index"]}: no task {index}')
        elif said and tasks[int(index)] not in said:
            check.problems.append(
                f'episode {row["episode_index"]}: rows say {tasks[int(index)]!r}, '
                f'meta/episodes says {sorted(said)}')


def _check_finite(info: Mapping[str, Any], row: Row, columns: Columns, check: Check) -> None:
    for key, feature in info['features'].items():
        if key not in columns or not feature['dtype'].startswith('float'):
            continue
        finite = np.isfinite(columns[key]).reshape(len(columns[key]), -1)
        good = finite.all(axis=1)
        if key in keys.MAY_BE_NAN:
            good |= ~finite.any(axis=1)
        if not good.all():
            check.problems.append(
                f'episode {row["episode_index"]}: {key} is not finite at row '
                f'{np.flatnonzero(~good)[0]} ({(~good).sum()} rows)')


def _check_limits(spec: RobotSpec, row: Row, columns: Columns, check: Check) -> None:
    span = spec.upper - spec.lower
    for key, margin in (
        (keys.STATE, STATE_MARGIN), (keys.ACTION, ACTION_MARGIN),
        (keys.PROPOSAL_EXPERT, ACTION_MARGIN),
    ):
        values = columns.get(key)
        if values is None or values.shape[1:] != (spec.dim,):
            continue
        outside = (values < spec.lower - margin * span) | (values > spec.upper + margin * span)
        for joint in np.flatnonzero(outside.any(axis=0)):
            at = np.flatnonzero(outside[:, joint])[0]
            check.problems.append(
                f'episode {row["episode_index"]}: {key} of {spec.joint_names[joint]} is '
                f'{values[at, joint]:.4g} at row {at}, limits '
                f'[{spec.lower[joint]:g}, {spec.upper[joint]:g}]')


def _check_videos(
    path: Path, info: Mapping[str, Any], row: Row, decode: bool, checks: Mapping[str, Check]
) -> None:
    for key, feature in info['features'].items():
        if feature['dtype'] != 'video':
            continue
        where = f'episode {row["episode_index"]}, {keys.camera_name(key)}'
        try:
            file = layout.video_file(path, info, row, key)
            if not file.is_file():
                checks['files'].problems.append(f'{where}: missing {file.relative_to(path)}')
                continue
            start, fps = float(row[f'videos/{key}/from_timestamp']), float(info['fps'])
            needed = math.floor(start * fps + 0.5) + row['length']
            if (frames := video.count_frames(file)) < needed:
                raise DatasetError(f'{file.name} has {frames} frames, needs {needed}')
            shape = tuple(feature['shape'])
            last = row['length'] if decode else 1
            for image in video.decode(file, start, fps, 0, last):
                if image.shape != shape:
                    raise DatasetError(f'images are {image.shape}, info.json says {shape}')
        except DatasetError as error:
            checks['videos'].problems.append(f'{where}: {error}')


def _check_stats(path: Path, info: Mapping[str, Any], counted: stats.Stats, check: Check) -> None:
    if not counted:
        return
    try:
        told = stats.from_json(layout.read_json(path / layout.STATS))
    except DatasetError as error:
        check.problems.append(str(error))
        return
    check.problems += [f'{key} has none' for key, f in info['features'].items()
                       if f['dtype'] == 'video' and key not in told]
    for key, right in counted.items():
        if key not in told:
            check.problems.append(f'{key} has none')
            continue
        scale = np.maximum(right['max'] - right['min'], 1.0)
        for name in ('min', 'max', 'mean', 'std', 'count'):
            value = told[key].get(name)
            if value is None or value.shape != right[name].shape or (
                np.abs(value - right[name]) > STATS_TOLERANCE * scale
            ).any():
                check.problems.append(f'{key}: {name} is {value}, counted {right[name]}')
