"""The errors this package raises on purpose.

Each says what was wrong, what would be right, and what to do. The command line prints the
message alone and exits with 2.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class IlRobotError(Exception):
    """Base of every error a user can repair; never raised for a bug of our own."""


class ConfigError(IlRobotError):
    """A configuration file or option: unknown key, wrong type, value out of range."""


class SpecError(IlRobotError):
    """A robot description, or two that should be equal and are not."""


class ActionError(IlRobotError):
    """An action with the wrong shape or a value that is not a number."""


class DatasetError(IlRobotError):
    """A dataset on disk: missing, half-written, corrupt, or of another robot."""


class CheckpointError(IlRobotError):
    """A checkpoint: missing, corrupt, of a newer version, or of another robot."""


class SimulationError(IlRobotError):
    """The simulator cannot do what was asked (no display, no renderer, no such task)."""


def unknown(what: str, name: object, valid: Iterable[str], where: str = '') -> str:
    """One sentence for a name that does not exist.

    Args:
        what: The kind of thing, for example ``'task'``.
        name: What was given.
        valid: All names that would be right.
        where: Where it stood (a file, an option), or empty.

    Returns:
        ``unknown task 'lift_try' in x.yaml: did you mean 'lift_tray'? Valid: a, b``.
    """
    names = sorted(str(v) for v in valid)
    close = get_close_matches(str(name), names, n=1)
    place = f' in {where}' if where else ''
    hint = f'did you mean {close[0]!r}? ' if close else ''
    return f'unknown {what} {str(name)!r}{place}: {hint}Valid: {", ".join(names) or "none"}'
