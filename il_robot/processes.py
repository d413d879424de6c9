"""What child processes of a launch and of a node have in common."""

from __future__ import annotations

import ctypes
import signal
import sys

_LIBC = ctypes.CDLL(None)  # loaded before any fork: a forked child must not load anything
_SET_PARENT_DEATH_SIGNAL = 1  # linux/prctl.h


def die_with_parent(number: signal.Signals) -> None:
    """In a child, before it executes: let its parent's death send it this signal (Linux only)."""
    if sys.platform == 'linux':
        _LIBC.prctl(_SET_PARENT_DEATH_SIGNAL, number)
