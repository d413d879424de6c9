"""What happened in a run, one line of JSON per record in ``metrics.jsonl``.

A record of training has ``step``, the mean of each loss since the one before, ``rate``
[steps/s], ``learning_rate`` and at times ``validation_loss``; one of an evaluation has ``step``,
``success``, ``success_low``, ``success_high`` (Wilson 95 %) and ``episodes``.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from il_robot.algorithms.events import EventFile
from il_robot.data.layout import replace
from il_robot.errors import ConfigError

if TYPE_CHECKING:  # at run time they would load torch
    from il_robot.algorithms.team import Team
    from il_robot.policies.policy import Losses

METRICS = 'metrics.jsonl'
#: Entries of a record of training that are no losses.
NO_LOSS = ('step', 'rate', 'learning_rate')

Record = dict[str, float]


def best_record(records: Sequence[Mapping[str, float]]) -> Mapping[str, float] | None:
    """The record with the highest success, of equals the latest; None where none was tried."""
    tried = [r for r in records if 'success' in r]
    return max(tried, key=lambda r: (r['success'], r['step'])) if tried else None


def read_metrics(output: Path) -> list[Record]:
    """The records of a run; a last line cut off by a crash is left out.

    Raises:
        ConfigError: another line is no record.
    """
    path = output / METRICS
    lines = path.read_text(errors='replace').splitlines() if path.exists() else []
    records = []
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
            if not math.isfinite(record['step']):
                raise ValueError('the step is no number')
        except (ValueError, KeyError, TypeError) as error:
            if number == len(lines):
                break
            raise ConfigError(
                f'{path}, line {number} is damaged ({error!r}); mend or delete that line (the '
                f'checkpoints do not need it), nothing was changed') from None
        records.append(record)
    return records


class Journal:
    """Means of the losses since the last record, and the files of records.

    Args:
        output: The run's folder; records behind ``step`` are dropped from its file.
        step: Where the run is.
        team: Processes whose shares of the losses are summed; the first one writes.

    Attributes:
        records: All records of the file.

    Raises:
        ConfigError: the file is damaged, or cannot be written.
    """

    def __init__(self, output: Path, step: int, team: Team) -> None:
        self._path, self._team = output / METRICS, team
        self.records: list[Record] = []
        self._restart()
        if not team.leads:
            return
        self.records += [r for r in read_metrics(output) if r['step'] <= step]
        text = ''.join(json.dumps(r) + '\n' for r in self.records)
        try:
            if not self._path.exists() or self._path.read_text(errors='replace') != text:
                replace(self._path, lambda temporary: temporary.write_text(text))
            self._events = EventFile(output, self.records)
        except OSError as error:
            raise ConfigError(f'cannot write {self._path}: {error.strerror}') from None

    def _restart(self) -> None:
        self._losses: list[Losses] = []
        self._clock = time.perf_counter()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """What takes place here does not count for the rate."""
        begin = time.perf_counter()
        yield
        self._clock += time.perf_counter() - begin

    def tried(self, step: int) -> bool:
        """Whether the checkpoint of this step was evaluated."""
        return any(r['step'] == step and 'success' in r for r in self.records)

    def add(self, losses: Losses) -> None:
        """One step's losses; stay on the device, so that no step waits for them."""
        self._losses.append(losses)

    def means(self, step: int) -> Record:
        """Mean losses and the rate [steps/s] since the last call.

        Raises:
            ConfigError: a loss is not finite.
        """
        import torch  # loaded by now; commands that only read records do without

        record: Record = {'step': step}
        steps, count = self._losses, len(self._losses)
        sums = self._team.total({
            name: torch.stack([losses[name] for losses in steps]).sum()
            for name in (steps[0] if steps else ())})
        record |= {name: float(value) / count for name, value in sums.items()}
        bad = [name for name, value in record.items() if not math.isfinite(value)]
        if bad:
            raise ConfigError(
                f'{", ".join(bad)} became {record[bad[0]]} before step {step}: lower '
                f'training.learning_rate or set training.grad_clip; earlier checkpoints are kept')
        record['rate'] = count / (time.perf_counter() - self._clock)
        self._restart()
        return record

    def write(self, record: Record) -> None:
        """Append one line.

        Raises:
            ConfigError: it cannot be written.
        """
        self.records.append(record)
        try:
            with self._path.open('a') as file:
                file.write(json.dumps(record) + '\n')
            self._events.write(record)
        except OSError as error:
            raise ConfigError(
                f'cannot write {self._path}: {error.strerror}; checkpoints are kept, --resume '
                f'goes on') from None
