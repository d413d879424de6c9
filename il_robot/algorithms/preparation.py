"""What a training run begins with: a policy, fresh or from a checkpoint, and its samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from il_robot.algorithms.recipe import Recipe
from il_robot.algorithms.runs import read_run
from il_robot.algorithms.samples import Samples, dataset_layout, dataset_task, make_samples
from il_robot.checkpoints import find_checkpoint, list_checkpoints
from il_robot.config import to_dict
from il_robot.data.dataset import Dataset
from il_robot.data.frames import check_cameras
from il_robot.data.normalizer import Normalizer
from il_robot.errors import ConfigError, DatasetError
from il_robot.policies.checkpoint import Checkpoint, load_checkpoint, read_description
from il_robot.policies.features import robot_hands
from il_robot.policies.policy import Policy
from il_robot.policies.registry import make_policy, model_config
from il_robot.spec import RobotSpec, spec_differences


@dataclass(frozen=True)
class Start:
    """A checkpoint that a run starts from, or goes on with.

    Attributes:
        folder: The checkpoint's.
        checkpoint: Its description.
        policy: Its weights.
        hash: Of the checkpoint that the run started from.
    """

    folder: Path
    checkpoint: Checkpoint
    policy: Policy
    hash: str


def read_start(path: Path | None) -> Start | None:
    """The checkpoint of a folder, or the newest of a run's; None for None.

    Raises:
        CheckpointError: missing, damaged or of a newer version.
    """
    if path is None:
        return None
    folder = find_checkpoint(path)
    checkpoint, policy = load_checkpoint(folder)
    return Start(folder, checkpoint, policy, checkpoint.hash)


def resumed_start(output: Path) -> Start | None:
    """What a run that goes on started from; None where that were fresh weights.

    Its own newest checkpoint knows all that counts, and the one it started from may be gone.

    Raises:
        ConfigError: no run there.
        CheckpointError: as :func:`read_start`.
    """
    _, data = read_run(output)
    newest = newest_step(output)
    if newest is None or not data.get('start'):
        return read_start(Path(data['start']) if data.get('start') else None)
    start = read_start(newest)
    return start and replace(start, hash=start.checkpoint.start)


def newest_step(output: Path) -> Path | None:
    """The newest checkpoint of a run; None where there is none behind step 0.

    At step 0 nothing has been learned but what the estimator's own file says better.

    Raises:
        CheckpointError: it is damaged or of a newer version.
    """
    if not list_checkpoints(output):
        return None
    newest = find_checkpoint(output)
    return newest if read_description(newest).step else None


def prepare(
    dataset: Dataset, recipe: Recipe, robot: RobotSpec | None, device: torch.device,
    start: Start | None = None,
) -> tuple[Policy, Samples, Checkpoint]:
    """A policy, what it learns from, and how its checkpoints describe themselves.

    From a start come the weights and the normaliser: before the first step the policy does
    exactly what it did there.

    Raises:
        ConfigError: the start is of another policy, robot or observation.
        DatasetError: nothing to train on, or columns that do not fit.
    """
    config, observation = recipe.training, recipe.observation
    hands = robot_hands(robot) if observation.hands else {}
    layout = dataset_layout(dataset, observation.objects, tuple(hands), observation.scales)
    relative = (
        relative_joints(dataset, robot, layout.joints) if config.actions == 'relative' else ())
    recorded = check_cameras(dataset, observation.cameras, observation.image_size)
    model = model_config(recipe.policy, recipe.model, 'recipe: model')
    policy = make_policy(
        recipe.policy, model, layout, dataset.action.shape[1], observation).to(device)
    normalizer = start.checkpoint.normalizer if start else None
    description = Checkpoint(
        recipe.policy, model, layout, normalizer or Normalizer({}), robot,
        to_dict(recipe.execution), to_dict(config), dataset.hash, dataset_task(dataset),
        config.seed, relative=relative, observation=observation, recorded=recorded,
        start=start.hash if start else '')
    if start is not None:
        _check_start(start, description)
        policy.load_state_dict(start.policy.state_dict())
    samples = make_samples(
        dataset, layout, config, policy.chunk_size, policy.n_obs_steps, device, hands, relative,
        normalizer)
    return policy, samples, replace(description, normalizer=samples.normalizer)


def _check_start(start: Start, now: Checkpoint) -> None:
    """Refuse weights that mean something else.

    Raises:
        ConfigError: both sides of every difference.
    """
    then = start.checkpoint
    before, after = _meaning(then), _meaning(now)
    lines = [f'{key}: {before.get(key)} | {after.get(key)}'
             for key in sorted(before.keys() | after.keys()) if before.get(key) != after.get(key)]
    if then.robot is not None and now.robot is not None:
        lines += spec_differences(then.robot, now.robot)
    if lines:
        raise ConfigError(
            f'training cannot start from {start.folder}, which is another policy (start | now):'
            '\n  ' + '\n  '.join(lines) + '\ntake the recipe and the robot it was trained with, '
            'or leave out the start')


def _meaning(checkpoint: Checkpoint) -> dict[str, Any]:
    """What the weights of a checkpoint mean, by name."""
    seen = checkpoint.observation
    parts = {'model': to_dict(checkpoint.model), 'layout': to_dict(checkpoint.layout)}
    if seen.cameras:  # all else of the observation is in the layout
        parts['observation'] = {
            key: value for key, value in to_dict(seen).items()
            if key not in ('objects', 'hands', 'scales')}
    return {'policy': checkpoint.policy, 'relative': checkpoint.relative,
            'cameras': seen.cameras,
            **{f'{part}.{key}': v for part, keys in parts.items() for key, v in keys.items()}}


def relative_joints(
    dataset: Dataset, robot: RobotSpec | None, joints: Sequence[str]
) -> tuple[str, ...]:
    """All joints but the grippers; all where the robot is not known.

    Raises:
        DatasetError: state and action are not of the same joints.
    """
    state, action = dataset.state.shape[1], dataset.action.shape[1]
    if state != action:
        raise DatasetError(
            f'training.actions=relative needs a target for each joint, but {dataset.path} has '
            f'{state} numbers of state and {action} of action; set training.actions=absolute')
    if robot is None:
        return tuple(joints)
    # by position: the dataset may name the joints in its own way
    return tuple(name for name, own in zip(joints, robot.joint_names)
                 if own not in robot.gripper_names)


def robot_of(dataset: Dataset, robot: RobotSpec | None) -> RobotSpec | None:
    """The robot of a dataset, checked against the one given and against the columns.

    Raises:
        DatasetError: it is another one.
    """
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
