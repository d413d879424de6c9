"""Runs the processes of a launch on machines without ``launch``.

Output gets a coloured prefix per node; a node that dies is started again where its description
says so; Ctrl-C (or the end of an essential node) stops all: SIGINT, then SIGTERM, then SIGKILL.
When the supervisor itself is killed its children die with it.
"""

from __future__ import annotations

import ctypes
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from il_robot.bringup import NodeSpec

_COLOURS = (36, 33, 35, 32, 34, 96, 93, 95)
_PATIENCE = ((signal.SIGINT, 6.0), (signal.SIGTERM, 3.0), (signal.SIGKILL, 5.0))
_MOST_RESTARTS = 10
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)


@dataclass
class _Child:
    """One node: its description, its process (None between death and restart), its history."""

    spec: NodeSpec
    prefix: str
    process: subprocess.Popen[bytes] | None = None
    due: float = 0.0
    restarts: int = 0
    code: int | None = None
    rest: bytes = b''


class Supervisor:
    """See the module.

    Args:
        specs: What to run.
        colour: Whether prefixes are coloured.
    """

    def __init__(self, specs: Sequence[NodeSpec], *, colour: bool) -> None:
        width = max(len(s.name) for s in specs)
        self._children = []
        for i, spec in enumerate(specs):
            prefix = f'[{spec.name:>{width}}] '
            if colour:
                prefix = f'\x1b[{_COLOURS[i % len(_COLOURS)]}m{prefix}\x1b[0m'
            self._children.append(_Child(spec, prefix))
        self._selector = selectors.DefaultSelector()
        self._stop: int | None = None
        self._stopping = False

    def run(self) -> int:
        """Run until stopped or an essential node ended.

        Returns:
            0 after a clean stop; the exit code of the node that ended the launch otherwise.
        """
        code = 0
        with self._signals():
            for child in self._children:
                self._start(child)
            while self._stop is None:
                self._read(0.2)
                ended = self._reap()
                if ended is not None:
                    code = ended
                    break
                if all(c.process is None and not c.due for c in self._children):
                    break
            killed = self._shut_down()
        return code or (1 if killed else 0)

    @contextmanager
    def _signals(self) -> Iterator[None]:
        def note(number: int, _: FrameType | None) -> None:
            self._stop = number

        before = {s: signal.signal(s, note) for s in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _start(self, child: _Child) -> None:
        command = [sys.executable, '-m', f'il_robot.nodes.{child.spec.executable}',
                   *child.spec.ros_arguments()]
        terminal = child.spec.terminal
        # A node with the keyboard keeps the terminal and the foreground group; the others get a
        # group of their own, so that Ctrl-C reaches them once: through us.
        child.process = subprocess.Popen(
            command, stdin=None if terminal else subprocess.DEVNULL,
            stdout=None if terminal else subprocess.PIPE,
            stderr=None if terminal else subprocess.STDOUT,
            env={**os.environ, 'PYTHONUNBUFFERED': '1'},
            preexec_fn=_with_parent if terminal else _own_group_with_parent)
        child.due, child.rest = 0.0, b''
        if child.process.stdout is not None:
            os.set_blocking(child.process.stdout.fileno(), False)
            self._selector.register(child.process.stdout, selectors.EVENT_READ, child)

    def _read(self, timeout: float) -> None:
        for key, _ in self._selector.select(timeout):
            child: _Child = key.data
            data = os.read(key.fd, 65536)
            if not data:
                self._selector.unregister(key.fileobj)
                continue
            *lines, child.rest = (child.rest + data).split(b'\n')
            for line in lines:
                self._say(child, line.decode(errors='replace'))

    def _say(self, child: _Child, text: str) -> None:
        print(f'{child.prefix}{text}', flush=True)

    def _reap(self) -> int | None:
        """Note the dead, start them again where wanted; the code that ends the launch."""
        now = time.monotonic()
        for child in self._children:
            if child.process is None:
                if child.due and now >= child.due:
                    self._say(child, f'starts again ({child.restarts})')
                    self._start(child)
                continue
            code = child.process.poll()
            if code is None:
                continue
            self._read(0.0)
            child.process, child.code = None, code
            how = f'signal {-code}' if code < 0 else f'exit code {code}'
            if child.spec.essential or child.spec.terminal:
                self._say(child, f'ended ({how}): stopping the others')
                return abs(code)
            self._say(child, f'died ({how})' if code else 'ended')
            if code == 2:
                return 2  # a wrong parameter; starting again would not help
            if child.spec.respawn and code:
                child.restarts += 1
                if child.restarts > _MOST_RESTARTS:
                    self._say(child, f'died {child.restarts} times: giving up')
                    return 1
                child.due = now + child.spec.delay
        return None

    def _shut_down(self) -> bool:
        """Stop everybody; whether one had to be killed."""
        self._stopping = True
        for number, patience in _PATIENCE:
            alive = [c for c in self._children if c.process is not None]
            if not alive:
                return False
            for child in alive:
                assert child.process is not None
                child.process.send_signal(number)
            deadline = time.monotonic() + patience
            while alive and time.monotonic() < deadline:
                self._read(0.05)
                for child in alive:
                    if child.process is not None and child.process.poll() is not None:
                        child.code, child.process = child.process.returncode, None
                alive = [c for c in alive if c.process is not None]
            if number is signal.SIGKILL:
                return True
            for child in alive:
                self._say(child, f'did not stop on {number.name}')
        return False


def _with_parent() -> None:
    """In the child: die when the supervisor dies."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _own_group_with_parent() -> None:
    os.setpgid(0, 0)
    _with_parent()
