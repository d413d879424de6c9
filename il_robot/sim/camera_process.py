"""Cameras in a process of their own, so that drawing never holds up the physics.

A picture of 640x480 takes about 30 ms on a CPU, one and a half control ticks at 50 Hz, and
neither moderngl nor PyBullet lets another Python thread run meanwhile. The process holds a copy
of the world and is told only where everything stands.
"""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from il_robot.errors import IlRobotError, SimulationError
from il_robot.processes import BEHIND
from il_robot.sim.bullet import p
from il_robot.sim.tasks.task import Task
from il_robot.sim.world import World
from il_robot.spec import CameraSpec, RobotSpec
from il_robot.types import UInt8

JPEG_QUALITY = 90
_START_TIMEOUT = 60.0


@dataclass(frozen=True)
class WorldPose:
    """Where everything in a world stands.

    Attributes:
        joints: Per arm the raw joint positions, both fingers last [rad, m].
        parts: Per part position [m] and quaternion xyzw.
    """

    joints: dict[str, tuple[float, ...]]
    parts: dict[str, tuple[tuple[float, ...], tuple[float, ...]]]


def read_pose(world: World) -> WorldPose:
    """Where everything stands now."""
    c = {'physicsClientId': world.client}
    joints = {
        name: tuple(row[0] for row in p.getJointStates(arm.body, arm.joints + arm.fingers, **c))
        for name, arm in world.arms.items()}
    parts = {name: p.getBasePositionAndOrientation(part.body, **c)
             for name, part in world.parts.items()}
    return WorldPose(joints, parts)


def show_pose(world: World, pose: WorldPose) -> None:
    """Put everything where it stands in another world, without physics."""
    c = {'physicsClientId': world.client}
    for name, positions in pose.joints.items():
        arm = world.arms[name]
        for joint, value in zip(arm.joints + arm.fingers, positions):
            p.resetJointState(arm.body, joint, value, 0.0, **c)
    for name, (position, quaternion) in pose.parts.items():
        p.resetBasePositionAndOrientation(world.parts[name].body, position, quaternion, **c)


@dataclass(frozen=True)
class Picture:
    """One camera's picture: ``(H, W, 3)`` RGB and JPEG, each only where it was asked for."""

    rgb: UInt8 | None
    jpeg: bytes | None


class CameraProcess:
    """Draws pictures of a world of this robot and task elsewhere.

    Args:
        spec: The robot.
        task: What is on the table.
        rgb: Send the pixels.
        jpeg: Send the compressed picture.

    Attributes:
        backend: What draws.

    Raises:
        SimulationError: the process did not start, or nothing can draw here.
    """

    def __init__(self, spec: RobotSpec, task: Task, *, rgb: bool, jpeg: bool) -> None:
        # spawn: a fork would copy PyBullet's client and the locks of ROS's threads
        context = multiprocessing.get_context('spawn')
        self._connection, theirs = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(theirs, spec, task, rgb, jpeg), daemon=True, name='cameras')
        self._process.start()
        theirs.close()
        if not self._connection.poll(_START_TIMEOUT):
            self.close()
            raise SimulationError(
                f'the camera process did not start within {_START_TIMEOUT:g} s')
        self.backend: str = self._receive()

    def take(
        self, pose: WorldPose, cameras: Sequence[tuple[CameraSpec, tuple[int, int]]]
    ) -> dict[str, Picture]:
        """Pictures by camera name; waits for them.

        Args:
            pose: Where everything stands.
            cameras: Where each camera is, with ``(width, height)`` [px].

        Raises:
            SimulationError: the process died or could not draw.
        """
        with contextlib.suppress(OSError):  # it is dead: receiving says so
            self._connection.send((pose, cameras))
        pictures: dict[str, Picture] = self._receive()
        return pictures

    def _receive(self) -> Any:
        try:
            answer = self._connection.recv()
        except (EOFError, OSError):
            raise SimulationError('the camera process died') from None
        if isinstance(answer, Exception):
            raise SimulationError(f'the cameras cannot draw: {answer}')
        return answer

    def close(self) -> None:
        """End the process; a second call does nothing."""
        self._connection.close()
        self._process.terminate()
        self._process.join()


def _serve(
    connection: Connection, spec: RobotSpec, task: Task, rgb: bool, jpeg: bool
) -> None:
    """The process's life: a copy of the world, then pictures until the pipe closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's business
    os.nice(BEHIND)
    try:
        with World(spec) as world:
            task.build(world)
            from il_robot.sim.renderer import make_renderer

            renderer = make_renderer(world.client)
            connection.send(renderer.backend)
            while True:
                pose, cameras = connection.recv()
                show_pose(world, pose)
                connection.send({
                    camera.name: _picture(renderer.render(camera, *size), rgb, jpeg)
                    for camera, size in cameras})
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return
    except IlRobotError as error:
        connection.send(error)


def _picture(image: UInt8, rgb: bool, jpeg: bool) -> Picture:
    return Picture(image if rgb else None, encode_jpeg(image) if jpeg else None)


def encode_jpeg(image: UInt8) -> bytes:
    """An RGB image ``(H, W, 3)`` as JPEG (libjpeg-turbo; 1.6 ms for 640x480)."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, 'JPEG', quality=JPEG_QUALITY)
    return buffer.getvalue()
