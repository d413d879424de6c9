"""The URDF of a robot, made from urdf/*.xacro and the robot's own limits and geometry."""

from __future__ import annotations

import tempfile
from functools import lru_cache
from pathlib import Path

from il_robot.errors import SimulationError
from il_robot.resources import resource
from il_robot.spec import RobotSpec


def urdf_text(spec: RobotSpec, arms: str = 'all') -> str:
    """The URDF of ``spec``.

    Args:
        spec: A robot with ``geometry``.
        arms: ``'all'``, or one arm's name for that arm alone.

    Raises:
        SimulationError: the robot has no geometry to build a model from.
        SpecError: no such arm.
    """
    if arms != 'all':
        spec.arm(arms)
    if spec.geometry is None:
        raise SimulationError(
            f'{spec.name} has no `geometry`: only robots that fit urdf/arm.xacro can be simulated'
        )
    return _process(spec, arms)


@lru_cache(maxsize=16)
def _process(spec: RobotSpec, arms: str) -> str:
    import xacro
    import yaml

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / 'robot.yaml'
        path.write_text(yaml.safe_dump(spec.to_dict()))
        mappings = {'spec': str(path), 'arms': arms, 'display': 'false'}
        source = resource('urdf', 'dual_arm.urdf.xacro')
        # Short lines: PyBullet reads files in pieces of 1024 characters and splits longer ones.
        return str(xacro.process_file(str(source), mappings=mappings).toprettyxml(indent='  '))
