"""ROS messages to the package's own types and back: the one door.

What comes in is checked here: names, lengths, repetition, finite values, stamps. A message
that does not fit raises MessageError with what would be right; the node logs it and goes on.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from geometry_msgs.msg import PoseStamped, Twist
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, JointState, Joy
from std_msgs.msg import Float32 as Float32Message
from std_msgs.msg import Float64MultiArray
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from il_robot.config import build
from il_robot.control.chunks import ChunkBuffer, Execution
from il_robot.control.vectors import narrowed
from il_robot.errors import ConfigError, IlRobotError, unknown
from il_robot.spec import CameraSpec, RobotSpec
from il_robot.types import ActionChunk, ControlMode, Float32, Float64, Source, UInt8

# How long a trajectory for a controller holds its end [s].
_HOLD = 0.25


class MessageError(IlRobotError):
    """A message that does not fit the robot or the contract of its topic."""


def seconds(stamp: Time) -> float:
    """A ROS time as float seconds."""
    return float(stamp.sec) + 1e-9 * float(stamp.nanosec)


def time(stamp: float) -> Time:
    """Float seconds as a ROS time; :func:`seconds` gives the very same float back.

    Whole seconds are taken off first: ``stamp * 1e9`` of a wall time would round by 128 ns,
    and a stamp that was answered would not equal the one that was asked.
    """
    sec, nanosec = _split(stamp)
    return Time(sec=sec, nanosec=nanosec)


def _split(stamp: float) -> tuple[int, int]:
    whole = math.floor(stamp)
    carry, nanosec = divmod(round((stamp - whole) * 1e9), 1_000_000_000)
    return whole + carry, nanosec


def positions_by_name(
    names: Sequence[str], values: Sequence[float], spec: RobotSpec, what: str, *,
    whole_arms: bool = False,
) -> Float32:
    """``(D,)`` float32 in RobotSpec order from names and values in any order.

    Args:
        names: Joint names of the message.
        values: As many positions [rad, m].
        spec: The robot.
        what: The topic, for the error.
        whole_arms: Accept a message about some of the arms only (each complete); the rest is
            NaN.

    Raises:
        MessageError: lengths differ; an unknown, repeated or missing joint; not finite.
    """
    if len(names) != len(values):
        raise MessageError(f'{what}: {len(names)} names but {len(values)} positions')
    if tuple(names) == spec.joint_names:
        # What our own nodes send; this stands between an observation and its command.
        out, finite = narrowed(values)
        if finite:
            return out
    index = _index(spec)
    out = np.full(spec.dim, np.nan, np.float32)
    seen: set[str] = set()
    for name, value in zip(names, values):
        if name not in index:
            raise MessageError(f'{what}: {unknown("joint", name, spec.joint_names)}')
        if name in seen:
            raise MessageError(f'{what}: joint {name} is there twice')
        seen.add(name)
        with np.errstate(over='ignore'):
            out[index[name]] = value
        if not np.isfinite(out[index[name]]):
            raise MessageError(f'{what}: position of {name} is {value}')
    for arm in spec.arms:
        wanted = spec.joint_names[spec.arm_slice(arm.name)]
        missing = [n for n in wanted if n not in seen]
        if missing and (not whole_arms or len(missing) < len(wanted)):
            raise MessageError(
                f'{what}: joint(s) missing: {", ".join(missing)}'
                + ('; an arm must be complete or absent' if whole_arms else ''))
    if not seen:
        raise MessageError(f'{what}: no joint at all')
    return out


_INDEX: dict[str, dict[str, int]] = {}


def _index(spec: RobotSpec) -> dict[str, int]:
    if spec.hash not in _INDEX:
        _INDEX[spec.hash] = {name: i for i, name in enumerate(spec.joint_names)}
    return _INDEX[spec.hash]


def joint_state(
    stamp: float, spec: RobotSpec, position: Float32 | Float64,
    velocity: Float64 | None = None, effort: Float64 | None = None,
) -> JointState:
    """A JointState of the joints in ``position``; NaN entries (absent arms) are left out."""
    message = JointState()
    message.header.stamp = time(stamp)
    present = np.isfinite(position)
    if present.all():
        message.name = list(spec.joint_names)
        message.position = position.tolist()
    else:
        message.name = [n for n, here in zip(spec.joint_names, present) if here]
        message.position = position[present].tolist()
    if velocity is not None:
        message.velocity = velocity.tolist()
    if effort is not None:
        message.effort = effort.tolist()
    return message


def restated(message: JointState, stamp: float, position: Float32) -> JointState:
    """The same message with other contents: no new one for each tick of a loop.

    Args:
        message: A JointState of all joints.
        stamp: [s].
        position: ``(D,)`` finite positions [rad, m].
    """
    when = message.header.stamp
    when.sec, when.nanosec = _split(stamp)
    message.position = array('d', position.tolist())
    return message


def driver_joints(
    stamp: float, frame: str, names: Sequence[str], position: Float64
) -> JointState:
    """Set-points ``(J,)`` under the driver's own names and in its units."""
    message = JointState(name=list(names), position=position.tolist())
    message.header.stamp, message.header.frame_id = time(stamp), frame
    return message


