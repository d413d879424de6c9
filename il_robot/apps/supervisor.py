"""Runs the processes of a launch on machines without ``launch``.

Output gets a coloured prefix per node; a node that dies is started again where its description
says so; Ctrl-C (or the end of an essential node) stops all: SIGINT, then SIGTERM, then SIGKILL.
When the supervisor itself is killed its children die with it. While a node has the terminal (the
keyboard teleop draws a screen there) the words of the others are held back; ROS logs them anyway.
"""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from il_robot.bringup import MISUSE, NodeSpec
from il_robot.processes import die_with_parent

_COLOURS = (36, 33, 35, 32, 34, 96, 93, 95)
_ESCALATION = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
_TERM_PATIENCE = 3.0
# A node that dies so often in a row, each time within so many seconds, will go on doing so.
_MOST_RESTARTS, _SHORT_LIFE = 5, 10.0
_MOST_HELD_BACK = 200


@dataclass(eq=False)
class _Child:
    """One node: its description, its process (None between death and restart), its history."""

    spec: NodeSpec
    prefix: str
    process: subprocess.Popen[bytes] | None = None
    begun: float = 0.0
    due: float = 0.0
    restarts: int = 0
    rest: bytes = b''


class Supervisor:
    """See the module.

    Args:
        specs: What to run.
        colour: Whether prefixes and the nodes' own words are coloured.
        quiet: Leave out what a node says at level INFO, but for essential ones.
    """

    def __init__(
        self, specs: Sequence[NodeSpec], *, colour: bool, quiet: bool = False
    ) -> None:
        self._quiet = quiet
        width = max(len(s.executable) for s in specs)
        self._children = []
        for i, spec in enumerate(specs):
            prefix = f'[{spec.executable:>{width}}] '
            if colour:
                prefix = f'\x1b[{_COLOURS[i % len(_COLOURS)]}m{prefix}\x1b[0m'
            self._children.append(_Child(spec, prefix))
        self._environment = {**os.environ, 'PYTHONUNBUFFERED': '1',
                             **({'RCUTILS_COLORIZED_OUTPUT': '1'} if colour else {})}
        self._selector = selectors.DefaultSelector()
        self._held_back: deque[str] = deque(maxlen=_MOST_HELD_BACK)
        self._stop = False

    def run(self) -> int:
        """Run until stopped or an essential node ended.

        Returns:
            0 after a clean stop; the exit code of the node that ended the launch otherwise
            (128 + n where a signal ended it); 1 where a node had to be killed.
        """
        code = 0
        with self._signals():
            for child in self._children:
                self._start(child)
            while not self._stop:
                self._read(0.2)
                ended = self._reap()
                if ended is not None:
                    code = ended
                    break
                if all(c.process is None and not c.due for c in self._children):
                    break
            killed = self._shut_down()
        return code or int(killed)

    @contextmanager
    def _signals(self) -> Iterator[None]:
        def note(_: int, __: FrameType | None) -> None:
            self._stop = True

        # HUP: the terminal was closed
        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        before = {number: signal.signal(number, note) for number in numbers}
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
            stderr=None if terminal else subprocess.STDOUT, env=self._environment,
            preexec_fn=_with_parent if terminal else _own_group_with_parent)
        child.begun, child.due, child.rest = time.monotonic(), 0.0, b''
        if child.process.stdout is not None:
            os.set_blocking(child.process.stdout.fileno(), False)
            self._selector.register(child.process.stdout, selectors.EVENT_READ, child)

    # -- output -----------------------------------------------------------------------------
    def _read(self, timeout: float) -> None:
        for key, _ in self._selector.select(timeout):
            self._read_one(key.data, key.fd)

    def _read_one(self, child: _Child, fd: int) -> bool:
        """Pass on what there is; whether there was something."""
        try:
            data = os.read(fd, 65536)
        except BlockingIOError:
            return False
        if not data:
            self._selector.unregister(fd)
            return False
        *lines, child.rest = (child.rest + data).split(b'\n')
        for line in lines:
            # with a colour in front of it, perhaps
            if not self._quiet or child.spec.essential or b'[INFO]' not in line[:16]:
                self._say(child, line.decode(errors='replace'))
        return True

    def _drain(self, child: _Child) -> None:
        """The last words of a process that has ended."""
        assert child.process is not None
        if child.process.stdout is None:
            return
        fd = child.process.stdout.fileno()
        if fd in self._selector.get_map():
            while self._read_one(child, fd):
                pass
        if fd in self._selector.get_map():  # a grandchild still has it
            self._selector.unregister(fd)
        child.process.stdout.close()
        if child.rest:
            self._say(child, child.rest.decode(errors='replace'))

    def _say(self, child: _Child, text: str) -> None:
        self._held_back.append(f'{child.prefix}{text}')
        if any(c.spec.terminal and c.process is not None for c in self._children):
            return
        try:
            while self._held_back:
                print(self._held_back.popleft(), flush=True)
        except OSError:
            self._stop = True  # nobody reads us any more; the nodes must still end well

    # -- ends -------------------------------------------------------------------------------
    def _ended(self, child: _Child) -> int | None:
        """The exit code of a process that has ended; None while it runs or is not there."""
        code = child.process.poll() if child.process is not None else None
        if code is not None:
            self._drain(child)
            child.process = None
        return code

    def _reap(self) -> int | None:
        """Note the dead, start them again where wanted; the code that ends the launch."""
        now = time.monotonic()
        for child in self._children:
            if child.process is None and child.due and now >= child.due:
                self._say(child, 'starts again')
                self._start(child)
            code = self._ended(child)
            if code is None:
                continue
            how = f'signal {-code}' if code < 0 else f'exit code {code}'
            if child.spec.essential or child.spec.terminal:
                self._say(child, f'ended ({how}): stopping the others')
                return code if code >= 0 else 128 - code
            self._say(child, f'died ({how})' if code else 'ended')
            if code == MISUSE:
                return code
            if child.spec.respawn:
                child.restarts = child.restarts + 1 if now - child.begun < _SHORT_LIFE else 1
                if child.restarts > _MOST_RESTARTS:
                    self._say(child, f'died {child.restarts} times in a row: giving up')
                    return 1
                child.due = now + child.spec.delay
        return None

    def _shut_down(self) -> bool:
        """Stop everybody, each in his own time; whether one had to be killed."""
        killed = False
        alive = {c: -1 for c in self._children if c.process is not None}
        for child in alive:
            child.due = 0.0
        while alive:
            for child, stage in list(alive.items()):
                if self._ended(child) is not None:
                    del alive[child]
                elif time.monotonic() >= child.due:
                    if stage >= 0:
                        self._say(child, f'does not end on {_ESCALATION[stage].name}')
                    number = _ESCALATION[stage + 1]
                    killed = killed or number is signal.SIGKILL
                    assert child.process is not None
                    child.process.send_signal(number)
                    patience = {signal.SIGINT: child.spec.patience,
                                signal.SIGTERM: _TERM_PATIENCE}.get(number, float('inf'))
                    child.due, alive[child] = time.monotonic() + patience, stage + 1
            self._read(0.05)
        return killed


def _with_parent() -> None:
    """In the child: die when the supervisor dies."""
    die_with_parent(signal.SIGKILL)


def _own_group_with_parent() -> None:
    os.setpgid(0, 0)
    _with_parent()
