"""``features`` of ``meta/info.json``: every column's dtype, shape and names (LeRobot v3.0)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from il_robot.data import keys
from il_robot.errors import DatasetError
from il_robot.spec import CameraSpec, RobotSpec

Feature = dict[str, Any]
Features = dict[str, Feature]

VIDEO_CODEC, PIXEL_FORMAT = 'h264', 'yuv420p'


def make_features(
    spec: RobotSpec, object_names: Sequence[str], cameras: Sequence[CameraSpec], fps: float
) -> Features:
    """The columns of a dataset of this robot, in the order they are written.

    Args:
        spec: Gives the joint names (state, action, proposals) and the arm names (source).
        object_names: Objects whose poses are recorded; may be empty.
        cameras: Cameras recorded, each with its width and height [pixels]; may be empty.
        fps: Rows per second [Hz].

    Raises:
        DatasetError: a name with '/', a camera or object twice, or an odd image size.
    """
    for what, names in (('camera', [c.name for c in cameras]), ('object', list(object_names))):
        if len(set(names)) != len(names) or any('/' in n or not n for n in names):
            raise DatasetError(f'{what} names must differ, without "/", got {names}')
    joints = list(spec.joint_names)
    table: Features = {keys.STATE: _feature('float32', len(joints), joints)}
    if object_names:
        poses = [f'{name}.{field}' for name in object_names for field in keys.POSE_FIELDS]
        table[keys.OBJECTS] = _feature('float32', len(poses), poses)
    for camera in cameras:
        table[keys.image_key(camera.name)] = _video(camera, fps)
    for key in (keys.ACTION, keys.PROPOSAL_POLICY, keys.PROPOSAL_EXPERT):
        table[key] = _feature('float32', len(joints), joints)
    arms = [arm.name for arm in spec.arms]
    table[keys.SOURCE] = _feature('int64', len(arms), arms)
    for key, dtype in (
        (keys.INTERVENTION, 'bool'), (keys.ROUND, 'int64'), (keys.REWARD, 'float32'),
        (keys.DONE, 'bool'), (keys.SUCCESS, 'bool'), (keys.TIMESTAMP, 'float32'),
        (keys.FRAME, 'int64'), (keys.EPISODE, 'int64'), (keys.INDEX, 'int64'),
        (keys.TASK, 'int64'),
    ):
        table[key] = _feature(dtype, 1, None)
    return table


def _feature(dtype: str, size: int, names: list[str] | None) -> Feature:
    return {'dtype': dtype, 'shape': [size], 'names': names}


def _video(camera: CameraSpec, fps: float) -> Feature:
    if camera.width % 2 or camera.height % 2:
        raise DatasetError(
            f'camera {camera.name}: {camera.width} x {camera.height} cannot be encoded as '
            f'{PIXEL_FORMAT}; width and height must be even'
        )
    return {
        'dtype': 'video',
        'shape': [camera.height, camera.width, 3],
        'names': ['height', 'width', 'channels'],
        'info': {
            'video.height': camera.height, 'video.width': camera.width,
            'video.codec': VIDEO_CODEC, 'video.pix_fmt': PIXEL_FORMAT,
            'video.is_depth_map': False, 'video.fps': fps, 'video.channels': 3,
            'has_audio': False,
        },
    }


def is_image(feature: Mapping[str, Any]) -> bool:
    """Whether the column holds pictures (``video`` files or ``image`` bytes in the table)."""
    return feature['dtype'] in ('video', 'image')


def is_numeric(feature: Mapping[str, Any]) -> bool:
    """Whether the column is kept in memory: numbers, no text, pictures or messages."""
    try:
        return np.dtype(feature['dtype']).kind in 'biuf'
    except TypeError:  # video, image, string, language
        return False


def object_names(features: Mapping[str, Feature]) -> tuple[str, ...]:
    """The objects whose poses a dataset holds; empty where it holds none or names none."""
    names = (features.get(keys.OBJECTS) or {}).get('names') or ()
    if isinstance(names, Mapping):  # LeRobot also allows {'motors': [...]}
        return ()
    prefixes = [str(name).rpartition('.')[0] for name in names[::7]]
    expected = [f'{prefix}.{field}' for prefix in prefixes for field in keys.POSE_FIELDS]
    return tuple(prefixes) if expected == list(names) else ()


def feature_differences(ours: Mapping[str, Feature], theirs: Mapping[str, Feature]) -> list[str]:
    """One line per column that differs in dtype, shape or names: ``key: ours | theirs``."""
    lines = []
    for key in sorted({*ours, *theirs}):
        a, b = (_identity(table.get(key)) for table in (ours, theirs))
        if a != b:
            lines.append(f'{key}: {a} | {b}')
    return lines


def _identity(feature: Mapping[str, Any] | None) -> str:
    if feature is None:
        return 'absent'
    names = feature.get('names')
    shown = '' if names is None else f' names {list(names)}'
    return f'{feature["dtype"]} {list(feature["shape"])}{shown}'
