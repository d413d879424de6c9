"""Which bag became which episode of a dataset, so that none is taken twice and none forgotten."""

from __future__ import annotations

import json
from pathlib import Path

from il_robot.data import layout
from il_robot.data.bag_reader import information

LEDGER = 'meta/bags.jsonl'
"""One JSON object a line: ``episode`` and ``bag``; the last word on an episode counts."""


def note(dataset: Path, bag: str, episode: int) -> None:
    """Say that a bag is about to become an episode.

    Before the commit: a line without its episode says nothing, an episode without its line
    would be taken twice.
    """
    with (dataset / LEDGER).open('a', encoding='utf-8') as file:
        # on a line of its own, whatever a kill left before
        file.write('\n' + json.dumps({'episode': episode, 'bag': bag}) + '\n')


def converted(dataset: Path) -> dict[str, int]:
    """Bags (name and first log time) that are episodes of a dataset already."""
    file = dataset / LEDGER
    if not file.is_file():
        return {}
    # A kill may come between the commit, which is one file, and the totals.
    files = sum(1 for _ in (dataset / 'meta' / 'episodes').rglob('*.parquet'))
    committed = max(files, int(layout.read_info(dataset).get('total_episodes', 0)))
    bags: dict[int, str] = {}
    for line in file.read_text(encoding='utf-8').splitlines():
        try:
            entry = json.loads(line)
            bags[int(entry['episode'])] = str(entry['bag'])
        except (ValueError, KeyError, TypeError):
            continue  # a line torn by a kill: that bag was not converted
    return {bag: episode for episode, bag in bags.items() if episode < committed}


def unconverted(folder: Path, dataset: Path) -> tuple[list[Path], list[Path]]:
    """Bags of a folder that are no episodes yet: those with an outcome, and those without."""
    known = {key.rpartition(' ')[0] for key in converted(dataset)}
    with_outcome: list[Path] = []
    without: list[Path] = []
    for bag in sorted(folder.iterdir()):
        if bag.is_dir() and not bag.name.startswith('.') and bag.name not in known:
            said = (information(bag).get('custom_data') or {}).get('outcome')
            (with_outcome if said in ('success', 'failure') else without).append(bag)
    return with_outcome, without
