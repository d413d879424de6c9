"""A stop outlives the arbiter: a small file says that somebody pressed stop and nobody cleared it.

ISO 13850 asks that a machine stays stopped until a person resets it, whatever happens to the
power meanwhile. A node that died, or was started again, must not forget.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

from il_robot.spec import RobotSpec


def stop_file(spec: RobotSpec) -> Path:
    """Where the stop of a robot is kept, by ROS domain, in ``ROS_HOME`` (else ``~/.ros``).

    A robot without a ``hardware:`` section exists in simulation only: there the stop counts for
    the launch (the parent process) in which it was pressed, and a new one begins with a new world.
    """
    home = Path(os.environ.get('ROS_HOME') or Path.home() / '.ros')
    scope = '' if spec.hardware is not None else f'_{os.getppid()}'
    domain = os.environ.get('ROS_DOMAIN_ID') or '0'
    return home / 'il_robot' / f'stopped_{domain}_{spec.name}{scope}.json'


class StopLatch:
    """The file.

    Args:
        path: Where it is; its folder is made when it is needed.

    Attributes:
        stopped: Whether a stop is kept.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.stopped = path.exists()

    @property
    def reason(self) -> str:
        """Why, in words; a file that cannot be read is a stop all the same."""
        try:
            kept = json.loads(self._path.read_text())
            return f'still stopped since {kept["since"]}: {kept["reason"]}'
        except (OSError, ValueError, KeyError, TypeError):
            return f'still stopped, says {self._path}'

    def keep(self, reason: str) -> None:
        """Keep a stop.

        Raises:
            OSError: it cannot be written.
        """
        if self.stopped:
            return
        folder = self._path.parent
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        half = self._path.with_suffix('.half')
        # Nobody else may clear it.
        with open(os.open(half, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), 'w') as file:
            json.dump({'reason': reason, 'since': time.strftime('%Y-%m-%d %H:%M:%S')}, file)
            file.flush()
            os.fsync(file.fileno())
        half.replace(self._path)
        self.stopped = True
        entry = os.open(folder, os.O_RDONLY)  # the name, too, outlives a power cut
        try:
            os.fsync(entry)
        finally:
            os.close(entry)

    def clear(self) -> None:
        """Somebody cleared it.

        Raises:
            OSError: it cannot be removed.
        """
        if self.stopped:
            self._path.unlink(missing_ok=True)
            self.stopped = False
