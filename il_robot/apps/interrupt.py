"""Ctrl-C as a question instead of an exception, so that a job ends at a clean point."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def stop_on_interrupt(insist: bool = True) -> Iterator[Callable[[], bool]]:
    """Whether Ctrl-C (or SIGTERM) came; with ``insist`` a second one interrupts at once."""
    asked = threading.Event()

    def ask(number: int, frame: FrameType | None) -> None:
        if asked.is_set() and insist:
            raise KeyboardInterrupt
        if not asked.is_set() and insist:
            print('\nstopping; once more to stop at once', file=sys.stderr)
        asked.set()

    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set  # only the main thread may set handlers
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    previous = [signal.signal(number, ask) for number in numbers]
    try:
        yield asked.is_set
    finally:
        for number, handler in zip(numbers, previous):
            signal.signal(number, handler)
