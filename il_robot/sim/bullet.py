"""PyBullet, loaded without its chatter."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep PyBullet's C++ chatter off stdout and stderr; Python errors pass."""
    sys.stdout.flush()
    sys.stderr.flush()
    saved = {}
    for descriptor in (1, 2):
        with contextlib.suppress(OSError):
            saved[descriptor] = os.dup(descriptor)
    try:
        with open(os.devnull, 'wb') as null:
            for descriptor in saved:
                os.dup2(null.fileno(), descriptor)
        yield
    finally:
        # What C code still holds in its buffer must not come out after all.
        ctypes.CDLL(None).fflush(None)
        for descriptor, copy in saved.items():
            os.dup2(copy, descriptor)
            os.close(copy)


def display_available() -> bool:
    """Whether PyBullet can open its window; without a display it would end the process."""
    if not sys.platform.startswith('linux'):
        return True
    try:
        x11 = ctypes.CDLL('libX11.so.6')
    except OSError:
        return False
    x11.XOpenDisplay.restype = ctypes.c_void_p
    display = x11.XOpenDisplay(None)
    if display:
        x11.XCloseDisplay(ctypes.c_void_p(display))
    return bool(display)


with quiet():
    # PyBullet prints its build time when it is loaded.
    import pybullet as p

__all__ = ['display_available', 'p', 'quiet']
