"""Tables of the results inside documents, between two comments.

A line ``<!-- bench: SUITE -->`` asks for the ranking and the map of strengths of a suite;
``<!-- bench: SUITE METHOD ... -->`` for the scores of these methods alone, and with the word
``costs`` among them also for what they took. Everything from there to ``<!-- end of bench -->`` is
replaced.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from il_robot.bench import details, tables
from il_robot.bench.measures import Curve
from il_robot.errors import ConfigError, unknown

_COSTS, _END = 'costs', '<!-- end of bench -->'
_PLACE = re.compile(
    r'(<!-- bench: (\S+)((?: \S+)*?) -->\n)(.*?)(<!-- end of bench -->)', re.DOTALL)


def fill(path: Path, suite: str, curves: Sequence[Curve]) -> int:
    """Write the tables of a suite into a document; how many.

    Raises:
        ConfigError: no such file, or a method there that the suite has no results of.
    """
    try:
        text = path.read_text(encoding='utf-8')
    except OSError as error:
        raise ConfigError(f'cannot read {path}: {error.strerror}') from None
    for start in re.finditer(r'<!-- bench: .*? -->', text):
        follows = text.find('<!-- bench: ', start.end())
        end = text.find(_END, start.end())
        if end < 0 or 0 <= follows < end:
            raise ConfigError(f'{path}: {start[0]} has no {_END} before the next')
    methods, filled = sorted({c.method for c in curves}), 0

    def table(found: re.Match[str]) -> str:
        nonlocal filled
        if found[2] != suite:
            return found[0]
        filled += 1
        wanted = [name for name in found[3].split() if name != _COSTS]
        for name in wanted:
            if name not in methods:
                raise ConfigError(f'{path}: {unknown("method", name, methods, suite)}')
        own = [c for c in curves if not wanted or c.method in wanted]
        shown = tables.heat(own)[0].markdown()
        if _COSTS in found[3].split():
            shown = f'{shown}\n\n{details.took(own).markdown()}'
        if not wanted:
            shown = f'{tables.ranking(curves).markdown()}\n\n{shown}'
        return f'{found[1]}{shown}\n{found[5]}'

    text = _PLACE.sub(table, text)
    if filled:
        path.write_text(text, encoding='utf-8')
    return filled
