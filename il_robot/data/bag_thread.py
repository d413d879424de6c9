"""A bag written by a thread of its own: the caller never waits for the disk."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Mapping
from pathlib import Path

from il_robot.data.bags import BagWriter, Topic

DRAIN_PERIOD = 0.1
"""How often waiting messages are written [s]; often enough that a kill costs little, rarely
enough that the thread costs nothing."""
FLUSH_PERIOD = 0.4
SYNC_PERIOD = 1.0
WAITING_BYTES = 1_000_000_000
"""Messages that may wait for a slow disk; beyond it new ones are dropped and counted."""


class BagThread:
    """One bag being recorded; :meth:`write` and the others return at once.

    What was written longer ago than half a second survives a kill of the process, longer than
    1.5 s a power cut. A disk that refuses ends the recording: :attr:`error` says why, and what
    is there stays.

    Args:
        path: The bag's folder; must not exist.
        metadata: What is known beforehand.
        distro: ROS distribution, for metadata.yaml.
        waiting_bytes: See :data:`WAITING_BYTES`.

    Raises:
        DatasetError: the folder exists or cannot be made.
    """

    def __init__(
        self, path: Path, metadata: Mapping[str, str], distro: str = '',
        waiting_bytes: int = WAITING_BYTES,
    ) -> None:
        self.path = path
        self.error = ''
        self.dropped = 0
        self.messages = 0
        self._limit = waiting_bytes
        self._waiting: deque[Topic | tuple[str, bytes, int, int]] = deque()
        self._known: set[str] = set()
        # Two counters of one writer each instead of one with a lock.
        self._put_bytes = self._taken_bytes = 0
        self._end: Mapping[str, str] | None = None
        self._discard = False
        self._wake = threading.Event()
        self._writer = BagWriter(path, metadata, distro)
        self._thread = threading.Thread(target=self._run, name=f'bag {path.name}')
        self._thread.start()

    def add_topic(self, topic: Topic) -> None:
        """Make a topic known; before its first message."""
        self._known.add(topic.name)
        self._waiting.append(topic)

    def knows(self, name: str) -> bool:
        """Whether the topic was made known."""
        return name in self._known

    def write(self, name: str, data: bytes, log_time: int, publish_time: int = 0) -> None:
        """Hand over one message (:meth:`BagWriter.write`)."""
        if self.error:
            return
        if self._put_bytes - self._taken_bytes > self._limit:
            self.dropped += 1
            return
        self._put_bytes += len(data)
        self.messages += 1
        self._waiting.append((name, data, log_time, publish_time))

    def close(self, metadata: Mapping[str, str]) -> None:
        """Finish the bag in the background; see :attr:`done`."""
        self._end = dict(metadata)
        self._wake.set()

    def discard(self) -> None:
        """Remove the bag in the background."""
        self._discard = True
        self._wake.set()

    @property
    def done(self) -> bool:
        """Whether the thread has ended: the bag is durable, removed, or :attr:`error` is set."""
        return not self._thread.is_alive()

    def join(self) -> None:
        """Wait for :attr:`done`, after :meth:`close` or :meth:`discard`."""
        self._thread.join()

    def _run(self) -> None:
        try:
            self._write_until_told()
            if self._discard:
                self._writer.discard()
            else:
                self._drain()
                self._writer.close(self._end)
        except OSError as error:
            self.error = f'{error.strerror or error}'
            self._waiting.clear()
            with contextlib.suppress(OSError):
                self._writer.abandon()

    def _write_until_told(self) -> None:
        since_flush = since_sync = 0.0
        # The first chunk at once: a full disk should be known before the arms move.
        self._drain()
        self._writer.flush()
        while not self._wake.wait(DRAIN_PERIOD):
            self._drain()
            since_flush += DRAIN_PERIOD
            since_sync += DRAIN_PERIOD
            if since_flush >= FLUSH_PERIOD:
                self._writer.flush()
                since_flush = 0.0
            if since_sync >= SYNC_PERIOD:
                self._writer.sync()
                since_sync = 0.0

    def _drain(self) -> None:
        for _ in range(len(self._waiting)):
            entry = self._waiting.popleft()
            if isinstance(entry, Topic):
                self._writer.add_topic(entry)
            else:
                self._writer.write(*entry)
                self._taken_bytes += len(entry[1])
