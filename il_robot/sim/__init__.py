"""Simulation: the PyBullet world, the bimanual tasks, their experts and environments.

Importing this package registers ``il_robot/TransferCube-v0``, ``InsertPeg-v0`` and ``LiftTray-v0``
with Gymnasium and is cheap: PyBullet is loaded when the first environment is made.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from il_robot.sim.registration import register_envs
from il_robot.spec import RobotSpec

if TYPE_CHECKING:
    from il_robot.sim.bimanual_env import BimanualEnv
    from il_robot.sim.disturbances import Disturbances

DEFAULT_ROBOT = 'sim_dual_arm'


def make(
    task: str,
    spec: RobotSpec | None = None,
    *,
    cameras: Sequence[str] = (),
    width: str = 'nominal',
    disturbances: Disturbances | Mapping[str, Any] | None = None,
    task_options: Mapping[str, Any] | None = None,
    image_size: tuple[int, int] | None = None,
    render_mode: str | None = None,
    expert_variation: float = 0.0,
    normalized_actions: bool = False,
) -> BimanualEnv:
    """A bimanual task as a Gymnasium environment.

    Args:
        task: ``transfer_cube``, ``insert_peg`` or ``lift_tray``.
        spec: The robot; ``config/robots/sim_dual_arm.yaml`` when not given.
        cameras: Cameras in the observation.
        width: Reset width: ``narrow``, ``nominal`` or ``wide``.
        disturbances: :class:`Disturbances` or a mapping of its fields.
        task_options: Fields of the task, for example ``{'clearance': 0.002}``.
        image_size: ``(width, height)`` of observed images [px].
        render_mode: ``rgb_array``, ``human`` or None.
        expert_variation: 0 to 1; how much the expert's style varies between episodes.
        normalized_actions: Actions from -1 to 1 over each joint's range instead of [rad], [m].

    Raises:
        ConfigError: an unknown task, option, camera, width or disturbance (valid ones named).
    """
    from il_robot.config import build
    from il_robot.sim.bimanual_env import BimanualEnv
    from il_robot.sim.disturbances import Disturbances
    from il_robot.sim.tasks import make_task

    if isinstance(disturbances, Mapping):
        disturbances = build(Disturbances, disturbances, 'disturbances')
    return BimanualEnv(
        make_task(task, task_options), spec or default_robot(), cameras=cameras, width=width,
        disturbances=disturbances, image_size=image_size, render_mode=render_mode,
        expert_variation=expert_variation, normalized_actions=normalized_actions)


def default_robot() -> RobotSpec:
    """The simulated dual arm, ``config/robots/sim_dual_arm.yaml``."""
    from il_robot.resources import named_config
    from il_robot.spec import load_robot_spec

    return load_robot_spec(named_config('robots', DEFAULT_ROBOT))


def task_names() -> tuple[str, ...]:
    """Names of all tasks."""
    from il_robot.sim.tasks import task_names as names

    return names()


register_envs()
