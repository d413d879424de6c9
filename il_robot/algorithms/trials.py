"""Checkpoints are tried in parallel worlds while the policy trains, and the best one is kept.

All checkpoints of all runs meet the same episodes. Their seeds are neither those of
demonstrations (from 10 000) nor those of reported evaluations (from 0): the best of several
noisy counts is too good, and what is said of it must come from episodes that did not choose it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from il_robot.algorithms.controller import PolicyFactory
from il_robot.algorithms.evaluate import EpisodeResult, Evaluation, evaluate
from il_robot.algorithms.workers import MakeEnv
from il_robot.errors import ConfigError
from il_robot.statistics import wilson

FIRST_SEED = 900_000
BEST = 'best'


@dataclass(frozen=True)
class Trial:
    """Where the checkpoints of a run are tried.

    Attributes:
        make_env: Makes an environment; picklable where there are several workers.
        settings: What it makes, as plain JSON types; a resumed run must name the same.
        workers: Processes.
        on_result: Called with each episode and with what there is so far.
    """

    make_env: MakeEnv
    settings: Mapping[str, Any] = field(default_factory=dict)
    workers: int = 1
    on_result: Callable[[EpisodeResult, Evaluation], None] = lambda result, evaluation: None


def try_checkpoint(
    checkpoint: Path, trial: Trial, episodes: int, should_stop: Callable[[], bool]
) -> dict[str, float] | None:
    """Success of a checkpoint with its Wilson 95 % interval; None where it was stopped.

    Training goes on as if nothing had happened: threads and random numbers are as before.

    Raises:
        ConfigError: an episode broke.
        CheckpointError: the checkpoint is of another robot than the environment.
    """
    evaluation, threads = Evaluation(), torch.get_num_threads()
    try:
        with torch.random.fork_rng(devices=()):
            evaluate(
                trial.make_env, PolicyFactory(checkpoint),
                range(FIRST_SEED, FIRST_SEED + episodes), workers=trial.workers,
                evaluation=evaluation, should_stop=should_stop,
                on_result=lambda result: trial.on_result(result, evaluation))
    finally:
        torch.set_num_threads(threads)
    for seed, why in evaluation.failures.items():
        raise ConfigError(
            f'the evaluation of {checkpoint.name} broke at seed {seed}: {why}\n--resume goes on '
            f'here once that is repaired')
    if evaluation.remaining:
        return None
    solved = sum(e.success for e in evaluation.results.values())
    low, high = wilson(solved, episodes)
    return {'success': solved / episodes, 'success_low': low, 'success_high': high,
            'episodes': episodes}


def mark_best(output: Path, checkpoint: Path) -> None:
    """Let ``output/best`` be this checkpoint; a link, so that every command takes it as one."""
    temporary = output / f'.{BEST}.tmp'
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(os.path.relpath(checkpoint, output))
    temporary.replace(output / BEST)
