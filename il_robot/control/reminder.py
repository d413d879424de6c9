"""When a node says what it waits for."""

from __future__ import annotations


class Reminder:
    """When to say what is waited for: once it is the same for a while, then now and then.

    Args:
        after: How long it must be the same [s].
        again: From one time to the next [s].
    """

    def __init__(self, after: float = 5.0, again: float = 30.0) -> None:
        self._after, self._again = after, again
        self._what, self._due = '', 0.0

    def due(self, now: float, what: str) -> bool:
        """Whether to say it now; empty where nothing is waited for."""
        if what != self._what:
            self._what, self._due = what, now + self._after
        if not what or now < self._due:
            return False
        self._due = now + self._again
        return True
