"""Behaviour cloning (Pomerleau, NIPS 1988): supervised training of any policy of the registry.

Also the inner step of every algorithm that aggregates data (DAgger, HG-DAgger): they train
with this very function on the grown dataset.

The order of the windows is a function of (seed, epoch) and the schedule one of the step, and
the optimiser, the mean of the weights and the random generators are saved: on a CPU, a resumed
run ends with the bits of one that was never interrupted.
"""

from __future__ import annotations

import copy
import math
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from il_robot.algorithms.plots import plot_losses
from il_robot.algorithms.recipe import Recipe, Training
from il_robot.algorithms.runs import METRICS, PICTURE, Journal, Record, open_run, read_metrics
from il_robot.algorithms.samples import Samples, dataset_layout, dataset_task, make_samples
from il_robot.config import to_dict
from il_robot.data.dataset import Dataset
from il_robot.errors import CheckpointError, DatasetError
from il_robot.policies.checkpoint import (
    Checkpoint,
    list_checkpoints,
    load_training_state,
    save_checkpoint,
)
from il_robot.policies.device import choose_device
from il_robot.policies.policy import Losses, Policy
from il_robot.policies.registry import make_policy, model_config
from il_robot.spec import RobotSpec, spec_differences

_VALIDATION_BATCH = 4096


@dataclass(frozen=True)
class TrainResult:
    """How a run ended.

    Attributes:
        checkpoint: The newest one.
        step: Steps done.
        finished: False where it was stopped before the last step.
        metrics: The newest losses.
    """

    checkpoint: Path
    step: int
    finished: bool
    metrics: Record


@dataclass(eq=False)
class _Learner:
    """What changes while training; ``averaged`` is ``policy`` itself where no mean is kept."""

    policy: Policy
    averaged: Policy
    optimizer: torch.optim.AdamW
    generator: torch.Generator
    step: int = 0
    order: NDArray[np.int64] | None = None


