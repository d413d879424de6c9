"""Functions compiled for the machine they run on, for loops that numpy is too slow for.

The first use in a process reads the result from a cache beside the source, or in the user's
cache folder; the first use on a machine compiles for some seconds.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
from numba.core.caching import NullCache

F = TypeVar('F', bound=Callable[..., object])
_functions: list[Any] = []


def compiled(function: F) -> F:
    """Decorate a function of numbers and arrays to be compiled when it is first called."""
    try:
        out = numba.njit(cache=True)(function)
    except RuntimeError:  # nowhere to keep it: compiled anew by each process
        out = numba.njit(function)
    _functions.append(out)
    return cast(F, out)


def warm(call: Callable[[], object]) -> None:
    """Make the first call; without the cache where that is damaged (a full disk, a power cut)."""
    try:
        call()
    except Exception as error:
        logging.getLogger(__name__).warning(
            'compiling anew, the cache cannot be read: %r; delete *.nbi and *.nbc', error)
        for function in _functions:
            function._cache = NullCache()
        call()
