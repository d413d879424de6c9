"""Another library's half of a benchmark, in a process and an environment of its own.

The script it runs prints one line of JSON about itself when it is ready, then answers each line
on stdin with one of JSON (the seconds that this took, or more), until stdin ends.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

_HERE = Path(__file__).resolve().parent


class Peer:
    """A running script.

    Args:
        python: Interpreter of the environment in which the library is installed.
        script: File name in this folder.
        arguments: Of the script.

    Attributes:
        about: What the script said about itself.
    """

    def __init__(self, python: str, script: str, *arguments: Any) -> None:
        self._script = script
        self._process = subprocess.Popen(
            [python, str(_HERE / script), *map(str, arguments)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.about: dict[str, Any] = json.loads(self._answer())

    def seconds(self, *request: Any) -> float:
        """How long it took to do what the words of ``request`` say."""
        return float(self.answer(*request))

    def answer(self, *request: Any) -> Any:
        """What the script says to the words of ``request``."""
        assert self._process.stdin is not None
        print(*request, file=self._process.stdin, flush=True)
        return json.loads(self._answer())

    def close(self) -> None:
        """End the process."""
        self._process.communicate()

    def _answer(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f'{self._script} ended; its message stands above')
        return line
