"""Functions compiled for the machine they run on, for loops that numpy is too slow for.

The first use in a process reads the result from a cache beside the source, or in the user's
cache folder; the first use on a machine compiles for some seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, cast

import numba

F = TypeVar('F', bound=Callable[..., object])


def compiled(function: F) -> F:
    """Decorate a function of numbers and arrays to be compiled when it is first called."""
    try:
        return cast(F, numba.njit(cache=True)(function))
    except RuntimeError:  # nowhere to keep it: compiled anew by each process
        return cast(F, numba.njit(function))
