"""Statistics per column as LeRobot keeps them: of each episode, and merged over all.

Merging weighs by count; mean and variance are exact (Chan et al. 1979, parallel variance),
quantiles are count-weighted means of the episodes' quantiles, as in LeRobot.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from il_robot.data import keys
from il_robot.types import Float64

QUANTILES = {'q01': 0.01, 'q10': 0.10, 'q50': 0.50, 'q90': 0.90, 'q99': 0.99}

#: One column's statistics: ``min max mean std q01 .. q99`` ``(D,)`` (images ``(3, 1, 1)`` in
#: [0, 1]) and ``count`` ``(1,)`` int64.
ColumnStats = dict[str, NDArray[Any]]
Stats = dict[str, ColumnStats]


def table_stats(columns: Mapping[str, NDArray[Any]]) -> Stats:
    """Statistics of an episode's numeric columns ``(n,)`` or ``(n, D)``.

    Columns where NaN has a meaning are left out: their moments would describe another set of
    rows than the count says.
    """
    return {k: _column_stats(v) for k, v in columns.items() if k not in keys.MAY_BE_NAN}


def _column_stats(column: NDArray[Any]) -> ColumnStats:
    rows = column.reshape(len(column), -1).astype(np.float64)
    quantiles = np.quantile(rows, list(QUANTILES.values()), axis=0)
    return {
        'min': rows.min(axis=0), 'max': rows.max(axis=0),
        'mean': rows.mean(axis=0), 'std': rows.std(axis=0),
        'count': np.array([len(rows)], dtype=np.int64),
        **dict(zip(QUANTILES, quantiles)),
    }


def image_stats(histogram: NDArray[np.int64], pictures: int) -> ColumnStats:
    """Statistics of a camera from its channel histogram.

    Args:
        histogram: ``(3, 256)`` how often each value occurred per channel.
        pictures: How many pictures were counted.

    Returns:
        Values scaled to [0, 1], shape ``(3, 1, 1)``.
    """
    values = np.arange(256) / 255.0
    total = histogram.sum(axis=1, keepdims=True)
    share = histogram / total
    mean = share @ values
    cumulative = np.cumsum(histogram, axis=1) / total
    present = histogram > 0
    stats: ColumnStats = {
        'min': values[present.argmax(axis=1)],
        'max': values[255 - present[:, ::-1].argmax(axis=1)],
        'mean': mean,
        'std': np.sqrt(np.maximum(share @ values**2 - mean**2, 0.0)),
        **{name: values[(cumulative >= q).argmax(axis=1)] for name, q in QUANTILES.items()},
    }
    shaped = {name: value.reshape(3, 1, 1) for name, value in stats.items()}
    return {**shaped, 'count': np.array([pictures], dtype=np.int64)}


def merge(total: Stats, episode: Stats) -> Stats:
    """Statistics of two disjoint sets of rows together; neither argument is changed."""
    merged = dict(total)
    for key, stats in episode.items():
        merged[key] = _merge_column(total[key], stats) if key in total else stats
    return merged


def _merge_column(a: ColumnStats, b: ColumnStats) -> ColumnStats:
    count = a['count'] + b['count']
    share: Float64 = b['count'] / count
    delta = b['mean'] - a['mean']
    variance = a['std']**2 * (1 - share) + b['std']**2 * share + delta**2 * share * (1 - share)
    merged = {
        'min': np.minimum(a['min'], b['min']), 'max': np.maximum(a['max'], b['max']),
        'mean': a['mean'] + delta * share, 'std': np.sqrt(variance), 'count': count,
    }
    for name in QUANTILES:
        if name in a and name in b:
            merged[name] = a[name] + (b[name] - a[name]) * share
    return merged


def to_json(stats: Stats) -> dict[str, dict[str, Any]]:
    """Plain lists, as in ``meta/stats.json``."""
    return {key: {name: value.tolist() for name, value in column.items()}
            for key, column in stats.items()}


def from_json(data: Mapping[str, Mapping[str, Any]]) -> Stats:
    """The inverse of :func:`to_json`."""
    return {key: {name: np.asarray(value) for name, value in column.items()}
            for key, column in data.items()}


def to_row(stats: Stats) -> dict[str, Any]:
    """The ``stats/<column>/<stat>`` cells of an episode's row."""
    return {f'stats/{key}/{name}': value.tolist()
            for key, column in stats.items() for name, value in column.items()}


def from_row(row: Mapping[str, Any]) -> Stats:
    """The inverse of :func:`to_row`; other cells are ignored, columns without count too."""
    stats: Stats = {}
    for cell, value in row.items():
        if cell.startswith('stats/') and value is not None:
            key, _, name = cell.removeprefix('stats/').rpartition('/')
            stats.setdefault(key, {})[name] = np.asarray(value)
    needed = {'min', 'max', 'mean', 'std', 'count'}
    return {key: column for key, column in stats.items() if needed <= set(column)}
