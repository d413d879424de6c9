"""A command of this package as a child process: it may be killed, and the node goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from il_robot.processes import BACKGROUND, apart, die_with_parent

_PATIENCE = 20.0


class Child:
    """``il_robot WORDS ...`` beside the node, with less priority than what moves the robot.

    Args:
        words: Of the command line.
        log: Its output goes there, behind what is there.
    """

    def __init__(self, words: Sequence[str], log: Path) -> None:
        self.log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open('ab') as file:
            self._begin = file.tell()
            self._process = subprocess.Popen(
                [sys.executable, '-m', 'il_robot', *words], stdin=subprocess.DEVNULL,
                stdout=file, stderr=subprocess.STDOUT, env={**os.environ, 'OMP_NUM_THREADS': '1'},
                # Ctrl-C in the terminal is for the node, which passes it on
                preexec_fn=_be_nice, **apart())

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    @property
    def code(self) -> int | None:
        """Its exit code, None while it runs."""
        return self._process.poll()

    @property
    def trouble(self) -> str:
        """Why it ended, in one line: the last one it wrote."""
        code = self.code
        if code is None or code == 0:
            return ''
        if code < 0:
            return f'the process was ended by signal {-code} (log: {self.log})'
        with self.log.open('rb') as file:
            file.seek(self._begin)
            lines = file.read().decode(errors='replace').strip().splitlines()
        last = lines[-1].strip() if lines else 'it wrote nothing'
        return f'{last} (exit code {code}, log: {self.log})'

    def stop(self) -> None:
        """End it as Ctrl-C would, so that what is finished is kept; then kill it."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()


def _be_nice() -> None:
    os.nice(BACKGROUND)
    # a node that is killed takes its child along: the next one finds the folder free
    die_with_parent(signal.SIGTERM)
