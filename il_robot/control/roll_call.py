"""Who has fallen silent: every node reports on ``diagnostics`` once a second."""

from __future__ import annotations

from collections.abc import Iterable


class RollCall:
    """Notices that a node which used to report reports no longer, and that it is back.

    It counts calls instead of seconds: where the machine stalls the calls stall with the reports.

    Args:
        names: Who is expected; others are not noted.
        patience: So many calls in a row without a report make a node silent.
    """

    def __init__(self, names: Iterable[str], patience: int = 3) -> None:
        self._names, self._patience = frozenset(names), patience
        self._missed: dict[str, int] = {}
        self._silent: set[str] = set()

    @property
    def present(self) -> tuple[str, ...]:
        """Who reports."""
        return tuple(sorted(self._missed.keys() - self._silent))

    @property
    def silent(self) -> tuple[str, ...]:
        """Who reported once, and no longer does."""
        return tuple(sorted(self._silent))

    def heard(self, name: str) -> None:
        """Note a report."""
        if name in self._names:
            self._missed[name] = 0

    def call(self) -> tuple[list[str], list[str]]:
        """To be called about as often as the nodes report.

        Returns:
            Who fell silent, and who is back, since the last call.
        """
        for name in self._missed:
            self._missed[name] += 1
        silent = {name for name, missed in self._missed.items() if missed > self._patience}
        gone, back = sorted(silent - self._silent), sorted(self._silent - silent)
        self._silent = silent
        return gone, back
