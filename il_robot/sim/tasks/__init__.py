"""The bimanual tasks, by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from il_robot.config import build
from il_robot.errors import ConfigError, unknown
from il_robot.sim.tasks.insert_peg import InsertPeg
from il_robot.sim.tasks.lift_tray import LiftTray
from il_robot.sim.tasks.task import WIDTHS, Task
from il_robot.sim.tasks.transfer_cube import TransferCube

TASKS: dict[str, type[TransferCube] | type[InsertPeg] | type[LiftTray]] = {
    'transfer_cube': TransferCube,
    'insert_peg': InsertPeg,
    'lift_tray': LiftTray,
}

__all__ = ['TASKS', 'WIDTHS', 'Task', 'make_task', 'task_names']


def task_names() -> tuple[str, ...]:
    """Names of all tasks."""
    return tuple(TASKS)


def make_task(name: str, options: Mapping[str, Any] | None = None) -> Task:
    """A task with its parameters.

    Args:
        name: One of :func:`task_names`.
        options: Fields of the task's dataclass, for example ``{'clearance': 0.002}``.

    Raises:
        ConfigError: unknown task or option, or a value out of range.
    """
    if name not in TASKS:
        raise ConfigError(unknown('task', name, TASKS))
    return build(TASKS[name], dict(options or {}), f'task {name}')
