"""The folder of a training run: what was asked for, and what happened so far.

::

    run.json                    recipe, dataset, robot: all that is needed to go on
    metrics.jsonl               one line per logged step
    loss.png                    the same as a picture
    checkpoints/step_00002000/  see il_robot.policies.checkpoint
"""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Any

from il_robot import __version__
from il_robot.algorithms.recipe import Recipe, make_recipe
from il_robot.config import to_dict
from il_robot.data.dataset import Dataset
from il_robot.data.layout import write_json
from il_robot.errors import ConfigError, DatasetError
from il_robot.policies.policy import Losses
from il_robot.spec import RobotSpec

RUN, METRICS, PICTURE = 'run.json', 'metrics.jsonl', 'loss.png'

Record = dict[str, float]


def open_run(
    output: Path, recipe: Recipe, dataset: Dataset, robot: RobotSpec | None, resume: bool
) -> None:
    """Make the run's folder, or check that the one there is the run to go on with.

    Raises:
        ConfigError: the folder is in use; on resume: no run, or another recipe.
        DatasetError: on resume: another dataset.
    """
    if resume:
        theirs, data = read_run(output)
        lines = _recipe_differences(theirs, recipe)
        if lines:
            raise ConfigError(
                f'{output} was started with another recipe (run | now):\n  '
                + '\n  '.join(lines) + '\ngive the same one, or another --output')
        if data.get('dataset_hash') != dataset.hash:
            raise DatasetError(
                f'{output} was started on dataset {data.get("dataset_hash")}, {dataset.path} is '
                f'now {dataset.hash}; start a new run in another --output')
        return
    if output.is_file() or (output.is_dir() and any(output.iterdir())):
        raise ConfigError(
            f'{output} is not empty; add --resume to go on with the run there, or give another '
            f'--output')
    output.mkdir(parents=True, exist_ok=True)
    write_json(output / RUN, {
        'package': __version__, 'recipe': to_dict(recipe), 'dataset': str(dataset.path),
        'dataset_hash': dataset.hash, 'robot': None if robot is None else robot.to_dict(),
    })


def _recipe_differences(theirs: Recipe, ours: Recipe) -> list[str]:
    lines = []
    a, b = to_dict(theirs), to_dict(ours)
    for part in a:
        if a[part] != b[part]:
            lines.append(f'{part}: {a[part]} | {b[part]}')
    return lines


def read_run(output: Path) -> tuple[Recipe, dict[str, Any]]:
    """The recipe of a run and the rest of its ``run.json`` (dataset's path and hash, robot).

    Raises:
        ConfigError: no run there, or its file is damaged.
    """
    path = output / RUN
    try:
        data = json.loads(path.read_text())
        return make_recipe(data['recipe'], where=str(path)), data
    except FileNotFoundError:
        raise ConfigError(f'{output} holds no training run: nothing to resume') from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f'cannot read {path}: {error!r}') from None


def read_metrics(output: Path) -> list[Record]:
    """The records of a run; a line cut off by a crash is left out."""
    records = []
    path = output / METRICS
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            records.append(json.loads(line))
        except ValueError:
            continue
    return records


class Journal:
    """Means of the losses since the last record, and the file of records."""

    def __init__(self, path: Path, step: int) -> None:
        kept = [r for r in read_metrics(path.parent) if r['step'] <= step]
        path.write_text(''.join(json.dumps(r) + '\n' for r in kept))
        self._path = path
        self._restart(step)

    def _restart(self, step: int) -> None:
        self._sums: Losses = {}
        self._count, self._since, self._clock = 0, step, time.perf_counter()

    def add(self, losses: Losses) -> None:
        """One step's losses; stays on the device, so that no step waits for it."""
        for name, loss in losses.items():
            self._sums[name] = self._sums[name] + loss if name in self._sums else loss
        self._count += 1

    def means(self, step: int) -> Record:
        """Mean losses and the rate [steps/s] since the last call.

        Raises:
            ConfigError: a loss is not finite.
        """
        record: Record = {'step': step}
        record |= {name: float(value) / self._count for name, value in self._sums.items()}
        bad = [name for name, value in record.items() if not math.isfinite(value)]
        if bad:
            raise ConfigError(
                f'{", ".join(bad)} became {record[bad[0]]} before step {step}: lower '
                f'training.learning_rate or set training.grad_clip; earlier checkpoints are kept')
        record['rate'] = self._count / (time.perf_counter() - self._clock)
        self._restart(step)
        return record

    def write(self, record: Record) -> None:
        """Append one line."""
        with self._path.open('a') as file:
            file.write(json.dumps(record) + '\n')