def setpoint_array(values: Float64) -> Float64MultiArray:
    """Set-points ``(J,)`` in the order of a forward_command_controller."""
    return Float64MultiArray(data=values.tolist())


def setpoint_trajectory(
    stamp: float, names: Sequence[str], rows: Float64, period: float
) -> JointTrajectory:
    """Set-points ``(T, J)``, the first for ``stamp`` and one per period after it [s].

    With its first point already due, a joint_trajectory_controller moves between our points; a
    stamp of zero would make it start anew from the measured position at every message. The last
    row is held for a while: a trajectory that is over when it arrives would be refused.
    """
    message = JointTrajectory(joint_names=list(names))
    message.header.stamp = time(stamp)
    times = [number * period for number in range(len(rows))]
    for offset, row in zip([*times, times[-1] + _HOLD], [*rows, rows[-1]]):
        point = JointTrajectoryPoint(positions=row.tolist())
        after = time(offset)
        point.time_from_start.sec, point.time_from_start.nanosec = after.sec, after.nanosec
        message.points.append(point)
    return message


def chunk_message(chunk: ActionChunk, spec: RobotSpec) -> JointTrajectory:
    """A chunk as a JointTrajectory: stamp of the observation, times from it."""
    message = JointTrajectory()
    message.header.stamp = time(chunk.stamp)
    message.joint_names = list(spec.joint_names)
    for when, position in zip(chunk.times, chunk.positions):
        point = JointTrajectoryPoint()
        point.positions = position.tolist()
        after = time(float(when) - chunk.stamp)
        point.time_from_start.sec, point.time_from_start.nanosec = after.sec, after.nanosec
        message.points.append(point)
    return message


def chunk(message: JointTrajectory, spec: RobotSpec, what: str) -> ActionChunk:
    """The inverse of :func:`chunk_message`, joints in any order.

    Raises:
        MessageError: no points, wrong joints or lengths, not finite, times not increasing.
    """
    if not message.points:
        raise MessageError(f'{what}: a chunk without points')
    order = [_position_of(name, spec, what) for name in message.joint_names]
    if sorted(order) != list(range(spec.dim)):
        raise MessageError(f'{what}: needs each of the {spec.dim} joints exactly once')
    stamp = seconds(message.header.stamp)
    rows = [p.positions for p in message.points]
    if any(len(row) != spec.dim for row in rows):
        raise MessageError(f'{what}: every point needs {spec.dim} positions')
    positions = np.empty((len(rows), spec.dim), np.float32)
    positions[:, order] = np.asarray(rows, np.float32)
    if not np.isfinite(positions).all():
        raise MessageError(f'{what}: positions with NaN or infinity')
    times = stamp + np.array([
        p.time_from_start.sec + 1e-9 * p.time_from_start.nanosec for p in message.points])
    if (np.diff(times) <= 0).any():
        raise MessageError(f'{what}: time_from_start must increase from point to point')
    return ActionChunk(stamp, times, positions)


