"""A folder that one process works in, and how long it has."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from il_robot.data.layout import write_json
from il_robot.errors import ConfigError

LOCK = '.lock'
_OFTEN = 5.0  # [s]


class Clock:
    """Seconds at work, over all times that a cell was gone on with; asked often.

    Args:
        path: Where they are kept.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: float = json.loads(path.read_text())['seconds'] if path.exists() else 0.0
        self._begun = self._written = time.monotonic()
        self._runs = False

    @contextmanager
    def running(self) -> Iterator[None]:
        """While this lasts, time counts."""
        self._begun, self._runs = time.monotonic(), True
        try:
            yield
        finally:
            self._known, self._runs = self.seconds, False
            self._write()

    @property
    def seconds(self) -> float:
        """So far."""
        return self._known + (time.monotonic() - self._begun if self._runs else 0.0)

    def tick(self) -> bool:
        """Never a reason to stop, but asked as often as one."""
        if self._runs and time.monotonic() - self._written > _OFTEN:
            self._write()
        return False

    def _write(self) -> None:
        self._written = time.monotonic()
        write_json(self._path, {'seconds': self.seconds})


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """A folder for this process alone; free again when it ends, however it ends.

    Raises:
        ConfigError: it is not.
    """
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ConfigError(f'another run writes into {folder}; wait, or give another '
                              '--output') from None
        yield
    finally:
        os.close(descriptor)
