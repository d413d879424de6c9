"""The parquet tables of a dataset, to and from numpy: data rows, episode rows, tasks."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from il_robot.data import keys, layout
from il_robot.data.features import Feature, is_numeric
from il_robot.errors import DatasetError


def open_parquet(path: Path) -> pq.ParquetFile:
    """A parquet file with its footer read.

    Raises:
        DatasetError: missing, or without a valid footer.
    """
    try:
        return pq.ParquetFile(path)
    except FileNotFoundError:
        raise DatasetError(f'missing file {path}') from None
    except (pa.ArrowException, OSError) as error:
        raise DatasetError(f'{path} is damaged: {str(error).splitlines()[0]}') from None


def read_table(path: Path, columns: Sequence[str]) -> pa.Table:
    """The named columns of one file.

    Raises:
        DatasetError: missing file, missing column, or damaged.
    """
    return _read(open_parquet(path), path, columns)


def _read(file: pq.ParquetFile, path: Path, columns: Sequence[str]) -> pa.Table:
    names = set(file.schema_arrow.names)  # made anew by every access
    absent = [c for c in columns if c not in names]
    if absent:
        raise DatasetError(f'{path} lacks the column(s) {", ".join(absent)}')
    try:
        return file.read(columns=list(columns))
    except (pa.ArrowException, OSError) as error:
        raise DatasetError(f'{path} is damaged: {str(error).splitlines()[0]}') from None


def to_numpy(column: pa.ChunkedArray, feature: Feature) -> NDArray[Any]:
    """One column as ``(n,)`` for shape [1], else ``(n, *shape)``, in the feature's dtype.

    Raises:
        DatasetError: the values do not fill that shape.
    """
    shape = tuple(feature['shape'])
    rows = len(column)
    values = column.combine_chunks()
    while pa.types.is_list(values.type) or pa.types.is_large_list(values.type) \
            or pa.types.is_fixed_size_list(values.type):
        values = values.flatten()
    array: NDArray[Any] = values.to_numpy(zero_copy_only=False)
    array = array.astype(feature['dtype'], copy=False)
    try:
        return array.reshape(rows if shape in ((1,), ()) else (rows, *shape))
    except ValueError:
        raise DatasetError(
            f'a column of {rows} rows holds {array.size} values, shape {list(shape)} was said'
        ) from None


def type_problems(schema: pa.Schema, features: Mapping[str, Feature]) -> list[str]:
    """One line per feature that a file lacks or stores in another dtype."""
    lines = []
    for key, feature in features.items():
        if key not in schema.names:
            lines.append(f'column {key} is missing')
            continue
        stored = schema.field(key).type
        while hasattr(stored, 'value_type'):
            stored = stored.value_type
        if stored != pa.from_numpy_dtype(np.dtype(feature['dtype'])):
            lines.append(f'column {key} is {stored}, info.json says {feature["dtype"]}')
    return lines


def to_arrow(array: NDArray[Any]) -> pa.Array:
    """``(n,)`` or ``(n, size)`` values as a scalar or fixed-size-list column."""
    flat = pa.array(np.ascontiguousarray(array).reshape(-1))
    return flat if array.ndim == 1 else pa.FixedSizeListArray.from_arrays(flat, array.shape[1])


def write_rows(
    file: Path, columns: Mapping[str, NDArray[Any]], features: Mapping[str, Feature]
) -> None:
    """Write the rows of one episode, columns in the order of ``features``; not yet durable."""
    table = pa.table({k: to_arrow(columns[k]) for k, f in features.items() if is_numeric(f)})
    # No dictionary: measured values hardly repeat. Page statistics let LeRobot pick episodes.
    pq.write_table(table, file, compression='snappy', use_dictionary=False)


def write_episode_row(file: Path, row: Mapping[str, Any]) -> None:
    """Write one row of ``meta/episodes`` as a file of its own; not yet durable."""
    # 200 columns of one value: what parquet keeps per column would be two thirds of the file.
    pq.write_table(pa.table({k: [v] for k, v in row.items()}), file, compression='snappy',
                   use_dictionary=False, write_statistics=False, store_schema=False)


def read_episode_rows(path: Path, *, stats: bool = False) -> list[dict[str, Any]]:
    """All rows of ``meta/episodes``, by episode index.

    Args:
        path: The dataset's folder.
        stats: Also read the ``stats/...`` columns.

    Raises:
        DatasetError: a damaged file, or an index twice.
    """
    rows: list[dict[str, Any]] = []
    for file in episode_files(path):
        rows += read_episode_file(file, stats=stats)
    rows.sort(key=lambda row: int(row['episode_index']))
    indices = [row['episode_index'] for row in rows]
    if len(set(indices)) != len(indices):
        twice = sorted({i for i in indices if indices.count(i) > 1})
        raise DatasetError(f'{path}: episode(s) {twice} stand twice in meta/episodes')
    return rows


def read_episode_file(file: Path, *, stats: bool = False) -> list[dict[str, Any]]:
    """The rows of one file of ``meta/episodes``.

    Raises:
        DatasetError: damaged, or without the columns every episode needs.
    """
    opened = open_parquet(file)
    names = opened.schema_arrow.names
    columns = [n for n in names if stats or not n.startswith('stats/')]
    needed = {'episode_index', 'length', 'data/chunk_index', 'data/file_index'} - set(names)
    if needed:
        raise DatasetError(f'{file} lacks the column(s) {", ".join(sorted(needed))}')
    rows: list[dict[str, Any]] = _read(opened, file, columns).to_pylist()
    return rows


def episode_files(path: Path) -> list[Path]:
    """The files of ``meta/episodes``, in order."""
    return sorted((path / 'meta' / 'episodes').glob('*/*.parquet'))


def read_tasks(path: Path) -> dict[int, str]:
    """``meta/tasks.parquet``: task index to instruction; empty where there is no file yet.

    Raises:
        DatasetError: damaged, or without a text column.
    """
    file = path / layout.TASKS
    if not file.is_file():
        return {}
    opened = open_parquet(file)
    table = _read(opened, file, opened.schema_arrow.names)
    text = [f.name for f in table.schema
            if pa.types.is_string(f.type) or pa.types.is_large_string(f.type)]
    if keys.TASK not in table.column_names or len(text) != 1:
        raise DatasetError(f'{file} needs {keys.TASK} and one text column, has {table.schema}')
    indices = table.column(keys.TASK).to_pylist()
    return dict(zip(indices, table.column(text[0]).to_pylist()))


def write_tasks(path: Path, tasks: Mapping[int, str]) -> None:
    """Replace ``meta/tasks.parquet``; LeRobot reads it with pandas, index column ``task``."""
    ordered = sorted(tasks.items())
    table = pa.table({
        keys.TASK: pa.array([i for i, _ in ordered], pa.int64()),
        'task': pa.array([text for _, text in ordered], pa.string()),
    })
    table = table.replace_schema_metadata({'pandas': json.dumps(_PANDAS_INDEX)})
    layout.replace(path / layout.TASKS, lambda temporary: pq.write_table(table, temporary))


def _pandas_column(name: str | None, pandas_type: str, numpy_type: str) -> dict[str, Any]:
    return {'name': name, 'field_name': name, 'pandas_type': pandas_type,
            'numpy_type': numpy_type, 'metadata': None}


# What pandas itself writes for DataFrame({'task_index': ...}, index=Index([...], name='task')).
_PANDAS_INDEX = {
    'index_columns': ['task'],
    'column_indexes': [_pandas_column(None, 'unicode', 'object')
                       | {'metadata': {'encoding': 'UTF-8'}}],
    'columns': [_pandas_column(keys.TASK, 'int64', 'int64'),
                _pandas_column('task', 'unicode', 'object')],
    'creator': {'library': 'pyarrow', 'version': pa.__version__},
    'pandas_version': '2.0.0',
}
