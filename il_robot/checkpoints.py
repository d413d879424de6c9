"""Where checkpoints are, and which pictures they were made for: what can be said without torch.

What is inside is :mod:`il_robot.policies.checkpoint`'s business.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from il_robot.errors import CheckpointError, ConfigError
from il_robot.spec import RobotSpec

DESCRIPTION = 'checkpoint.json'


def find_checkpoint(path: Path | str) -> Path:
    """``path`` itself where it is a checkpoint, else the newest one of the run ``path``.

    Raises:
        CheckpointError: neither.
    """
    path = Path(path)
    if (path / DESCRIPTION).is_file():
        return path
    inside = list_checkpoints(path)
    if inside:
        return inside[-1]
    why = f'no {DESCRIPTION} in it' if path.exists() else 'no such folder'
    raise CheckpointError(f'{path} is no checkpoint ({why}); give a folder of "il_robot train"')


def list_checkpoints(run: Path) -> list[Path]:
    """The checkpoints of a training run, oldest first."""
    return sorted(p.parent for p in run.glob(f'checkpoints/[!.]*/{DESCRIPTION}'))


def recorded_cameras(path: Path | str) -> dict[str, tuple[int, int]]:
    """Height and width [px] of each camera's pictures that a checkpoint was trained on.

    Nothing is checked here: where there is no checkpoint, or one that cannot be read, there are
    no cameras, and whoever loads it says what is wrong.
    """
    try:
        data = json.loads((find_checkpoint(path) / DESCRIPTION).read_text())
        return {name: (height, width) for name, (height, width) in data['recorded'].items()}
    except (CheckpointError, OSError, ValueError, TypeError, LookupError, AttributeError):
        return {}


def camera_arguments(
    recorded: Mapping[str, tuple[int, int]], robot: RobotSpec | None
) -> dict[str, Any]:
    """Arguments of :func:`il_robot.sim.make` for what a policy sees; empty without cameras.

    Pictures are drawn as large as they were recorded and made smaller as in training.

    Args:
        recorded: Height and width [px] by camera, as in the checkpoint.
        robot: Of the dataset.

    Raises:
        ConfigError: the cameras were recorded with different sizes that are not their own.
    """
    if not recorded:
        return {}
    cameras, sizes = list(recorded), set(recorded.values())
    if len(sizes) == 1:
        height, width = sizes.pop()
        return {'cameras': cameras, 'image_size': [width, height]}
    if robot is not None and all(
            recorded[c.name] == (c.height, c.width)
            for c in robot.cameras if c.name in cameras):
        return {'cameras': cameras}
    raise ConfigError(
        f'the cameras were recorded with different sizes ({dict(recorded)}), which no '
        f'environment here draws; record all with one --image-size')
