"""A checkpoint: one folder with ``model.safetensors`` and ``checkpoint.json``.

The folder is written beside its final name, synced and renamed, and never changed again, so
that a checkpoint either exists as a whole or not at all. Loading runs no code from the file
(safetensors and JSON only). Its hash covers the weights and everything said about them; a
recorded episode names the policy that drove by it.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from il_robot import __version__
from il_robot.checkpoints import DESCRIPTION, find_checkpoint
from il_robot.config import build, to_dict
from il_robot.data.normalizer import Normalizer
from il_robot.errors import CheckpointError, IlRobotError
from il_robot.policies.features import FeatureLayout, relative_mask
from il_robot.policies.observation import ObservationConfig
from il_robot.policies.policy import Policy
from il_robot.policies.registry import make_policy, model_config
from il_robot.spec import RobotSpec, robot_spec_from_dict, spec_differences
from il_robot.types import Float32

FORMAT = 'il_robot.checkpoint'
VERSION = 3
WEIGHTS, STATE = 'model.safetensors', 'training.safetensors'


@dataclass(frozen=True)
class Checkpoint:
    """Everything known about trained weights but the weights.

    Attributes:
        policy: Name in the registry.
        model: The policy's configuration (its dataclass).
        layout: The entries of the feature vector.
        normalizer: Keys ``features`` and ``action``.
        robot: The robot of the dataset, or None where the dataset did not say.
        execution: How its chunks are meant to be executed (``control.chunks.Execution``).
        training: The training configuration.
        dataset: Hash of the dataset.
        task: Registered task name, or empty.
        seed: Training seed.
        step: Training steps done.
        metrics: Losses at this step.
        relative: Names of the joints whose targets the policy gives relative to where they
            are in the newest observation; the normaliser's ``action`` is then by step.
        observation: Cameras and their encoder.
        recorded: Height and width [px] of each camera's pictures in the dataset.
        start: Hash of the checkpoint that its training started from; empty for fresh weights.
        package: Version of il_robot that wrote it.
        hash: 16 hex digits over weights and description; empty until written.
    """

    policy: str
    model: Any
    layout: FeatureLayout
    normalizer: Normalizer
    robot: RobotSpec | None
    execution: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    dataset: str = ''
    task: str = ''
    seed: int = 0
    step: int = 0
    metrics: Mapping[str, float] = field(default_factory=dict)
    relative: tuple[str, ...] = ()
    observation: ObservationConfig = ObservationConfig()
    recorded: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    start: str = ''
    package: str = __version__
    hash: str = ''

    @property
    def action_dim(self) -> int:
        """Length D of an action."""
        return self.normalizer.entries['action'].offset.shape[-1]

    @property
    def given(self) -> tuple[str, ...]:
        """Objects whose poses the policy must be told: all that it does not estimate."""
        return tuple(n for n in self.layout.objects if n not in self.observation.estimate)

    @property
    def base(self) -> Float32:
        """``(D,)`` what of the newest state is added to the policy's targets: 1 or 0 of each."""
        return relative_mask(self.layout.joints, self.relative)

    def make_policy(self) -> Policy:
        """The policy with fresh weights."""
        return make_policy(
            self.policy, self.model, self.layout, self.action_dim, self.observation)


def save_checkpoint(
    folder: Path, checkpoint: Checkpoint, policy: nn.Module,
    state: Mapping[str, torch.Tensor] | None = None,
) -> str:
    """Write a new folder, durably and all at once.

    Args:
        folder: Must not exist yet.
        checkpoint: The description; its ``hash`` is computed here.
        policy: The weights to run.
        state: More tensors, to go on training exactly here (:func:`load_training_state`).

    Returns:
        The hash.

    Raises:
        CheckpointError: the folder exists, or cannot be written.
    """
    if folder.exists():
        raise CheckpointError(f'{folder} exists already; checkpoints are never overwritten')
    temporary = folder.with_name(f'.{folder.name}.partial')
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        save_file(_on_cpu(policy.state_dict()), temporary / WEIGHTS)
        if state is not None:
            save_file(_on_cpu(state), temporary / STATE)
        data = _to_dict(checkpoint)
        data['hash'] = _hash(data, temporary / WEIGHTS)
        (temporary / DESCRIPTION).write_text(json.dumps(data, indent=1) + '\n')
        for path in (*temporary.iterdir(), temporary):
            _sync(path)
        temporary.rename(folder)
        _sync(folder.parent)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise CheckpointError(
            f'cannot write checkpoint {folder}: {error}; older ones are kept') from None
    return str(data['hash'])


def load_checkpoint(
    path: Path | str, *, robot: RobotSpec | None = None, device: str = 'cpu'
) -> tuple[Checkpoint, Policy]:
    """Read a checkpoint; the policy comes in evaluation mode.

    Args:
        path: A checkpoint's folder, or a training run's, whose newest checkpoint is taken.
        robot: The robot it shall drive; refused where it was trained on another.
        device: Where the policy goes.

    Raises:
        CheckpointError: missing, damaged, of a newer format, or of another robot.
    """
    folder = find_checkpoint(path)
    checkpoint = read_description(folder)
    if robot is not None:
        check_robot(checkpoint, robot, str(folder))
    policy = checkpoint.make_policy()
    weights = _load_tensors(folder / WEIGHTS)
    try:
        policy.load_state_dict(weights)
    except RuntimeError as error:
        raise CheckpointError(f'{folder}: the weights do not fit its policy: {error}') from None
    return checkpoint, policy.to(device).eval()


