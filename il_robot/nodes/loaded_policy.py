"""A checkpoint made ready to answer, for the policy node."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from il_robot.config import build
from il_robot.control.chunks import Execution
from il_robot.errors import ConfigError
from il_robot.policies.checkpoint import Checkpoint, find_checkpoint, load_checkpoint
from il_robot.policies.device import choose_device
from il_robot.policies.runner import PolicyRunner
from il_robot.policies.runtime import AUTO
from il_robot.spec import RobotSpec


@dataclass(frozen=True)
class LoadedPolicy:
    """A policy ready to run, and how its chunks are executed."""

    folder: Path
    checkpoint: Checkpoint
    runner: PolicyRunner
    execution: Execution
    device: str

    def describe(self) -> dict[str, Any]:
        """What ``policy/status`` says of it."""
        execution = asdict(self.execution)
        return {
            'checkpoint': self.checkpoint.hash, 'folder': self.folder,
            'policy': self.checkpoint.policy, 'task': self.checkpoint.task,
            'step': self.checkpoint.step, 'objects': ' '.join(self.checkpoint.layout.objects),
            'cameras': ' '.join(self.checkpoint.observation.cameras),
            'chunk_size': self.runner.chunk_size, 'execution_mode': execution.pop('mode'),
            **execution, 'device': self.device, **self.runner.describe()}


def load_policy(
    path: str, spec: RobotSpec, device: str, execution: dict[str, Any], runtime: str = AUTO
) -> LoadedPolicy:
    """Load a checkpoint and run it a few times, so that its first answer is not slower.

    Args:
        path: A checkpoint, or a training run, whose newest one is taken.
        spec: The robot it shall drive.
        device: ``auto`` (CUDA where there is one), ``cpu``, ``cuda``, ``cuda:1`` ...
        execution: Fields of :class:`Execution` that replace the checkpoint's own.
        runtime: See :class:`~il_robot.policies.runtime.PolicyRuntime`.

    Raises:
        ConfigError: no path, no such device or runtime, or a wrong execution.
        CheckpointError: missing, damaged, or of another robot.
    """
    if not path:
        raise ConfigError('parameter checkpoint is empty; give the folder of "il_robot train"')
    folder = find_checkpoint(path)
    where = str(choose_device(device))
    checkpoint, policy = load_checkpoint(folder, robot=spec, device=where)
    runner = PolicyRunner(checkpoint, policy, spec, runtime)
    executed = build(Execution, {**checkpoint.execution, **execution}, 'execution')
    if executed.n_action_steps > runner.chunk_size:
        raise ConfigError(
            f'execution: n_action_steps {executed.n_action_steps} is more than the '
            f'{runner.chunk_size} steps of a chunk: nothing would drive in between')
    runner.warm_up()
    return LoadedPolicy(folder, checkpoint, runner, executed, where)
