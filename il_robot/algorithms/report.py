"""An evaluation as a file: who was evaluated on what, every episode, and the summary.

The file is replaced as a whole after every few episodes, so that a stopped or killed evaluation
keeps what it has and goes on from there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from il_robot import __version__
from il_robot.algorithms.evaluate import EpisodeResult, Evaluation, summary
from il_robot.config import build
from il_robot.data.layout import write_json
from il_robot.errors import ConfigError

FORMAT, VERSION = 'il_robot.evaluation', 1


def write_report(
    path: Path, evaluation: Evaluation, settings: Mapping[str, Any], about: Mapping[str, Any]
) -> None:
    """Write the JSON file.

    Args:
        path: Replaced where it exists.
        evaluation: What has been run so far.
        settings: What decides the results (policy's hash, task, width, disturbances ...); to
            go on with the file they must be equal.
        about: Everything else worth keeping: the command, versions, the machine.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, {
        'format': FORMAT, 'version': VERSION, 'package': __version__,
        'settings': dict(settings), 'about': dict(about),
        'summary': summary(evaluation.episodes()),
        'failures': {str(seed): why for seed, why in evaluation.failures.items()},
        'remaining': evaluation.remaining,
        'episodes': [asdict(e) for e in evaluation.episodes()],
    })


def read_report(path: Path) -> tuple[Evaluation, dict[str, Any]]:
    """What was run, and the settings.

    Raises:
        ConfigError: missing, damaged, or no evaluation.
    """
    try:
        data = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ConfigError(f'cannot read {path}: {error}') from None
    if not isinstance(data, dict) or data.get('format') != FORMAT or data['version'] > VERSION:
        raise ConfigError(f'{path} is no evaluation that il_robot {__version__} can read')
    episodes = [build(EpisodeResult, e, str(path)) for e in data['episodes']]
    failures = {int(seed): why for seed, why in data['failures'].items()}
    evaluation = Evaluation({e.seed: e for e in episodes}, failures, data['remaining'])
    return evaluation, data['settings']


def setting_differences(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> list[str]:
    """One line per setting that differs: ``key: theirs | ours``."""
    ours = json.loads(json.dumps(ours))
    return [
        f'{key}: {theirs.get(key)} | {ours.get(key)}'
        for key in sorted({*theirs, *ours}) if theirs.get(key) != ours.get(key)
    ]
