"""A checkpoint as one ONNX file that takes raw features and gives raw actions.

Normalisation is inside the graph. What each number means stands in the file's metadata, so that
the file can be run without this package: names and units of inputs and outputs, the control
period, how chunks are meant to be executed, and the checkpoint's hash.
"""

from __future__ import annotations

import inspect
import json
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from il_robot import __version__
from il_robot.data.normalizer import Affine
from il_robot.errors import CheckpointError, ConfigError
from il_robot.policies.backends import (
    INPUTS,
    OUTPUT,
    Positional,
    UnavailableError,
    onnx_graph,
)
from il_robot.policies.checkpoint import Checkpoint
from il_robot.policies.policy import Policy
from il_robot.policies.residual import ResidualPolicy
from il_robot.policies.runtime import TOLERANCE

_TESTS = 8


@dataclass(frozen=True)
class Export:
    """What was written.

    Attributes:
        path: The file.
        inputs: Shape of each input.
        output: Shape of the actions.
        error: Largest difference to torch in deviations of the actions; None where
            onnxruntime is not installed.
    """

    path: Path
    inputs: dict[str, tuple[int, ...]]
    output: tuple[int, ...]
    error: float | None


class RawPolicy(nn.Module):
    """A policy with its normalisation: physical units in and out."""

    features_offset: torch.Tensor
    features_scale: torch.Tensor
    action_offset: torch.Tensor
    action_scale: torch.Tensor
    base: torch.Tensor

    def __init__(self, checkpoint: Checkpoint, policy: Policy) -> None:
        super().__init__()
        self.policy = Positional(policy)
        self._clip = checkpoint.normalizer.entries['features'].clip
        for key in ('features', 'action'):
            entry: Affine = checkpoint.normalizer.entries[key]
            for name in ('offset', 'scale'):
                self.register_buffer(f'{key}_{name}', torch.from_numpy(getattr(entry, name)))
        self.register_buffer('base', torch.from_numpy(checkpoint.base))

    def forward(self, features: torch.Tensor, noise: torch.Tensor | None = None) -> torch.Tensor:
        """``(1, n_obs_steps, F)`` features [units] to ``(1, T, D)`` actions [units]."""
        normalised = (features - self.features_offset) / self.features_scale
        if not math.isinf(self._clip):
            normalised = normalised.clamp(-self._clip, self._clip)
        actions: torch.Tensor = self.policy(normalised, noise)
        actions = actions * self.action_scale + self.action_offset
        return actions + self.base * features[:, -1:, :len(self.base)]


def export_onnx(checkpoint: Checkpoint, policy: Policy, output: Path) -> Export:
    """Write a new ONNX file, compared with torch where onnxruntime is installed.

    Args:
        checkpoint: Description of the weights.
        policy: The policy on the CPU.
        output: The file; must not exist.

    Raises:
        ConfigError: the file exists, or a package is missing.
        CheckpointError: the policy looks at cameras, the graph cannot be exported, or it does
            not act as torch does.
    """
    if checkpoint.observation.cameras:
        raise CheckpointError(
            f'the policy looks at cameras ({", ".join(checkpoint.observation.cameras)}); only '
            f'policies of joint states and object poses can be exported so far')
    if isinstance(policy, ResidualPolicy):
        raise CheckpointError(
            'a corrected policy is two networks that run at different rates, and no single graph: '
            'export its base, or run it with the policy node')
    if output.exists():
        raise ConfigError(f'{output} exists already; give another --output')
    try:
        import onnx
    except ImportError as missing:
        raise ConfigError(f"{missing}: pip install 'il_robot[onnx]'") from None
    raw = RawPolicy(checkpoint, policy).eval()
    examples = [_example(checkpoint, policy, seed) for seed in range(_TESTS)]
    try:
        model = onnx.load_from_string(onnx_graph(raw, examples[0]))
    except UnavailableError as reason:
        raise CheckpointError(f'{checkpoint.policy}: {reason}') from None
    for key, value in _metadata(checkpoint, policy).items():
        model.metadata_props.add(key=key, value=value)
    content = model.SerializeToString()
    error = _compare(raw, content, examples)
    if error is not None and not error <= TOLERANCE:
        raise CheckpointError(
            f'the exported graph differs from torch by {error:.3g}, more than {TOLERANCE:.3g}; '
            f'nothing was written')
    _write_new(output, content)
    shapes = {name: tuple(a.shape) for name, a in zip(INPUTS, examples[0])}
    return Export(output, shapes, (1, policy.chunk_size, checkpoint.action_dim), error)


