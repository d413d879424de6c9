"""What a fine-tuning run is, and its file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from il_robot.algorithms.policy_env_base import RewardKind, check_seen
from il_robot.config import build, to_dict
from il_robot.data.layout import write_json
from il_robot.errors import ConfigError
from il_robot.policies.checkpoint import read_description

CONFIG, RECORDS = 'finetune.json', 'records.json'
TRYING = 'filtered', 'awr'
"""Algorithms that imitate tries of a round; their decisions are control steps."""
CORRECTING = 'residual', 'residual_ppo'
"""Algorithms that leave the policy as it is and learn what is added to it."""
ON_POLICY = 'ppo', 'residual_ppo'


@dataclass(frozen=True)
class FinetuneConfig:
    """One run.

    Attributes:
        algorithm: ``filtered`` imitates the policy's own successes, ``awr`` each step of its tries
            by its advantage, ``residual`` and ``residual_ppo`` correct it as it is, ``rlpd`` and
            ``ppo`` change it.
        steps: Most decisions; a decision of a chunk policy that is changed is executed for
            several control steps.
        minutes: Most wall time of learning and evaluation [min].
        every: Decisions from one evaluation to the next.
        evaluate_episodes: In each of them, on the same seeds, from 0 on.
        final_episodes: Before and at the end, on seeds that nothing was chosen by.
        target: Success rate at which it ends; above 1 for never.
        patience: Evaluations without a new best after which it ends; 0 for never.
        tolerance: An evaluation this much below the best takes the policy back to the best one.
        worlds: In which it drives at once; one alone is in the learner's own process.
        processes: Among which they are shared out evenly: 0 for the learner's own, None for as
            many as there are cores.
        seed: Of everything.
        reward: ``sparse``, ``staged`` or ``progress``
            (:mod:`il_robot.algorithms.policy_env_base`).
        stuck: Seconds without progress after which a try ends (``progress``); 0 for never.
        limit: Largest correction, in deviations of the demonstrated actions (:data:`CORRECTING`).
        hold: Control steps that a correction stays (there, too).
        hidden: Widths of the correction's hidden layers.
        options: Of the algorithm's own configuration.
    """

    algorithm: Literal['filtered', 'awr', 'residual', 'residual_ppo', 'rlpd', 'ppo'] = 'residual'
    steps: int = 1_000_000
    minutes: float = 45.0
    every: int = 25_000
    evaluate_episodes: int = 200
    final_episodes: int = 200
    target: float = 0.98
    patience: int = 0
    tolerance: float = 0.1
    worlds: int = 4
    processes: int | None = None
    seed: int = 0
    reward: RewardKind = 'sparse'
    stuck: float = 2.0
    limit: float = 0.5
    hold: int = 10
    hidden: tuple[int, ...] = (256, 256)
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ('steps', 'every', 'evaluate_episodes', 'final_episodes', 'worlds', 'hold'):
            if getattr(self, name) < 1:
                raise ValueError(f'{name} must be >= 1, got {getattr(self, name)}')
        if self.stuck < 0:
            raise ValueError(f'stuck must be >= 0, got {self.stuck}')
        for name in ('minutes', 'limit', 'tolerance', 'target'):
            if not getattr(self, name) > 0:
                raise ValueError(f'{name} must be > 0, got {getattr(self, name)}')


def open_finetune(
    output: Path, config: FinetuneConfig, start: Path, dataset: Path | None,
    environment: Mapping[str, Any],
) -> None:
    """Make the folder of a new run.

    Args:
        output: The folder.
        config: The run.
        start: Checkpoint that it begins with.
        dataset: Of demonstrations, or None.
        environment: What it drives in.

    Raises:
        ConfigError: it is not empty, or the policy sees pictures.
        CheckpointError: no checkpoint there.
    """
    if output.exists() and (output.is_file() or any(output.iterdir())):
        raise ConfigError(
            f'{output} is not empty; add --resume to go on with the run there, or give another '
            f'--output')
    check_seen(read_description(start))
    output.mkdir(parents=True, exist_ok=True)
    write_json(output / CONFIG, {
        'config': to_dict(config), 'start': str(start.resolve()),
        'dataset': str(dataset.resolve()) if dataset else '', 'environment': dict(environment)})


def extend_finetune(output: Path, **changes: Any) -> None:
    """Change when a run ends: steps, minutes, target, patience.

    Raises:
        ConfigError: no run there, or a value that cannot be.
    """
    config = read_finetune(output)[0]
    changed = build(FinetuneConfig, {**to_dict(config), **changes}, 'finetune')
    data = json.loads((output / CONFIG).read_text())
    write_json(output / CONFIG, {**data, 'config': to_dict(changed)})
    records = read_records(output)
    if any(r['kind'] == 'end' for r in records):  # it is told again when it ends again
        write_json(output / RECORDS, {'records': [r for r in records if r['kind'] != 'end']})


def read_records(output: Path) -> list[dict[str, Any]]:
    """The evaluations of a run, in order; none before the first."""
    path = output / RECORDS
    found: list[dict[str, Any]] = \
        json.loads(path.read_text())['records'] if path.exists() else []
    return found


def read_finetune(output: Path) -> tuple[FinetuneConfig, Path, Path | None, dict[str, Any]]:
    """What :func:`open_finetune` wrote: config, start, dataset, environment.

    Raises:
        ConfigError: no run there, or a damaged one.
    """
    try:
        data = json.loads((output / CONFIG).read_text())
        return (build(FinetuneConfig, data['config'], CONFIG), Path(data['start']),
                Path(data['dataset']) if data['dataset'] else None, data['environment'])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f'no run to go on with in {output}: {error!r}') from None
