"""Registers the tasks with Gymnasium: ``gymnasium.make('il_robot/TransferCube-v0')``.

setup.py names :func:`register_envs` as a ``gymnasium.envs`` plug-in, so that Gymnasium finds
the environments without an import of ours.
"""

from __future__ import annotations

from gymnasium.envs.registration import register, registry

ENV_IDS = {
    'il_robot/TransferCube-v0': 'transfer_cube',
    'il_robot/InsertPeg-v0': 'insert_peg',
    'il_robot/LiftTray-v0': 'lift_tray',
}


def register_envs() -> None:
    """Register every task once; a second call does nothing."""
    for env_id, task in ENV_IDS.items():
        if env_id not in registry:
            # The environment truncates by itself: its limit belongs to the task.
            register(env_id, entry_point='il_robot.sim:make', kwargs={'task': task})
