"""A checkpoint made ready to answer, for the policy node."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from il_robot.checkpoints import find_checkpoint
from il_robot.config import build
from il_robot.control.chunks import Execution
from il_robot.errors import ConfigError
from il_robot.policies.assessor import ASSESSOR, load_assessor
from il_robot.policies.checkpoint import Checkpoint, load_checkpoint
from il_robot.policies.device import choose_device
from il_robot.policies.ensemble import EnsemblePolicy
from il_robot.policies.residual_runner import Runner, make_runner
from il_robot.policies.runtime import AUTO
from il_robot.spec import RobotSpec


@dataclass(frozen=True)
class LoadedPolicy:
    """A policy ready to run, and how its chunks are executed.

    ``thresholds`` are those of the signals in which it assesses itself.
    """

    folder: Path
    checkpoint: Checkpoint
    runner: Runner
    execution: Execution
    device: str
    thresholds: Mapping[str, float] = field(default_factory=dict)

    def describe(self) -> dict[str, Any]:
        """What ``policy/status`` says of it."""
        execution = asdict(self.execution)
        return {
            'checkpoint': self.checkpoint.hash, 'folder': self.folder,
            'policy': self.checkpoint.policy, 'task': self.checkpoint.task,
            'step': self.checkpoint.step, 'objects': ' '.join(self.checkpoint.given),
            'cameras': ' '.join(self.checkpoint.observation.cameras),
            'chunk_size': self.runner.chunk_size, 'execution_mode': execution.pop('mode'),
            **execution, 'device': self.device, **self.runner.describe(),
            **{f'threshold {k}': repr(v) for k, v in self.thresholds.items()}}


def load_policy(
    path: str, spec: RobotSpec, device: str, execution: dict[str, Any], runtime: str = AUTO, *,
    assess: bool = False,
) -> LoadedPolicy:
    """Load a checkpoint and run it a few times, so that its first answer is not slower.

    Args:
        path: A checkpoint, or a training run, whose newest one is taken.
        spec: The robot it shall drive.
        device: ``auto`` (CUDA where there is one), ``cpu``, ``cuda``, ``cuda:1`` ...
        execution: Fields of :class:`Execution` that replace the checkpoint's own.
        runtime: See :class:`~il_robot.policies.runtime.PolicyRuntime`.
        assess: It shall also say what it thinks of itself: novelty, where it is an ensemble, and
            doubt and risk, where there is an assessor.

    Raises:
        ConfigError: no path, no such device or runtime, a wrong execution, or nothing that could
            assess.
        CheckpointError: missing, damaged, or of another robot; likewise of the assessor.
    """
    if not path:
        raise ConfigError('parameter checkpoint is empty; give the folder of "il_robot train"')
    folder = find_checkpoint(path)
    where = str(choose_device(device))
    checkpoint, policy = load_checkpoint(folder, robot=spec, device=where)
    novelty, assessor = assess and isinstance(policy, EnsemblePolicy), None
    if assess and (folder / ASSESSOR).exists():
        assessor = load_assessor(folder / ASSESSOR, checkpoint.hash)
    if assess and not novelty and assessor is None:
        raise ConfigError(
            f'{folder} is no ensemble and has no {ASSESSOR}: it cannot tell when it needs help; '
            f'make one: il_robot train --output {path} --resume --assess 0.2')
    executed = build(Execution, {**checkpoint.execution, **execution}, 'execution')
    runner = make_runner(checkpoint, policy, spec, runtime, execution=executed,
                         novelty=novelty, assessor=assessor)
    if executed.n_action_steps > runner.chunk_size:
        raise ConfigError(
            f'execution: n_action_steps {executed.n_action_steps} is more than the '
            f'{runner.chunk_size} steps of a chunk: nothing would drive in between')
    runner.warm_up()
    thresholds = assessor.config.thresholds if assessor else {}
    return LoadedPolicy(folder, checkpoint, runner, executed, where, thresholds)
