"""Registers the tasks with Gymnasium; ``import il_robot.sim`` calls it.

Gymnasium 1.0 removed plug-ins: somebody has to import the package, the user or Gymnasium itself,
which does for ids like ``gymnasium.make('il_robot.sim:il_robot/TransferCube-v0')``.
"""

from __future__ import annotations

ENV_IDS = {
    'il_robot/TransferCube-v0': 'transfer_cube',
    'il_robot/InsertPeg-v0': 'insert_peg',
    'il_robot/LiftTray-v0': 'lift_tray',
}


def register_envs() -> None:
    """Register every task once; a second call does nothing, nor one without Gymnasium.

    Here actions are scaled to [-1, 1], as reinforcement learning libraries expect and
    ``gymnasium.utils.env_checker`` asks for.
    """
    try:
        from gymnasium.envs.registration import register, registry
    except ModuleNotFoundError:
        return  # a robot's URDF is made without it
    for env_id, task in ENV_IDS.items():
        if env_id not in registry:
            # The environment truncates by itself: its limit belongs to the task.
            register(env_id, entry_point='il_robot.sim:make',
                     kwargs={'task': task, 'normalized_actions': True})