def train(
    dataset: Dataset,
    recipe: Recipe,
    output: Path,
    *,
    robot: RobotSpec | None = None,
    resume: bool = False,
    on_log: Callable[[Record], None] = lambda record: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> TrainResult:
    """Train a policy, or go on with a run.

    Args:
        dataset: What to learn from.
        recipe: Policy, training and execution.
        output: The run's folder; must be new or empty unless ``resume``.
        robot: The robot, where the dataset does not say (LeRobot's own recordings).
        resume: Go on with the run in ``output``, with the same recipe and dataset.
        on_log: Called with each record of ``metrics.jsonl``.
        should_stop: Asked before each step; True saves a checkpoint and returns.

    Raises:
        ConfigError: the folder is in use, the recipe differs on resume, or the loss diverged.
        DatasetError: nothing to train on, another dataset on resume, or another robot.
    """
    config = recipe.training
    device = choose_device(config.device)
    if config.threads:
        torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    robot = _robot_of(dataset, robot)
    layout = dataset_layout(dataset)
    model = model_config(recipe.policy, recipe.model, 'recipe: model')
    policy = make_policy(recipe.policy, model, layout, dataset.action.shape[1]).to(device)
    samples = make_samples(
        dataset, layout, config, policy.chunk_size, policy.n_obs_steps, device)
    open_run(output, recipe, dataset, robot, resume)  # nothing is written for a bad dataset
    learner = _new_learner(policy, config)
    if resume and list_checkpoints(output):
        _restore(learner, load_training_state(output))
    describe = Checkpoint(
        recipe.policy, model, layout, samples.normalizer, robot, to_dict(recipe.execution),
        to_dict(config), dataset.hash, dataset_task(dataset), config.seed)

    metrics: Record = {}
    journal = Journal(output / METRICS, learner.step)
    while learner.step < config.steps and not should_stop():
        journal.add(_train_step(learner, samples, config))
        last = learner.step == config.steps
        if last or learner.step % config.log_every == 0:
            metrics = journal.means(learner.step)
            if samples.validation and (last or _crossed(learner.step, config)):
                metrics['validation_loss'] = validation_loss(learner.averaged, samples, config)
            journal.write(metrics)
            on_log(metrics)
        if learner.step % config.checkpoint_every == 0:
            _save(output, learner, describe, metrics, config.keep)
    checkpoint = _save(output, learner, describe, metrics, config.keep)
    plot_losses(read_metrics(output), output / PICTURE)
    return TrainResult(checkpoint, learner.step, learner.step == config.steps, metrics)


def schedule(step: int, config: Training) -> float:
    """Learning rate of step ``step`` (0 is the first): linear warm-up, cosine to zero."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    progress = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))


def validation_loss(policy: Policy, samples: Samples, config: Training) -> float:
    """Mean loss over all held-out windows, with the same noise at every call."""
    assert samples.validation is not None
    generator = torch.Generator(samples.features.device).manual_seed(config.seed)
    count, total = len(samples.validation), 0.0
    policy.eval()
    with torch.inference_mode():
        for start in range(0, count, _VALIDATION_BATCH):
            windows = np.arange(start, min(start + _VALIDATION_BATCH, count))
            batch = samples.batch(samples.validation, windows)
            total += float(policy.loss(batch, generator)['loss']) * len(windows)
    policy.train()
    return total / count


def _train_step(learner: _Learner, samples: Samples, config: Training) -> Losses:
    """One step of AdamW; returns the losses, detached and still on the device."""
    count = len(samples.train)
    size = min(config.batch_size, count)
    epoch, turn = divmod(learner.step, count // size)
    if turn == 0 or learner.order is None:  # a new epoch, or the first step after a resume
        learner.order = np.random.default_rng([config.seed, epoch]).permutation(count)
    batch = samples.batch(samples.train, learner.order[turn * size:(turn + 1) * size])
    if config.feature_noise:
        features = batch['features']
        noise = torch.empty_like(features).normal_(generator=learner.generator)
        batch['features'] = features + config.feature_noise * noise

    losses = learner.policy.loss(batch, learner.generator)
    learner.optimizer.zero_grad()
    losses['loss'].backward()
    if config.grad_clip:
        torch.nn.utils.clip_grad_norm_(learner.policy.parameters(), config.grad_clip)
    for group in learner.optimizer.param_groups:
        group['lr'] = schedule(learner.step, config)
    learner.optimizer.step()
    learner.step += 1
    if config.ema_decay:
        # a mean over the steps there are, until there are enough of them
        decay = min(config.ema_decay, learner.step / (10 + learner.step))
        with torch.no_grad():
            torch._foreach_lerp_(
                list(learner.averaged.parameters()), list(learner.policy.parameters()), 1 - decay)
            for mean, value in zip(learner.averaged.buffers(), learner.policy.buffers()):
                mean.copy_(value)
    return {name: loss.detach() for name, loss in losses.items()}


def _crossed(step: int, config: Training) -> bool:
    """Whether a multiple of ``validate_every`` lies within the last ``log_every`` steps."""
    return step // config.validate_every > (step - config.log_every) // config.validate_every


def _new_learner(policy: Policy, config: Training) -> _Learner:
    optimizer = torch.optim.AdamW(
        policy.parameters(), config.learning_rate, weight_decay=config.weight_decay, fused=True)
    generator = torch.Generator(next(policy.parameters()).device).manual_seed(config.seed)
    averaged = copy.deepcopy(policy) if config.ema_decay else policy
    return _Learner(policy.train(), averaged, optimizer, generator)


def _state(learner: _Learner) -> dict[str, torch.Tensor]:
    """All tensors needed to go on exactly here."""
    state = {f'policy.{k}': v for k, v in learner.policy.state_dict().items()}
    if learner.averaged is not learner.policy:
        state |= {f'averaged.{k}': v for k, v in learner.averaged.state_dict().items()}
    for name, parameter in learner.policy.named_parameters():
        for key, value in learner.optimizer.state[parameter].items():
            state[f'optimizer.{key}.{name}'] = value
    state['step'] = torch.tensor(learner.step)
    state['random.policy'] = learner.generator.get_state()
    state['random.cpu'] = torch.get_rng_state()
    if learner.generator.device.type == 'cuda':
        state['random.cuda'] = torch.cuda.get_rng_state(learner.generator.device)
    return state


def _restore(learner: _Learner, state: Mapping[str, torch.Tensor]) -> None:
    """The inverse of :func:`_state`.

    Raises:
        CheckpointError: the state belongs to another policy or device.
    """
    def part(prefix: str) -> dict[str, torch.Tensor]:
        return {k[len(prefix):]: v for k, v in state.items() if k.startswith(prefix)}

    device = learner.generator.device
    try:
        learner.policy.load_state_dict(part('policy.'))
        if learner.averaged is not learner.policy:
            learner.averaged.load_state_dict(part('averaged.'))
        for name, parameter in learner.policy.named_parameters():
            learner.optimizer.state[parameter] = {
                key: state[f'optimizer.{key}.{name}'].to(device)
                for key in ('step', 'exp_avg', 'exp_avg_sq')
            }
        learner.step = int(state['step'])
        learner.generator.set_state(state['random.policy'])
        torch.set_rng_state(state['random.cpu'])
        if device.type == 'cuda':
            torch.cuda.set_rng_state(state['random.cuda'], device)
    except (KeyError, RuntimeError) as error:
        raise CheckpointError(f'cannot go on from this training state: {error}') from None


def _save(
    output: Path, learner: _Learner, description: Checkpoint, metrics: Record, keep: int
) -> Path:
    """Write this step's checkpoint unless it exists; drop all but the newest."""
    folder = output / 'checkpoints' / f'step_{learner.step:08d}'
    if not folder.exists():
        described = replace(description, step=learner.step, metrics=metrics)
        save_checkpoint(folder, described, learner.averaged, _state(learner))
    for old in list_checkpoints(output)[:-keep]:
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
