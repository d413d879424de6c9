"""Behaviour cloning (Pomerleau, NIPS 1988): supervised training of any policy of the registry.

Also the inner step of every algorithm that aggregates data (DAgger, HG-DAgger): they train
with this very function on the grown dataset. One step is in :mod:`il_robot.algorithms.learner`;
here is the run around it: records, checkpoints, evaluation, stopping and going on.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from il_robot.algorithms.frames import load_frames, pose_targets
from il_robot.algorithms.learner import (
    Learner,
    new_learner,
    restore,
    schedule,
    train_step,
    training_state,
    validation_loss,
)
from il_robot.algorithms.plots import plot_training
from il_robot.algorithms.recipe import Recipe, Training
from il_robot.algorithms.records import Journal, Record, best_record
from il_robot.algorithms.runs import PICTURE, open_run
from il_robot.algorithms.samples import dataset_layout, dataset_task, make_samples
from il_robot.algorithms.team import ALONE, Team
from il_robot.algorithms.trials import BEST, Trial, mark_best, try_checkpoint
from il_robot.config import to_dict
from il_robot.data.dataset import Dataset
from il_robot.data.frames import OnFrames, check_cameras
from il_robot.errors import ConfigError, DatasetError
from il_robot.policies.checkpoint import (
    Checkpoint,
    list_checkpoints,
    load_training_state,
    save_checkpoint,
)
from il_robot.policies.device import choose_device
from il_robot.policies.observation import ImagePolicy
from il_robot.policies.registry import make_policy, model_config
from il_robot.spec import RobotSpec, spec_differences


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
        trial: Where checkpoints are tried; needed where ``training.evaluate_every`` is not 0.
        team: The processes that train together, each calling this with the same arguments; the
            first one writes, evaluates and logs.
        on_log: Called with each record of ``metrics.jsonl``.
        on_frames: Called while pictures are decoded, before the first step.
        should_stop: Asked before each step; True saves a checkpoint and returns.

    Raises:
        ConfigError: the folder is in use, the recipe differs on resume, the loss diverged, or
            an episode of the evaluation broke.
        DatasetError: nothing to train on, another dataset on resume, or another robot.
    """
    config = recipe.training
    if config.evaluate_every and trial is None:
        raise ConfigError(
            'training.evaluate_every needs an environment to try checkpoints in (train(trial=)); '
            'set it to 0 to train without')
    if config.batch_size < team.size:
        raise ConfigError(
            f'training.batch_size={config.batch_size} cannot be shared by {team.size} processes')
    device = choose_device(team.device(config.device))
    if config.threads:
        torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    robot = _robot_of(dataset, robot)
    observation = recipe.observation
    recorded = check_cameras(dataset, observation.cameras, observation.image_size)
    poses = pose_targets(dataset, observation.estimate)
    layout = dataset_layout(dataset, observation.objects)
    model = model_config(recipe.policy, recipe.model, 'recipe: model')
    policy = make_policy(
        recipe.policy, model, layout, dataset.action.shape[1], observation).to(device)
    if isinstance(policy, ImagePolicy) and not resume:
        policy.encoder.load_pretrained()
    samples = make_samples(
        dataset, layout, config, policy.chunk_size, policy.n_obs_steps, device)
    settings = dict(trial.settings) if trial and config.evaluate_every else {}
    # nothing is written for a bad dataset
    team.first(lambda: open_run(output, recipe, dataset, robot, resume, settings))
    frames = load_frames(dataset, observation, device, output, poses, on_frames)
    samples = replace(samples, frames=frames)
    learner = new_learner(policy, config, team)
    if resume and list_checkpoints(output):
        restore(learner, load_training_state(output))
    team.seed_dropout(config.seed, learner.step)
    describe = Checkpoint(
        recipe.policy, model, layout, samples.normalizer, robot, to_dict(recipe.execution),
        to_dict(config), dataset.hash, dataset_task(dataset), config.seed,
        observation=observation, recorded=recorded)

    metrics: Record = {}
    journal = Journal(output, learner.step, team)
    while True:
        if trial and team.leads and _due(learner.step, config) and not journal.tried(learner.step):
            checkpoint = _save(output, learner, describe, metrics, config.keep)
            with journal.paused():
                success = try_checkpoint(checkpoint, trial, config.evaluate_episodes, should_stop)
            if success is not None:
                journal.write({'step': learner.step, **success})
                on_log(journal.records[-1])
                best = best_record(journal.records)
                if best and best['step'] == learner.step:
                    mark_best(output, checkpoint)
        if learner.step == config.steps or team.any(should_stop()):
            break
        journal.add(train_step(learner, samples, config, team))
        last = learner.step == config.steps
        if last or learner.step % config.log_every == 0:
            metrics = journal.means(learner.step)
            metrics['learning_rate'] = schedule(learner.step - 1, config)
            if team.leads:
                if samples.validation and (last or _crossed(learner.step, config)):
                    metrics['validation_loss'] = validation_loss(learner.averaged, samples, config)
                journal.write(metrics)
                on_log(metrics)
        if team.leads and learner.step % config.checkpoint_every == 0:
            _save(output, learner, describe, metrics, config.keep)
    checkpoint = checkpoint_folder(output, learner.step)
    if team.leads:
        _save(output, learner, describe, metrics, config.keep)
        plot_training(journal.records, output / PICTURE)
    return TrainResult(checkpoint, learner.step, learner.step == config.steps, metrics,
                       best_record(journal.records))


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


def _save(
    output: Path, learner: Learner, description: Checkpoint, metrics: Record, keep: int
) -> Path:
    """Write this step's checkpoint unless it exists; drop all but the newest and the best."""
    folder = checkpoint_folder(output, learner.step)
    if not folder.exists():
        described = replace(description, step=learner.step, metrics=metrics)
        save_checkpoint(folder, described, learner.averaged, training_state(learner))
    best = (output / BEST).resolve()
    for old in list_checkpoints(output)[:-keep]:
        if old.resolve() != best:
            shutil.rmtree(old)
    return folder


def _robot_of(dataset: Dataset, robot: RobotSpec | None) -> RobotSpec | None:
    """The robot of a dataset, checked against the one given and against the columns."""
    if dataset.spec is not None and robot is not None:
        lines = spec_differences(dataset.spec, robot)
        if lines:
            raise DatasetError(
                f'{dataset.path} was recorded on another robot (dataset | given):\n  '
                + '\n  '.join(lines))
    robot = dataset.spec or robot
    if robot is not None and dataset.action.shape[1] != robot.dim:
        raise DatasetError(
            f'{dataset.path} has actions of {dataset.action.shape[1]} numbers, robot '
            f'{robot.name!r} has {robot.dim}: {", ".join(robot.joint_names)}')
    return robot
