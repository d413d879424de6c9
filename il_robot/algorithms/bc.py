"""Behaviour cloning (Pomerleau, NIPS 1988): supervised training of any policy of the registry.

Also the inner step of every algorithm that aggregates data (DAgger, HG-DAgger): they train
with this very function on the grown dataset. One step is in :mod:`il_robot.algorithms.learner`;
here is the run around it: records, checkpoints, evaluation, stopping and going on.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from il_robot.algorithms.estimation import Seen, Stage, recorded_poses, train_estimator
from il_robot.algorithms.frames import load_frames
from il_robot.algorithms.learner import (
    Learner,
    new_learner,
    restore,
    schedule,
    train_step,
    training_state,
    validation_loss,
)
from il_robot.algorithms.memory import explain, is_out_of_memory
from il_robot.algorithms.plots import plot_training
from il_robot.algorithms.preparation import (
    newest_step,
    prepare,
    read_start,
    resumed_start,
    robot_of,
)
from il_robot.algorithms.recipe import Recipe, Training
from il_robot.algorithms.records import Journal, Record, best_record
from il_robot.algorithms.runs import PICTURE, forget_run, open_run
from il_robot.algorithms.samples import (
    Samples,
    check_columns,
)
from il_robot.algorithms.team import ALONE, Team
from il_robot.algorithms.trials import BEST, Trial, mark_best, try_checkpoint
from il_robot.checkpoints import list_checkpoints
from il_robot.data.dataset import Dataset
from il_robot.data.frames import OnFrames
from il_robot.errors import ConfigError
from il_robot.policies.checkpoint import (
    Checkpoint,
    load_training_state,
    save_checkpoint,
)
from il_robot.policies.device import choose_device
from il_robot.policies.estimator import EstimatingPolicy
from il_robot.policies.features import robot_hands
from il_robot.policies.observation import ImagePolicy
from il_robot.policies.views import robot_views
from il_robot.spec import RobotSpec


@dataclass(frozen=True)
class TrainResult:
    """How a run ended.

    Attributes:
        checkpoint: The newest one.
        step: Steps done.
        finished: False where it was stopped before the last step.
        metrics: The newest losses.
        best: The record of the checkpoint with the highest success, ``output/best``; None where
            none was tried.
    """

    checkpoint: Path
    step: int
    finished: bool
    metrics: Record
    best: Mapping[str, float] | None = None


def train(
    dataset: Dataset,
    recipe: Recipe,
    output: Path,
    *,
    robot: RobotSpec | None = None,
    resume: bool = False,
    start: Path | None = None,
    trial: Trial | None = None,
    team: Team = ALONE,
    on_log: Callable[[Record], None] = lambda record: None,
    on_frames: OnFrames = lambda camera, done, total: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> TrainResult:
    """Train a policy, or go on with a run.

    Args:
        dataset: What to learn from.
        recipe: Policy, training and execution.
        output: The run's folder; must be new or empty unless ``resume``.
        robot: The robot, where the dataset does not say (LeRobot's own recordings).
        resume: Go on with the run in ``output``, with the same recipe and dataset.
        start: A checkpoint, or a run, whose weights and normaliser to start from instead of fresh
            ones; a run that goes on knows its own.
        trial: Where checkpoints are tried; needed where ``training.evaluate_every`` is not 0.
        team: The processes that train together, each calling this with the same arguments; the
            first one writes, evaluates and logs.
        on_log: Called with each record of ``metrics.jsonl``.
        on_frames: Called while pictures are decoded, before the first step.
        should_stop: Asked before each step; True saves a checkpoint and returns.

    Raises:
        ConfigError: the folder is in use, the recipe differs on resume, or the start is of another
            policy; the loss diverged, memory ran out (says which batch fits), or an episode of
            the evaluation broke.
        CheckpointError: the checkpoint to start from or to resume is damaged or of a newer
            version; or the disk is full, which leaves the older ones.
        DatasetError: nothing to train on, another dataset on resume, or another robot.
    """
    config = recipe.training
    _check(recipe, trial, team)
    device = choose_device(team.device(config.device))
    if config.threads:
        torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    check_columns(dataset)
    recorded_poses(dataset, recipe.observation.estimate)
    robot = robot_of(dataset, robot)
    hands = robot_hands(robot)
    views = (robot_views(robot, recipe.observation.cameras, hands)
             if recipe.observation.estimate else {})
    begin = resumed_start(output) if resume else read_start(start)
    policy, samples, description = prepare(dataset, recipe, robot, device, begin)
    if isinstance(policy, ImagePolicy) and begin is None and not resume:
        policy.encoder.load_pretrained()
    settings = dict(trial.settings) if trial and config.evaluate_every else {}
    # nothing is written for a bad dataset
    lock = team.first(lambda: open_run(
        output, recipe, dataset, robot, resume, settings, begin.folder if begin else None))
    learner = None
    try:
        newest = newest_step(output) if resume else None
        frames = load_frames(dataset, recipe.observation, device, output, on_frames)
        seen = None
        if isinstance(policy, EstimatingPolicy) and frames is not None:
            seen, frames = Seen(dataset, policy.estimator, frames, hands, views), None
            if newest is None:
                stage = Stage(seen.lessons(samples), config, output, team, on_log, should_stop)
                if not train_estimator(policy.estimator, stage, resume):
                    seen = None  # stopped: no step of the policy follows
        learner = new_learner(policy, config, team)
        if newest is not None:
            restore(learner, load_training_state(newest))
        if seen is not None:
            samples = seen.estimated(samples, description.layout)
        team.seed_dropout(config.seed, learner.step)
        run = _Run(output, config, replace(samples, frames=frames), description, team, trial,
                   Journal(output, learner.step, team), on_log, should_stop)
        return _train(run, learner)
    except BaseException:
        if team.leads and (learner is None or learner.step == 0) and not resume:
            forget_run(output)
        raise
    finally:
        if lock is not None:
            os.close(lock)


def _check(recipe: Recipe, trial: Trial | None, team: Team) -> None:
    config = recipe.training
    if config.evaluate_every and trial is None:
        raise ConfigError(
            'training.evaluate_every needs an environment to try checkpoints in (train(trial=)); '
            'set it to 0 to train without')
    if config.recombine and recipe.observation.cameras:
        raise ConfigError(
            'training.recombine makes scenes that no camera has seen; set it to 0, or '
            'observation.cameras=[]')
    if config.batch_size < team.size:
        raise ConfigError(
            f'training.batch_size={config.batch_size} cannot be shared by {team.size} processes')


@dataclass(frozen=True, eq=False)
class _Run:
    """What stays the same from the first step to the last."""

    output: Path
    config: Training
    samples: Samples
    description: Checkpoint
    team: Team
    trial: Trial | None
    journal: Journal
    on_log: Callable[[Record], None]
    should_stop: Callable[[], bool]


def _train(run: _Run, learner: Learner) -> TrainResult:
    """Steps, records, evaluations and checkpoints until the end or a stop."""
    config, team, metrics = run.config, run.team, Record()
    while True:
        if team.leads and _due(learner.step, config) and not run.journal.tried(learner.step):
            _try(run, _save(run, learner, metrics), learner.step)
        if learner.step == config.steps or team.any(run.should_stop()):
            break
        try:
            run.journal.add(train_step(learner, run.samples, config, team))
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            error.__traceback__ = None  # it holds the tensors that were too many
            raise explain(learner, run.samples, config, team.size) from None
        if learner.step == config.steps or learner.step % config.log_every == 0:
            metrics = _log(run, learner)
        if team.leads and learner.step % config.checkpoint_every == 0:
            _save(run, learner, metrics)
    if team.leads:
        _save(run, learner, metrics)
        if len(run.journal.records) > 1:  # else there is no curve, and drawing takes 0.2 s
            plot_training(run.journal.records, run.output / PICTURE)
    return TrainResult(
        checkpoint_folder(run.output, learner.step), learner.step, learner.step == config.steps,
        metrics, best_record(run.journal.records))


def _log(run: _Run, learner: Learner) -> Record:
    """The record of this step, which the first process writes."""
    config, samples = run.config, run.samples
    metrics = run.journal.means(learner.step)
    metrics['learning_rate'] = schedule(learner.step - 1, config)
    if run.team.leads:
        last = learner.step == config.steps
        if samples.validation and (last or _crossed(learner.step, config)):
            metrics['validation_loss'] = validation_loss(learner, samples, config)
        run.journal.write(metrics)
        run.on_log(metrics)
    return metrics


def _try(run: _Run, checkpoint: Path, step: int) -> None:
    """Evaluate a checkpoint; note whether it is the best."""
    assert run.trial is not None, 'checked at the beginning'
    with run.journal.paused():
        success = try_checkpoint(
            checkpoint, run.trial, run.config.evaluate_episodes, run.should_stop)
    if success is None:
        return
    run.journal.write({'step': step, **success})
    run.on_log(run.journal.records[-1])
    best = best_record(run.journal.records)
    if best and best['step'] == step:
        mark_best(run.output, checkpoint)


def checkpoint_folder(output: Path, step: int) -> Path:
    """Where the checkpoint of a step is, or will be."""
    return output / 'checkpoints' / f'step_{step:08d}'


def _due(step: int, config: Training) -> bool:
    """Whether the checkpoint of this step is to be tried."""
    every = config.evaluate_every
    return every > 0 and step > 0 and (step % every == 0 or step == config.steps)


def _crossed(step: int, config: Training) -> bool:
    """Whether a multiple of ``validate_every`` lies within the last ``log_every`` steps."""
    return step // config.validate_every > (step - config.log_every) // config.validate_every


def _save(run: _Run, learner: Learner, metrics: Record) -> Path:
    """Write this step's checkpoint unless it exists; drop all but the newest and the best."""
    folder = checkpoint_folder(run.output, learner.step)
    if not folder.exists():
        described = replace(run.description, step=learner.step, metrics=metrics)
        save_checkpoint(folder, described, learner.averaged, training_state(learner))
    best = (run.output / BEST).resolve()
    for old in list_checkpoints(run.output)[:-run.config.keep]:
        if old.resolve() != best:
            shutil.rmtree(old)
    return folder
