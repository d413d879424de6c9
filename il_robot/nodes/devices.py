"""The operator's terminal and joystick device files; no ROS in here."""

from __future__ import annotations

import contextlib
import os
import select
import sys
import termios
from collections.abc import Sequence
from types import TracebackType

from il_robot.control.teleop_gamepad import JoystickState
from il_robot.control.teleop_keyboard import PASTE_OFF, PASTE_ON
from il_robot.control.teleop_screen import Line, Style
from il_robot.errors import ConfigError

_ENTER = b'\x1b[?1049h\x1b[?25l\x1b[2J' + PASTE_ON
_LEAVE = PASTE_OFF + b'\x1b[0m\x1b[?25h\x1b[?1049l'
_STYLES: dict[Style, str] = {'': '', 'bold': '\x1b[1m', 'dim': '\x1b[2m', 'alarm': '\x1b[1;31m'}
_FLUSH_TIME = 0.2


class Terminal:
    """The terminal without line editing and echo, on a second screen; a context manager.

    Keys come at once, Ctrl-C still interrupts, and no other key stops the process. Leaving brings
    everything back. What this process logs to the same terminal is dropped meanwhile; ROS
    keeps it in its log files and on /rosout.

    Args:
        controlling: Whether the controlling terminal will do where standard input is none (under
            ros2 launch).

    Raises:
        ConfigError: there is no terminal, or it belongs to another process right now.
    """

    def __init__(self, *, controlling: bool = False) -> None:
        self._fd = _open(controlling)
        self._attributes = termios.tcgetattr(self._fd)
        self._outputs: dict[int, int] = {}
        self._last = b''

    def __enter__(self) -> Terminal:
        iflag, oflag, cflag, lflag, ispeed, ospeed, characters = termios.tcgetattr(self._fd)
        iflag &= ~termios.IXON
        lflag &= ~(termios.ICANON | termios.ECHO | termios.IEXTEN)
        characters = list(characters)
        for index in (termios.VSUSP, termios.VQUIT):
            characters[index] = b'\x00'
        characters[termios.VMIN], characters[termios.VTIME] = 1, 0
        termios.tcsetattr(
            self._fd, termios.TCSANOW,
            [iflag, oflag, cflag, lflag, ispeed, ospeed, characters])
        self._silence_logs()
        self._write(_ENTER)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # The terminal itself may be gone by now.
        with contextlib.suppress(OSError, termios.error):
            termios.tcflush(self._fd, termios.TCIFLUSH)
            termios.tcsetattr(self._fd, termios.TCSANOW, self._attributes)
            select.select([], [self._fd], [], _FLUSH_TIME)
        self._write(_LEAVE)
        for number, copy in self._outputs.items():
            os.dup2(copy, number)
            os.close(copy)
        os.close(self._fd)

    def _silence_logs(self) -> None:
        """Send standard output and error elsewhere where they would write over the screen."""
        sys.stdout.flush()
        sys.stderr.flush()
        with open(os.devnull, 'wb') as nowhere:
            for number in (1, 2):
                if os.isatty(number) and os.fstat(number).st_rdev == os.fstat(self._fd).st_rdev:
                    self._outputs[number] = os.dup(number)
                    os.dup2(nowhere.fileno(), number)

    def read(self) -> bytes | None:
        """What was typed since the last call; None where the terminal is gone."""
        data = b''
        while True:
            try:
                piece = os.read(self._fd, 4096)
            except BlockingIOError:
                return data
            except OSError:
                return None
            if not piece:
                return None
            data += piece

    def size(self) -> tuple[int, int]:
        """Columns and rows."""
        try:
            size = os.get_terminal_size(self._fd)
        except OSError:
            return 80, 24
        return size.columns or 80, size.lines or 24

    def draw(self, lines: Sequence[Line]) -> None:
        """Show lines from the top; nothing is sent where nothing changed."""
        rows = [f'{_STYLES[line.style]}{line.text}\x1b[0m\x1b[K' for line in lines]
        frame = ('\x1b[H' + '\r\n'.join(rows) + '\x1b[J').encode()
        if frame != self._last and self._write(frame):
            self._last = frame

    def redraw(self) -> None:
        """Send the next frame even where it is the same: others may write to the terminal."""
        self._last = b''

    def _write(self, data: bytes) -> bool:
        """Write without waiting: a terminal that stalls must not stall the arms."""
        try:
            return os.write(self._fd, data) == len(data)
        except OSError:
            return False


def _open(controlling: bool) -> int:
    """A descriptor of our own, so that not blocking concerns nobody else."""
    paths = [os.ttyname(0)] if os.isatty(0) else []
    for path in [*paths, *(['/dev/tty'] if controlling else [])]:
        try:
            fd = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            foreground = os.tcgetpgrp(fd) == os.getpgrp()
        except OSError:
            foreground = path != '/dev/tty'  # not our controlling terminal: no job control
        if foreground:
            return fd
        os.close(fd)
        raise ConfigError('the keyboard belongs to another process: run teleop in the foreground')
    raise ConfigError(
        'the keyboard needs a terminal, and standard input is none: run teleop in a terminal of '
        'its own')


class JoystickFile:
    """A joystick device file such as /dev/input/js0; opened again whenever it comes back.

    Args:
        path: The file.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.state = JoystickState()
        self.trouble = ''
        self._fd = -1

    def poll(self) -> bool:
        """Read what came; whether the pad is there. ``trouble`` says why it is not."""
        if self._fd < 0:
            try:
                self._fd = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            except OSError as error:
                self.trouble = f'{self.path}: {error.strerror}'
                return False
            self.state = JoystickState()
        while True:
            try:
                data = os.read(self._fd, 4096)
            except BlockingIOError:
                self.trouble = ''
                return True
            except OSError as error:
                return self._lost(error.strerror or 'cannot be read')
            if not data:
                return self._lost('nothing is connected')
            self.state.feed(data)

    def _lost(self, why: str) -> bool:
        self.trouble = f'{self.path}: {why}'
        self.close()
        return False

    def close(self) -> None:
        """Let go of the file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