def _example(checkpoint: Checkpoint, policy: Policy, seed: int) -> tuple[torch.Tensor, ...]:
    """Raw features like those trained on, and noise where the policy samples."""
    random = torch.Generator().manual_seed(seed)
    entry = checkpoint.normalizer.entries['features']
    normal = torch.randn(1, policy.n_obs_steps, len(entry.offset), generator=random)
    features = normal * torch.from_numpy(entry.scale) + torch.from_numpy(entry.offset)
    noise = policy.draw(1, random)
    return (features, noise) if noise.shape[1] else (features,)


def _compare(
    raw: RawPolicy, content: bytes, examples: list[tuple[torch.Tensor, ...]]
) -> float | None:
    """Largest difference to torch in deviations of the actions."""
    try:
        import onnxruntime
    except ImportError:
        return None
    session = onnxruntime.InferenceSession(content, providers=['CPUExecutionProvider'])
    worst = 0.0
    for example in examples:
        feeds = {name: value.numpy() for name, value in zip(INPUTS, example)}
        with torch.inference_mode():
            expected = raw(*example)
        difference = session.run([OUTPUT], feeds)[0] - expected.numpy()
        worst = max(worst, float(np.abs(difference / raw.action_scale.numpy()).max()))
    return worst


def _metadata(checkpoint: Checkpoint, policy: Policy) -> dict[str, str]:
    """What a user of the file must know; values are text or JSON."""
    robot = checkpoint.robot
    names: tuple[str, ...] = robot.joint_names if robot else checkpoint.layout.joints
    units = ['m' if name in robot.gripper_names else 'rad' for name in names] if robot else []
    described: dict[str, Any] = {
        'format': 'il_robot.onnx', 'package': __version__, 'checkpoint': checkpoint.hash,
        'policy': checkpoint.policy, 'task': checkpoint.task, 'step': checkpoint.step,
        'robot': robot.name if robot else '', 'dt': robot.dt if robot else '',
        'features': 'raw, (1, n_obs_steps, F), oldest observation first; joints [rad], grippers '
                    'and positions [m], orientations as the first two columns of the rotation',
        'features.names': checkpoint.layout.names,
        'action': 'raw, (1, chunk_size, D): targets of the coming control steps; the first is '
                  "for the newest observation's own time",
        'action.names': names, 'action.units': units,
        'chunk_size': policy.chunk_size, 'n_obs_steps': policy.n_obs_steps,
        'execution': dict(checkpoint.execution),
    }
    if policy.draw(1, torch.Generator()).shape[1]:
        described['noise'] = inspect.getdoc(policy.draw) or ''
    return {f'il_robot.{key}': value if isinstance(value, str) else json.dumps(value)
            for key, value in described.items()}


def _write_new(path: Path, content: bytes) -> None:
    """The whole file under its name, or none; never over another.

    Raises:
        ConfigError: it exists, or cannot be written.
    """
    temporary = path.with_name(f'.{path.name}.partial')
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(content)
        os.link(temporary, path)
    except FileExistsError:
        raise ConfigError(f'{path} exists already; give another --output') from None
    except OSError as error:
        raise ConfigError(f'cannot write {path}: {error}') from None
    finally:
        temporary.unlink(missing_ok=True)