def load_training_state(path: Path | str) -> dict[str, torch.Tensor]:
    """The tensors saved to go on training.

    Raises:
        CheckpointError: missing or damaged.
    """
    return _load_tensors(find_checkpoint(path) / STATE)


def read_description(folder: Path) -> Checkpoint:
    """What the JSON file says, checked against the weights by the hash.

    Raises:
        CheckpointError: missing, damaged, or of a newer format.
    """
    path = folder / DESCRIPTION
    try:
        data = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise CheckpointError(f'cannot read {path}: {error}') from None
    if not isinstance(data, dict) or data.get('format') != FORMAT:
        raise CheckpointError(f'{path} is no checkpoint of il_robot (no format {FORMAT!r})')
    if not isinstance(data.get('version'), int) or data['version'] > VERSION:
        raise CheckpointError(
            f'{path} has format version {data.get("version")}, written by il_robot '
            f'{data.get("package", "?")}; this il_robot {__version__} reads up to {VERSION}: '
            f'upgrade il_robot'
        )
    try:
        found = _hash(data, folder / WEIGHTS)
    except OSError as error:
        raise CheckpointError(f'{folder} is incomplete: {error}') from None
    if found != data.get('hash'):
        raise CheckpointError(
            f'{folder} is damaged: its content has hash {found}, {DESCRIPTION} says '
            f'{data.get("hash")}; take another checkpoint or train again'
        )
    return _from_dict(data, str(path))


def check_robot(checkpoint: Checkpoint, robot: RobotSpec, where: str = 'the checkpoint') -> None:
    """Refuse to drive another robot than the one trained on.

    Raises:
        CheckpointError: both sides of every difference.
    """
    if checkpoint.robot is None:
        raise CheckpointError(
            f'{where} does not say its robot (its dataset did not); train with --robot'
        )
    lines = spec_differences(checkpoint.robot, robot)
    if lines:
        raise CheckpointError(
            f'{where} was trained on robot {checkpoint.robot.name!r} and does not fit '
            f'{robot.name!r} (checkpoint | this robot):\n  ' + '\n  '.join(lines)
        )


def _to_dict(checkpoint: Checkpoint) -> dict[str, Any]:
    robot = checkpoint.robot
    return {
        'format': FORMAT, 'version': VERSION, 'package': checkpoint.package, 'hash': '',
        'policy': checkpoint.policy, 'model': to_dict(checkpoint.model),
        'layout': to_dict(checkpoint.layout), 'normalizer': checkpoint.normalizer.to_dict(),
        'observation': to_dict(checkpoint.observation),
        'recorded': {name: list(size) for name, size in checkpoint.recorded.items()},
        'relative': list(checkpoint.relative),
        'execution': dict(checkpoint.execution), 'training': dict(checkpoint.training),
        'dataset': checkpoint.dataset, 'task': checkpoint.task, 'seed': checkpoint.seed,
        'step': checkpoint.step, 'start': checkpoint.start, 'metrics': dict(checkpoint.metrics),
        'robot': None if robot is None else robot.to_dict(),
    }


def _from_dict(data: Mapping[str, Any], where: str) -> Checkpoint:
    values = {k: v for k, v in data.items() if k not in ('format', 'version')}
    try:
        return Checkpoint(**{
            **values,
            'model': model_config(data['policy'], data['model'], where),
            'layout': build(FeatureLayout, data['layout'], where),
            'relative': tuple(data.get('relative', ())),
            'normalizer': Normalizer.from_dict(data['normalizer']),
            'observation': build(ObservationConfig, _observation(data), where),
            'recorded': {
                name: tuple(size) for name, size in data.get('recorded', {}).items()},
            'robot': data['robot'] and robot_spec_from_dict(data['robot'], where),
        })
    except (KeyError, TypeError, IlRobotError) as error:
        raise CheckpointError(f'{where} cannot be understood: {error}') from None


def _observation(data: Mapping[str, Any]) -> dict[str, Any]:
    """What a checkpoint of any version observes: the first knew no cameras.

    Raises:
        CheckpointError: its encoder estimated poses on the way, as only version 2 had it.
    """
    observation = dict(data.get('observation', {}))
    if 'estimate_weight' in observation and observation.pop('estimate'):
        raise CheckpointError('its pictures are encoded as il_robot does not do any more: train '
                              'again, with the recipe mlp_images')
    observation.pop('estimate_weight', None)
    return observation


def _hash(data: Mapping[str, Any], weights: Path) -> str:
    digest = hashlib.sha256(weights.read_bytes())
    described = {k: v for k, v in data.items() if k != 'hash'}
    digest.update(json.dumps(described, sort_keys=True).encode())
    return digest.hexdigest()[:16]


def _on_cpu(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {k: v.detach().cpu().contiguous() for k, v in tensors.items()}


def _load_tensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f'cannot read {path}: {error}') from None


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
