"""Scripted experts, one per task."""

from __future__ import annotations

from il_robot.protocols import Expert
from il_robot.sim.experts.insert_peg import InsertPegExpert
from il_robot.sim.experts.lift_tray import LiftTrayExpert
from il_robot.sim.experts.motion import PLAIN, Style
from il_robot.sim.experts.transfer_cube import TransferCubeExpert
from il_robot.sim.tasks.insert_peg import InsertPeg
from il_robot.sim.tasks.lift_tray import LiftTray
from il_robot.sim.tasks.task import Task
from il_robot.sim.tasks.transfer_cube import TransferCube
from il_robot.spec import RobotSpec

__all__ = ['Style', 'make_expert']


def make_expert(task: Task, spec: RobotSpec, style: Style = PLAIN) -> Expert:
    """The scripted expert of a task.

    Raises:
        TypeError: a task without an expert.
    """
    if isinstance(task, TransferCube):
        return TransferCubeExpert(spec, task, style)
    if isinstance(task, InsertPeg):
        return InsertPegExpert(spec, task, style)
    if isinstance(task, LiftTray):
        return LiftTrayExpert(spec, task, style)
    raise TypeError(f'no scripted expert for {type(task).__name__}')
