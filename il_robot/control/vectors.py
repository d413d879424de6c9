"""Small questions about all joints at once, compiled: between an observation and its command."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite

import numpy as np

from il_robot.control.compiled import compiled, warm
from il_robot.types import Float32, Float64


@compiled
def _apart(one: Float32, other: Float32, most: Float64) -> bool:
    for i in range(len(one)):  # noqa: SIM110 - generators are not compiled
        if abs(one[i] - other[i]) > most[i]:
            return True
    return False


@compiled
def _narrowed(values: Float64, out: Float32) -> bool:
    finite = True
    for i in range(len(values)):
        out[i] = values[i]
        finite = finite and isfinite(out[i])
    return finite


@compiled
def _finite(values: Float32) -> bool:
    for i in range(len(values)):  # noqa: SIM110
        if not isfinite(values[i]):
            return False
    return True


@compiled
def _confined(values: Float32, low: Float32, high: Float32, out: Float32) -> None:
    for i in range(len(values)):
        out[i] = min(max(values[i], low[i]), high[i])


def _plain(values: Float32) -> Float32:
    """The same in the one layout that is compiled for: another would be so on the way."""
    flags = values.flags
    if values.dtype == np.float32 and flags.c_contiguous and flags.writeable:
        return values
    return np.array(values, np.float32)


def apart(one: Float32, other: Float32, most: Float64) -> bool:
    """Whether any of ``(N,)`` values differ by more than ``most``; NaN does not."""
    return bool(_apart(_plain(one), _plain(other), most))


def finite(values: Float32) -> bool:
    """Whether all of ``(N,)`` are."""
    return bool(_finite(_plain(values)))


def narrowed(values: Float64 | Sequence[float]) -> tuple[Float32, bool]:
    """``(N,)`` in float32, infinite where that is too large, and whether all are finite."""
    out = np.empty(len(values), np.float32)
    return out, bool(_narrowed(np.array(values, np.float64), out))


def confined(values: Float32, low: Float32, high: Float32) -> Float32:
    """``(N,)`` values, none of them beyond its limits."""
    out = np.empty(len(values), np.float32)
    _confined(_plain(values), _plain(low), _plain(high), out)
    return out


def _touch() -> None:
    """Everything compiled once: now and not on the way."""
    values, _ = narrowed(np.zeros(1))
    apart(values, values, np.zeros(1))
    finite(values)
    confined(values, values, values)


warm(_touch)
