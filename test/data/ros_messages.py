"""ROS messages as bytes, made by rosbags: no ROS is needed to test what reads bags."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from rosbags.typesys import Stores, get_typestore

from il_robot.data.bags import Topic, qos

STORE = get_typestore(Stores.ROS2_KILTED)
JOINTS = 'sensor_msgs/msg/JointState'
POSE = 'geometry_msgs/msg/PoseStamped'
STATUS = 'diagnostic_msgs/msg/DiagnosticArray'
CHUNK = 'trajectory_msgs/msg/JointTrajectory'
IMAGE = 'sensor_msgs/msg/Image'
JPEG = 'sensor_msgs/msg/CompressedImage'


def topic(name: str, kind: str) -> Topic:
    """A topic with its definition."""
    return Topic(name, kind, _definition(kind), STORE.hash_rihs01(kind), (qos(),))


@cache
def _definition(kind: str) -> str:
    return STORE.generate_msgdef(kind, ros_version=2)[0]


def _serialize(kind: str, **fields: Any) -> bytes:
    return bytes(STORE.serialize_cdr(STORE.types[kind](**fields), kind))


def _time(stamp: float, kind: str = 'Time') -> Any:
    whole = int(np.floor(stamp))
    return STORE.types[f'builtin_interfaces/msg/{kind}'](
        sec=whole, nanosec=round((stamp - whole) * 1e9))


def _header(stamp: float, frame: str = '') -> Any:
    return STORE.types['std_msgs/msg/Header'](stamp=_time(stamp), frame_id=frame)


def joints(stamp, names, position) -> bytes:
    return _serialize(
        JOINTS, header=_header(stamp), name=list(names),
        position=np.asarray(position, np.float64), velocity=np.zeros(0), effort=np.zeros(0))


def pose(stamp, values) -> bytes:
    x, y, z, *q = (float(v) for v in values)
    return _serialize(
        POSE, header=_header(stamp, 'base'), pose=STORE.types['geometry_msgs/msg/Pose'](
            position=STORE.types['geometry_msgs/msg/Point'](x=x, y=y, z=z),
            orientation=STORE.types['geometry_msgs/msg/Quaternion'](*q)))


def status(stamp, **values) -> bytes:
    pair, one = (STORE.types[f'diagnostic_msgs/msg/{n}'] for n in ('KeyValue', 'DiagnosticStatus'))
    return _serialize(STATUS, header=_header(stamp), status=[one(
        level=0, name='x', message='', hardware_id='',
        values=[pair(key=k, value=str(v)) for k, v in values.items()])])


def chunk(stamp, names, times, positions) -> bytes:
    point = STORE.types['trajectory_msgs/msg/JointTrajectoryPoint']
    nothing = np.zeros(0)
    return _serialize(CHUNK, header=_header(stamp), joint_names=list(names), points=[
        point(positions=np.asarray(p, np.float64), velocities=nothing, accelerations=nothing,
              effort=nothing, time_from_start=_time(t - stamp, 'Duration'))
        for t, p in zip(times, positions)])


def image(stamp, rgb) -> bytes:
    return _serialize(
        IMAGE, header=_header(stamp, 'camera'), height=rgb.shape[0], width=rgb.shape[1],
        encoding='rgb8', is_bigendian=0, step=3 * rgb.shape[1], data=rgb.reshape(-1))


def jpeg(stamp, rgb) -> bytes:
    import io

    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(rgb).save(out, 'JPEG', quality=90)
    return _serialize(JPEG, header=_header(stamp, 'camera'), format='jpeg',
                      data=np.frombuffer(out.getvalue(), np.uint8))