def _position_of(name: str, spec: RobotSpec, what: str) -> int:
    index = _index(spec).get(name)
    if index is None:
        raise MessageError(f'{what}: {unknown("joint", name, spec.joint_names)}')
    return index


def pose_message(stamp: float, pose: Float32, frame: str = 'base') -> PoseStamped:
    """A pose ``(7,)`` as a message."""
    message = PoseStamped()
    message.header.stamp, message.header.frame_id = time(stamp), frame
    values = [float(v) for v in pose]
    p, q = message.pose.position, message.pose.orientation
    p.x, p.y, p.z = values[:3]
    q.x, q.y, q.z, q.w = values[3:]
    return message


def pose(message: PoseStamped, what: str) -> Float32:
    """A pose ``(7,)`` float32 from a message.

    Raises:
        MessageError: not finite, or a quaternion that is not of unit length.
    """
    p, q = message.pose.position, message.pose.orientation
    out = np.array([p.x, p.y, p.z, q.x, q.y, q.z, q.w], np.float32)
    if not np.isfinite(out).all() or abs(float(np.linalg.norm(out[3:])) - 1.0) > 1e-2:
        raise MessageError(f'{what}: not a pose: {out.tolist()}')
    return out


def twist(message: Twist, what: str) -> Float64:
    """A twist ``(6,)``, linear then angular, in the units of the message.

    Raises:
        MessageError: not finite.
    """
    v, w = message.linear, message.angular
    out = np.array([v.x, v.y, v.z, w.x, w.y, w.z])
    if not np.isfinite(out).all():
        raise MessageError(f'{what}: not a twist: {out.tolist()}')
    return out


def fraction(message: Float32Message, what: str) -> float:
    """A number in [0, 1], for example of a trigger.

    Raises:
        MessageError: outside, or not finite.
    """
    value = float(message.data)
    if not 0.0 <= value <= 1.0:
        raise MessageError(f'{what}: {value:g} is not in [0, 1]')
    return value


def joy(message: Joy, what: str) -> tuple[list[float], list[int]]:
    """Axes in [-1, 1] and buttons of a pad.

    Raises:
        MessageError: an axis is not finite.
    """
    axes = np.array(message.axes, np.float64)
    if not np.isfinite(axes).all():
        raise MessageError(f'{what}: axes with NaN or infinity: {axes.tolist()}')
    return np.clip(axes, -1.0, 1.0).tolist(), list(message.buttons)


def image_message(stamp: float, frame: str, rgb: UInt8) -> Image:
    """An RGB image ``(H, W, 3)`` as a message (bytes handed over as they are)."""
    message = Image()
    message.header.stamp, message.header.frame_id = time(stamp), frame
    message.height, message.width = rgb.shape[:2]
    message.encoding, message.step = 'rgb8', rgb.shape[1] * 3
    message.data = rgb.tobytes()
    return message


def compressed_message(stamp: float, frame: str, jpeg: bytes) -> CompressedImage:
    """A JPEG as a message."""
    message = CompressedImage()
    message.header.stamp, message.header.frame_id = time(stamp), frame
    message.format, message.data = 'rgb8; jpeg compressed bgr8', jpeg
    return message


def camera_info(
    stamp: float, frame: str, camera: CameraSpec, width: int, height: int
) -> CameraInfo:
    """The calibration of an ideal pinhole with square pixels (K, R, P as in REP 104)."""
    focal = 0.5 * height / math.tan(math.radians(0.5 * camera.fovy))
    x, y = 0.5 * width, 0.5 * height
    message = CameraInfo()
    message.header.stamp, message.header.frame_id = time(stamp), frame
    message.width, message.height = width, height
    message.distortion_model, message.d = 'plumb_bob', [0.0] * 5
    message.k = [focal, 0.0, x, 0.0, focal, y, 0.0, 0.0, 1.0]
    message.r = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]
    message.p = [focal, 0.0, x, 0.0, 0.0, focal, y, 0.0, 0.0, 0.0, 1.0, 0.0]
    return message


