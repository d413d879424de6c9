"""Converting finished bags in a process of its own, so that recording is not disturbed.

It is the command a user would type, ``il_robot dataset convert``, fed with bags on its standard
input; what it does live is therefore what it does later.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections import deque
from pathlib import Path
from typing import Any

from il_robot.processes import BACKGROUND, apart


class ConvertProcess:
    """Runs ``il_robot dataset convert - --output DATASET`` while there is work.

    Args:
        dataset: Folder of the dataset.
    """

    def __init__(self, dataset: Path) -> None:
        self._dataset = dataset
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None
        self._waiting: deque[Path] = deque()
        self._lines: deque[str] = deque()

    @property
    def waiting(self) -> int:
        """Bags that were submitted and not yet reported."""
        return len(self._waiting)

    @property
    def command(self) -> str:
        """What a user would type to do the same, without the bag."""
        return f'il_robot dataset convert BAG --output {self._dataset}'

    def start(self) -> None:
        """Start it beforehand, so that the first bag need not wait for that.

        Raises:
            OSError: it cannot be started.
        """
        if self._process is None or self._process.poll() is not None:
            self._start()

    def submit(self, bag: Path) -> None:
        """Convert a bag after those submitted before."""
        self._waiting.append(bag)
        try:
            self.start()
            self._send(str(bag))
        except OSError as error:
            self._lines.append(json.dumps({'bag': str(bag), 'error': str(error)}))

    def poll(self) -> list[dict[str, Any]]:
        """Reports since the last call.

        Returns:
            Each with ``bag`` and either ``episode``, ``rows``, ``outcome`` and ``notes``, or
            ``error``.
        """
        reports = []
        while self._lines:
            line = self._lines.popleft()
            if line.startswith('{'):
                reports.append(json.loads(line))
                self._waiting.popleft()
        if self._died():
            assert self._process is not None
            said = f'the converter ended with {self._process.returncode}'
            reports += [{'bag': str(bag), 'error': said} for bag in self._waiting]
            self._waiting.clear()
        return reports

    def close(self, patience: float) -> int:
        """Let it finish what it has; it ends by itself, also after we are gone.

        Args:
            patience: How long to wait for it [s].

        Returns:
            Bags that it still has to convert.
        """
        process, self._process = self._process, None
        if process is None or process.stdin is None:
            return 0
        try:
            process.stdin.close()
            process.wait(patience)
        except (OSError, subprocess.TimeoutExpired):
            return self.waiting
        if self._reader is not None:
            self._reader.join()
        return 0

    def _start(self) -> None:
        # Ctrl-C in the terminal must not cut a commit.
        self._process = subprocess.Popen(
            ['nice', '-n', str(BACKGROUND), sys.executable, '-m', 'il_robot', 'dataset', 'convert',
             '-', '--output', str(self._dataset)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, 'OMP_NUM_THREADS': '1'}, **apart())
        self._reader = threading.Thread(
            target=self._read, args=(self._process,), name='converter', daemon=True)
        self._reader.start()

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            self._lines.append(line)

    def _send(self, line: str) -> None:
        assert self._process is not None and self._process.stdin is not None
        self._process.stdin.write(line + '\n')
        self._process.stdin.flush()

    def _died(self) -> bool:
        return (bool(self._waiting) and self._process is not None
                and self._process.poll() is not None
                and self._reader is not None and not self._reader.is_alive()
                and not self._lines)
