"""What a policy thinks of itself: will the expert disagree, is the task going to be solved?

Two small networks beside a policy, for the gates that ask (:mod:`il_robot.control.gates`):

- doubt: the probability that the policy's action differs from the expert's by more than a
  tolerance, from the observation (Zhang and Cho, SafeDAgger, AAAI 2017, section 3: the safety
  policy);
- risk: one minus the expected success of the policy's action, from observation and action (Hoque
  et al., ThriftyDAgger, CoRL 2021, section 4.2).

They are one file beside the weights, in the checkpoint's folder: a checkpoint never changes, and
what it thinks of itself is learned later. The file names its checkpoint by the hash.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from il_robot.config import build
from il_robot.errors import CheckpointError, ConfigError
from il_robot.policies.mlp import mlp

ASSESSOR = 'assessor.safetensors'
_ABOUT = 'about'


@dataclass(frozen=True)
class AssessorConfig:
    """Of the two networks, stored with them.

    Attributes:
        checkpoint: Hash of the policy's checkpoint.
        features: Length of an observation, all ``n_obs_steps`` of it.
        actions: Length of an action, D.
        hidden: Widths.
        tolerance: Discrepancy from which the expert disagrees [rad].
        thresholds: By signal, what a budget makes of them
            (:func:`il_robot.control.gate_thresholds.budgeted`).
    """

    checkpoint: str
    features: int
    actions: int
    hidden: tuple[int, ...] = (128, 128)
    tolerance: float = 0.0
    thresholds: Mapping[str, float] = field(default_factory=dict)


class Assessor(nn.Module):
    """See the module.

    Args:
        config: Sizes.
    """

    def __init__(self, config: AssessorConfig) -> None:
        super().__init__()
        self.config = config
        self.doubt = mlp(config.features, config.hidden, 1)
        self.success = mlp(config.features + config.actions, config.hidden, 1)

    def forward(self, features: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        """Logits ``(B, 2)`` of doubt and success.

        Args:
            features: ``(B, n_obs_steps, F)``, normalised.
            action: ``(B, D)``, the first one of the chunk, normalised.
        """
        flat = features.flatten(1)
        return torch.cat(
            [self.doubt(flat), self.success(torch.cat([flat, action], 1))], 1)

    @torch.inference_mode()
    def assess(self, features: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        """Probabilities ``(B, 2)``: doubt and risk."""
        doubt, success = self(features, action).sigmoid().unbind(1)
        return torch.stack([doubt, 1 - success], 1)


def save_assessor(path: Path, assessor: Assessor) -> None:
    """Write one file; a file that exists is replaced at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_suffix('.tmp')
    save_file(assessor.state_dict(), half, {_ABOUT: json.dumps(asdict(assessor.config))})
    half.replace(path)


def load_assessor(path: Path, checkpoint: str) -> Assessor:
    """Read one, for the checkpoint of this hash.

    Raises:
        CheckpointError: missing, damaged, or made for another checkpoint.
    """
    try:
        with safe_open(path, 'pt') as file:
            config = build(AssessorConfig, json.loads(file.metadata()[_ABOUT]), str(path))
            assessor = Assessor(config)
            names = file.keys()
            assessor.load_state_dict({name: file.get_tensor(name) for name in names})
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, RuntimeError,
            ConfigError) as error:
        raise CheckpointError(f'cannot read the assessor {path}: {error}') from None
    if config.checkpoint != checkpoint:
        raise CheckpointError(
            f'{path} was made for checkpoint {config.checkpoint}, not for {checkpoint}: a policy '
            f'that was trained again needs a new one')
    return assessor.eval()