def image(message: Image, what: str) -> UInt8:
    """``(H, W, 3)`` RGB from a raw image of encoding rgb8 or bgr8.

    Raises:
        MessageError: another encoding, or a size that does not fit the data.
    """
    if message.encoding not in ('rgb8', 'bgr8'):
        raise MessageError(f'{what}: encoding {message.encoding!r}; rgb8 or bgr8 is read')
    rows = np.frombuffer(message.data, np.uint8)
    if (not message.height or not message.width or message.step < 3 * message.width
            or rows.size != message.height * message.step):
        raise MessageError(f'{what}: {rows.size} bytes for {message.width}x{message.height}')
    rgb = rows.reshape(message.height, message.step)[:, :3 * message.width]
    rgb = rgb.reshape(message.height, message.width, 3)
    return rgb[..., ::-1] if message.encoding == 'bgr8' else rgb


_LEVELS = {
    'ok': DiagnosticStatus.OK, 'warn': DiagnosticStatus.WARN, 'error': DiagnosticStatus.ERROR,
    'stale': DiagnosticStatus.STALE,
}


def status_message(
    stamp: float, name: str, values: Mapping[str, Any], message: str = '', level: str = 'ok'
) -> DiagnosticArray:
    """One DiagnosticStatus with key/value pairs, in an array that carries the stamp."""
    array = DiagnosticArray()
    array.header.stamp = time(stamp)
    status = DiagnosticStatus(name=name, message=message, level=_LEVELS[level])
    status.values = [KeyValue(key=str(k), value=_text(v)) for k, v in values.items()]
    array.status = [status]
    return array


def status_values(array: DiagnosticArray) -> dict[str, str]:
    """The key/value pairs of the first status; empty where there is none."""
    return {v.key: v.value for v in array.status[0].values} if array.status else {}


def chunk_buffer(status: DiagnosticArray, spec: RobotSpec) -> tuple[str, ChunkBuffer]:
    """The buffer for the chunks of the policy whose ``policy/status`` this is.

    Returns:
        What it was made for (another text means another policy or way of execution), and an
        empty buffer.

    Raises:
        MessageError: a value is missing or wrong.
    """
    values = status_values(status)
    keys = ('checkpoint', 'chunk_size', 'execution_mode', 'n_action_steps', 'decay')
    try:
        checkpoint, size, mode, steps, decay = (values[key] for key in keys)
        blend = values.get('blend_steps', str(Execution.blend_steps))  # older ones do not say it
        execution = build(Execution, {
            'mode': mode, 'n_action_steps': int(steps), 'decay': float(decay),
            'blend_steps': int(blend)})
        buffer = ChunkBuffer(int(size), spec.dim, spec.dt, execution)
    except (KeyError, ValueError, ConfigError) as error:
        raise MessageError(
            f'policy/status must have {", ".join(keys)}: {error or "missing"}') from None
    return ' '.join((checkpoint, size, mode, steps, decay, blend)), buffer


def driving(status: DiagnosticArray, spec: RobotSpec) -> tuple[ControlMode, tuple[Source, ...]]:
    """Mode and the driver of each arm out of ``session/mode``.

    Raises:
        MessageError: a value is missing or wrong.
    """
    values = status_values(status)
    try:
        drivers = tuple(Source[values[f'driver_{arm.name}'].upper()] for arm in spec.arms)
        return ControlMode[values['mode']], drivers
    except KeyError as error:
        raise MessageError(f'session/mode: {error} is missing or unknown') from None


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return 'true' if value else 'false'
    return f'{value:.6g}' if isinstance(value, float) else str(value)
