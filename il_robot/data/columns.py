"""The low-dimensional columns of a dataset, from its data files into contiguous arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from il_robot.data import keys, layout, tables
from il_robot.data.features import is_numeric
from il_robot.errors import DatasetError

Int64 = NDArray[np.int64]


def read_columns(
    path: Path, info: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]
) -> dict[str, NDArray[Any]]:
    """Read every numeric column of the given episodes into one array each.

    Args:
        path: The dataset's folder.
        info: ``meta/info.json``.
        rows: The episodes' rows of ``meta/episodes``, in order.

    Returns:
        Key to ``(N,)`` for shape [1], else ``(N, *shape)``; episode after episode.

    Raises:
        DatasetError: a file is missing or damaged, or an episode has another length.
    """
    numeric = {k: f for k, f in info['features'].items() if is_numeric(f)}
    total = sum(row['length'] for row in rows)
    columns = {
        k: np.empty(total if list(f['shape']) in ([1], []) else (total, *f['shape']), f['dtype'])
        for k, f in numeric.items()
    }
    at = 0
    for file, episodes in _by_file(path, info, rows):
        table = tables.read_table(file, list(numeric))
        arrays = {k: tables.to_numpy(table.column(k), f) for k, f in numeric.items()}
        order = _row_order(arrays, episodes, file)
        for key, array in arrays.items():
            columns[key][at:at + len(order)] = array[order]
        at += len(order)
    return columns


def _by_file(
    path: Path, info: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]
) -> list[tuple[Path, list[Mapping[str, Any]]]]:
    """Runs of consecutive episodes that lie in one file."""
    runs: list[tuple[Path, list[Mapping[str, Any]]]] = []
    for row in rows:
        file = layout.data_file(path, info, row)
        if not runs or runs[-1][0] != file:
            runs.append((file, []))
        runs[-1][1].append(row)
    return runs


def _row_order(
    arrays: Mapping[str, NDArray[Any]], episodes: Sequence[Mapping[str, Any]], file: Path
) -> Int64:
    """File rows of these episodes, by episode and frame.

    Raises:
        DatasetError: an episode has more or fewer rows than its length says.
    """
    episode, frame = arrays[keys.EPISODE], arrays[keys.FRAME]
    wanted = np.array([row['episode_index'] for row in episodes])
    order = np.lexsort((frame, episode))
    order = order[np.isin(episode[order], wanted)]
    found = {int(e): int(n) for e, n in zip(*np.unique(episode[order], return_counts=True))}
    for row in episodes:
        if found.get(row['episode_index'], 0) != row['length']:
            raise DatasetError(
                f'{file}: episode {row["episode_index"]} has '
                f'{found.get(row["episode_index"], 0)} rows, its length says {row["length"]}; '
                f'run: il_robot dataset repair'
            )
    return order
