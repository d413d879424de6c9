"""The model of a robot's arms for distances: its URDF, and the meshes that it names."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from il_robot.errors import SpecError
from il_robot.sim.description import urdf_text
from il_robot.spec import RobotSpec
from il_robot.types import Float64


def has_model(spec: RobotSpec) -> bool:
    """Whether distances of this robot can be watched at all."""
    return spec.safety.model is not None or spec.geometry is not None


def robot_model(spec: RobotSpec) -> tuple[str, Callable[[str], Float64]]:
    """The text of the URDF, and what reads a mesh of it: ``(N, 3)`` vertices [m] by file name.

    Raises:
        SpecError: the file cannot be read.
        SimulationError: the robot has no model.
    """
    own = spec.safety.model
    if own is None:
        return urdf_text(spec), lambda name: _vertices(name, Path(), '')
    folder = Path(spec.source).absolute().parent
    path = folder / own.urdf
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f'{spec.name}: safety.model.urdf: cannot read {path}: {error}') from None
    meshes = str(folder / own.meshes) if own.meshes else ''
    return text, lambda name: _vertices(name, path.parent, meshes)


def _vertices(name: str, beside: Path, meshes: str) -> Float64:
    path = _file(name, beside, meshes)
    try:
        import trimesh
    except ImportError:
        raise SpecError(f'{path}: meshes need trimesh: pip install trimesh') from None
    try:
        mesh = trimesh.load_mesh(path)
        points = np.asarray(mesh.vertices, np.float64).reshape(-1, 3)
    except Exception as error:  # whatever the formats' readers make of a damaged file
        raise SpecError(f'{path}: not a mesh that can be read (STL and OBJ always can; DAE needs '
                        f'pycollada): {error}') from None
    if not points.size or not np.isfinite(points).all():
        raise SpecError(f'{path}: a mesh without vertices, or with NaN or infinity')
    return points


def _file(name: str, beside: Path, meshes: str) -> Path:
    """Where the file of a URDF's ``filename`` is.

    Raises:
        SpecError: it is nowhere.
    """
    if not name.startswith('package://'):
        path = beside / name.removeprefix('file://')
        tried = [path]
    else:
        package, _, rest = name.removeprefix('package://').partition('/')
        tried = [Path(p) / 'share' / package / rest for p in os.environ.get(
            'AMENT_PREFIX_PATH', '').split(os.pathsep) if p]
        if meshes:
            tried = [Path(meshes) / package / rest, Path(meshes) / rest]
    for path in tried:
        if path.is_file():
            return path
    raise SpecError(f'{name}: no such file ({", ".join(map(str, tried)) or "no package is known"})'
                    '; set safety.model.meshes to the folder that has it')
