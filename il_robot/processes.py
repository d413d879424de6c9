"""What child processes of a launch and of a node have in common."""

from __future__ import annotations

import ctypes
import signal
import sys
from typing import Any

_LIBC = ctypes.CDLL(None)  # loaded before any fork: a forked child must not load anything
_SET_PARENT_DEATH_SIGNAL = 1  # linux/prctl.h

BEHIND = 5
"""Niceness of what computes for an arm that moves: whoever moves it goes first."""
BACKGROUND = 10
"""Of what may take its time: training, conversion."""


def apart() -> dict[str, Any]:
    """Words of Popen for a child that Ctrl-C in the terminal does not reach: a group of its own.

    Not a session of its own: to each session Linux gives an equal share of the processors
    (sched_autogroup), so that one nice child would get as much as a whole robot.
    """
    return {'process_group': 0} if sys.version_info >= (3, 11) else {'start_new_session': True}


def die_with_parent(number: signal.Signals) -> None:
    """In a child, before it executes: let its parent's death send it this signal (Linux only)."""
    if sys.platform == 'linux':
        _LIBC.prctl(_SET_PARENT_DEATH_SIGNAL, number)
