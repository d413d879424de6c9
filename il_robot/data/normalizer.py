"""Normalisation fitted once on the training rows, saved with the checkpoint.

``normalize``: ``y = (x - offset) / scale``, cut off at ``clip`` on both sides where there is one;
``unnormalize``: ``x = y * scale + offset``.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from il_robot.errors import DatasetError, unknown
from il_robot.types import Float32, Float64

Mode = Literal['mean_std', 'min_max', 'identity']

#: A column that varies less than this (absolute, or relative to its mean) is constant: its
#: scale is 1, so that noise in the last digit is not blown up to unit variance.
CONSTANT = 1e-6


@dataclass(frozen=True, eq=False)
class Affine:
    """Offset and scale ``(D,)``, or ``(T, D)`` by step, float32 of one key, and their mode.

    ``clip``: largest normalised value; infinite for none.
    """

    mode: Mode
    offset: Float32
    scale: Float32
    clip: float = math.inf


@dataclass(frozen=True)
class Normalizer:
    """One affine map per key.

    Attributes:
        entries: Key to :class:`Affine`; read-only.
    """

    entries: Mapping[str, Affine]

    def __post_init__(self) -> None:
        object.__setattr__(self, 'entries', MappingProxyType(dict(self.entries)))

    def normalize(self, key: str, value: NDArray[Any]) -> Float32:
        """``(..., D)`` (or ``(..., T, D)``) raw values to normalised float32 of the same shape.

        Raises:
            DatasetError: unknown key or other last dimensions.
        """
        entry = self._entry(key, value)
        scaled = ((value - entry.offset) / entry.scale).astype(np.float32, copy=False)
        return scaled if math.isinf(entry.clip) else scaled.clip(-entry.clip, entry.clip)

    def unnormalize(self, key: str, value: NDArray[Any]) -> Float32:
        """The inverse of :meth:`normalize` within the clip.

        Raises:
            DatasetError: unknown key or another last dimension.
        """
        entry = self._entry(key, value)
        return (value * entry.scale + entry.offset).astype(np.float32, copy=False)

    def _entry(self, key: str, value: NDArray[Any]) -> Affine:
        if key not in self.entries:
            raise DatasetError(unknown('normalizer key', key, self.entries))
        entry = self.entries[key]
        ends = value.shape[-entry.offset.ndim:]
        if ends != entry.offset.shape:
            raise DatasetError(
                f'{key}: last dimensions are {ends}, fitted on {entry.offset.shape}')
        return entry

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; float32 values survive the round trip bit for bit."""
        return {
            key: {'mode': e.mode, 'offset': e.offset.tolist(), 'scale': e.scale.tolist(),
                  **({} if math.isinf(e.clip) else {'clip': e.clip})}
            for key, e in self.entries.items()
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Mapping[str, Any]]) -> Normalizer:
        """The inverse of :meth:`to_dict`.

        Raises:
            DatasetError: a missing field, unknown mode, or unequal lengths.
        """
        entries = {}
        for key, entry in data.items():
            try:
                mode = entry['mode']
                offset, scale = (np.array(entry[k], dtype=np.float32) for k in ('offset', 'scale'))
                clip = float(entry.get('clip', math.inf))
            except (KeyError, TypeError, ValueError) as error:
                raise DatasetError(f'normalizer entry {key!r} is damaged: {error!r}') from None
            if mode not in get_args(Mode) or not offset.ndim or offset.shape != scale.shape:
                raise DatasetError(
                    f'normalizer entry {key!r}: mode {mode!r} must be one of {get_args(Mode)}, '
                    f'offset {offset.shape} and scale {scale.shape} of one equal shape'
                )
            entries[key] = Affine(mode, offset, scale, clip)
        return cls(entries)


def fit_normalizer(
    arrays: Mapping[str, NDArray[Any]], modes: Mode | Mapping[str, Mode] = 'mean_std', *,
    least: Mapping[str, float] | None = None, clip: Mapping[str, float] | None = None,
    by_step: Collection[str] = (),
) -> Normalizer:
    """Fit on exactly the rows that are trained on.

    Args:
        arrays: Key to ``(..., D)`` values; rows with NaN are left out.
        modes: One mode for all keys, or one per key: ``mean_std`` gives mean 0 and standard
            deviation 1, ``min_max`` maps onto [-1, 1], ``identity`` changes nothing.
        least: Smallest scale per key, 0 where a key is missing; not for ``identity``.
        clip: Largest normalised value per key; 0 or missing for none.
        by_step: Keys whose ``(..., T, D)`` values have statistics of their own for each step.

    Raises:
        DatasetError: a key without a finite row, or an unknown mode.
    """
    entries = {}
    for key, array in arrays.items():
        mode = modes if isinstance(modes, str) else modes.get(key)
        shape = np.shape(array)[-2 if key in by_step else -1:]
        rows = np.asarray(array).reshape(-1, math.prod(shape))
        finite = rows[np.isfinite(rows).all(axis=1)].astype(np.float64)
        if not len(finite):
            raise DatasetError(f'nothing to fit the normalizer on: {key} has no finite row')
        offset, scale = _fit(finite, mode, key)
        if mode != 'identity':
            scale = np.maximum(scale, (least or {}).get(key, 0.0))
        entries[key] = Affine(
            mode,  # type: ignore[arg-type]
            offset.astype(np.float32).reshape(shape), scale.astype(np.float32).reshape(shape),
            (clip or {}).get(key) or math.inf)
    return Normalizer(entries)


def _fit(rows: Float64, mode: str | None, key: str) -> tuple[Float64, Float64]:
    if mode == 'identity':
        return np.zeros(rows.shape[1]), np.ones(rows.shape[1])
    if mode == 'mean_std':
        offset, scale = rows.mean(axis=0), rows.std(axis=0)
    elif mode == 'min_max':
        low, high = rows.min(axis=0), rows.max(axis=0)
        offset, scale = (high + low) / 2, (high - low) / 2
    else:
        raise DatasetError(unknown('normalizer mode', mode, get_args(Mode), key))
    constant = scale <= CONSTANT * np.maximum(1.0, np.abs(offset))
    return offset, np.where(constant, 1.0, scale)
