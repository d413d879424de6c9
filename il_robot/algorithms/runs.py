"""The folder of a training run: what was asked for, and what happened so far.

::

    run.json                    recipe, dataset, robot, task: all that is needed to go on
    metrics.jsonl               see il_robot.algorithms.records
    tensorboard/                the same as an event file (il_robot.algorithms.events)
    loss.png                    the same as a picture, where there is more than one record
    estimator/                  the stage before the policy's, where poses are estimated
                                (il_robot.algorithms.estimation)
    checkpoints/step_00002000/  see il_robot.policies.checkpoint
    best                        the checkpoint with the highest success, where there was an
                                evaluation (il_robot.algorithms.trials)
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from il_robot import __version__
from il_robot.algorithms.events import FOLDER
from il_robot.algorithms.recipe import Recipe, make_recipe
from il_robot.algorithms.records import METRICS
from il_robot.config import to_dict
from il_robot.data.dataset import Dataset
from il_robot.data.layout import write_json
from il_robot.errors import ConfigError, DatasetError
from il_robot.spec import RobotSpec

RUN, PICTURE, VERSION = 'run.json', 'loss.png', 1
ESTIMATOR = 'estimator'


def open_run(
    output: Path, recipe: Recipe, dataset: Dataset, robot: RobotSpec | None, resume: bool,
    trial: Mapping[str, Any], start: Path | None = None,
) -> int:
    """Make the run's folder, or check that the one there is the run to go on with.

    Nobody else can write to it until the descriptor returned is closed.

    Args:
        output: The folder.
        recipe: Of this run.
        dataset: Of this run.
        robot: Of the dataset, where it is known.
        resume: Whether the run must be there already.
        trial: Where checkpoints are tried (``Trial.settings``); empty where they are not.
        start: The checkpoint it starts from; None for fresh weights.

    Raises:
        ConfigError: the folder is in use; on resume: no run, another recipe or other trials.
        DatasetError: on resume: another dataset.
    """
    if resume:
        _check_resumed(output, recipe, dataset, trial)
        return _lock(output)
    if output.is_file():
        raise ConfigError(f'{output} is a file; give another --output')
    try:
        output.mkdir(parents=True, exist_ok=True)
        lock = _lock(output)
    except OSError as error:
        raise ConfigError(f'cannot write to {output}: {error.strerror}') from None
    try:
        if any(output.iterdir()):
            raise ConfigError(
                f'{output} is not empty; add --resume to go on with the run there, or give '
                f'another --output')
        write_json(output / RUN, {
            'version': VERSION, 'package': __version__, 'recipe': to_dict(recipe),
            'dataset': str(dataset.path), 'dataset_hash': dataset.hash,
            'robot': None if robot is None else robot.to_dict(), 'trial': dict(trial),
            'start': '' if start is None else str(start),
        })
    except (OSError, ConfigError) as error:
        os.close(lock)
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f'cannot write to {output}: {error.strerror}') from None
    return lock


def _lock(output: Path) -> int:
    """Become the only run in a folder; ends with the process, or with ``os.close``."""
    descriptor = os.open(output, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise ConfigError(
            f'another training writes to {output} now; wait for it, or give another --output'
        ) from None
    except OSError:  # a file system without locks
        pass
    return descriptor


def forget_run(output: Path) -> None:
    """Remove what :func:`open_run` and the journal wrote, so that the folder can be used again."""
    for name in (RUN, METRICS):
        (output / name).unlink(missing_ok=True)
    shutil.rmtree(output / FOLDER, ignore_errors=True)
    shutil.rmtree(output / ESTIMATOR, ignore_errors=True)


def _check_resumed(
    output: Path, recipe: Recipe, dataset: Dataset, trial: Mapping[str, Any]
) -> None:
    theirs, data = read_run(output)
    lines = _recipe_differences(theirs, recipe)
    if lines:
        raise ConfigError(
            f'{output} was started with another recipe (run | now):\n  '
            + '\n  '.join(lines) + '\ngive the same one, or another --output')
    if data.get('trial', {}) != trial:
        raise ConfigError(
            f'{output} tried its checkpoints in {data.get("trial")}, now it would in {trial}: '
            f'the best of both says nothing; give the same, or another --output')
    if data.get('dataset_hash') != dataset.hash:
        raise DatasetError(
            f'{output} was started on dataset {data.get("dataset_hash")}, {dataset.path} is '
            f'now {dataset.hash}; start a new run in another --output')


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
        if data.get('version', 1) > VERSION:
            raise ConfigError(
                f'{path} was written by il_robot {data.get("package")}, this is {__version__}: '
                f'upgrade il_robot to go on with it')
        return make_recipe(data['recipe'], where=str(path)), data
    except FileNotFoundError:
        raise ConfigError(f'{output} holds no training run: nothing to resume') from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f'cannot read {path}: {error!r}') from None
