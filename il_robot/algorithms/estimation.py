"""The first stage of a training from pictures: the estimator of poses, before the policy.

The networks learn where the objects of the demonstrations, whose poses were recorded, appear in
their pictures. What the trained estimator says of each row then takes the place of the recorded
poses in the policy's features, so that the policy learns from what it will be told.

The stage has a folder of its own in the run's, ``estimator/``, with records and one file of
state, from which an interrupted stage goes on with the bits of one that was not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from il_robot.algorithms.frames import Frames
from il_robot.algorithms.learner import (
    Learner,
    new_learner,
    restore,
    schedule,
    train_step,
    training_state,
)
from il_robot.algorithms.memory import explain, is_out_of_memory
from il_robot.algorithms.recipe import Training
from il_robot.algorithms.records import Journal, Record
from il_robot.algorithms.runs import ESTIMATOR
from il_robot.algorithms.samples import Samples, with_objects
from il_robot.algorithms.team import Team
from il_robot.data import layout
from il_robot.data.dataset import Dataset
from il_robot.errors import CheckpointError, DatasetError, unknown
from il_robot.policies.estimator import PoseEstimator
from il_robot.policies.features import FeatureLayout, Hands
from il_robot.policies.policy import IMAGES
from il_robot.policies.views import View
from il_robot.types import Float32

STATE = 'training.safetensors'
_ROWS = 128  # estimated at once


@dataclass(frozen=True, eq=False)
class Seen:
    """A dataset as an estimator sees it.

    Attributes:
        dataset: The dataset.
        estimator: On its device.
        frames: Pictures of all rows.
        hands: Of the robot, where they are among the features.
        views: Of every camera.
    """

    dataset: Dataset
    estimator: PoseEstimator
    frames: Frames
    hands: Hands
    views: Mapping[str, View]

    def lessons(self, samples: Samples) -> Samples:
        """Windows of one observation, with what is to be learned of their pictures."""
        poses = recorded_poses(self.dataset, self.estimator.objects)
        self.estimator.fit_prior(poses)
        marks = self.estimator.targets(poses, self.dataset.state, self.views)
        held = samples.validation
        return replace(
            samples, base=None, frames=self.frames.with_marks(marks),
            train=replace(samples.train, chunk_size=1, n_obs_steps=1),
            validation=held and replace(held, chunk_size=1, n_obs_steps=1))

    def estimated(self, samples: Samples, layout: FeatureLayout) -> Samples:
        """The samples of the policy, with features made of what the estimator says."""
        found = []
        for start in range(0, len(self.dataset), _ROWS):
            rows = np.arange(start, min(start + _ROWS, len(self.dataset)))
            batch = self.frames.batch(rows[:, None])
            pictures = {name: batch[IMAGES + name][:, 0] for name in self.estimator.names}
            found.append(self.estimator.estimate(
                pictures, self.dataset.state[rows], self.views))
        poses = {name: np.concatenate([f[name] for f in found])
                 for name in self.estimator.objects}
        return with_objects(samples, self.dataset, layout, self.hands, poses)


@dataclass(frozen=True, eq=False)
class Stage:
    """What stays the same while an estimator learns.

    Attributes:
        samples: Of :meth:`Seen.lessons`.
        config: Of the whole training.
        output: The run's folder.
        team: The processes.
        on_log: Told each record.
        should_stop: Asked before each step.
    """

    samples: Samples
    config: Training
    output: Path
    team: Team
    on_log: Callable[[Record], None]
    should_stop: Callable[[], bool]


def recorded_poses(dataset: Dataset, objects: tuple[str, ...]) -> Float32:
    """``(N, objects, 7)`` of the objects to be estimated.

    Raises:
        DatasetError: an object is missing, or a pose is not finite.
    """
    for name in objects:
        if name not in dataset.object_names:
            raise DatasetError(
                f'{unknown("object", name, dataset.object_names, str(dataset.path))} '
                f'(observation.estimate)')
    poses: Float32 = dataset.objects[:, [dataset.object_names.index(name) for name in objects]]
    if not np.isfinite(poses).all():
        raise DatasetError(f'{dataset.path}: poses with NaN or infinity (observation.estimate)')
    return poses


def train_estimator(estimator: PoseEstimator, stage: Stage, resume: bool) -> bool:
    """Train an estimator, or go on with it.

    Args:
        estimator: On its device; frozen afterwards.
        stage: See there.
        resume: Go on with the state of ``output``, where there is one.

    Returns:
        Whether it finished; False where it was stopped, its state saved.

    Raises:
        ConfigError: the loss diverged, or memory ran out.
        CheckpointError: the state is damaged or of another estimator.
    """
    own = estimator.config
    # noise on features says nothing to pictures; the mean of the weights is for policies
    config = replace(
        stage.config, steps=own.steps, batch_size=own.batch_size, feature_noise=0.0,
        ema_decay=0.0, learning_rate=own.learning_rate,
        warmup_steps=min(stage.config.warmup_steps, own.steps // 10))
    learner = new_learner(estimator.requires_grad_(True), config, stage.team)
    folder = stage.output / ESTIMATOR
    if resume and (folder / STATE).exists():
        restore(learner, _read(folder / STATE))
    stage.team.first(lambda: folder.mkdir(exist_ok=True))
    journal = Journal(folder, learner.step, stage.team)
    finished = _steps(learner, stage, config, journal)
    if stage.team.leads:
        _write(folder / STATE, learner)
    estimator.requires_grad_(False).eval()
    return finished


def _steps(learner: Learner, stage: Stage, config: Training, journal: Journal) -> bool:
    """Whether all steps were done."""
    team = stage.team
    while learner.step < config.steps:
        if team.any(stage.should_stop()):
            return False
        try:
            journal.add(train_step(learner, stage.samples, config, team))
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            error.__traceback__ = None  # it holds the tensors that were too many
            raise explain(learner, stage.samples, config, team.size) from None
        if learner.step == config.steps or learner.step % config.log_every == 0:
            metrics = journal.means(learner.step)
            metrics['learning_rate'] = schedule(learner.step - 1, config)
            if team.leads:
                journal.write(metrics)
                stage.on_log({'step': 0, 'estimator_step': learner.step,
                              'estimator_loss': metrics['loss'], 'rate': metrics['rate']})
        if team.leads and learner.step % config.checkpoint_every == 0:
            _write(stage.output / ESTIMATOR / STATE, learner)
    return True


def _write(path: Path, learner: Learner) -> None:
    """Replace the file of state, all at once."""
    state = {k: v.detach().cpu().contiguous() for k, v in training_state(learner).items()}
    try:
        layout.replace(path, lambda temporary: save_file(state, temporary))
    except OSError as error:
        raise CheckpointError(f'cannot write {path}: {error.strerror}') from None


def _read(path: Path) -> dict[str, torch.Tensor]:
    try:
        return load_file(path)
    except Exception as error:  # safetensors has several
        raise CheckpointError(
            f'cannot read {path}: {error}; delete it to train the estimator again') from None
