"""The cameras of the sim node: pictures of :class:`CameraStream` on image topics."""

from __future__ import annotations

import time as wall
from collections.abc import Callable, Sequence
from typing import Any

from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from il_robot.control.stats import Rate
from il_robot.errors import ConfigError, unknown
from il_robot.nodes import convert, topics
from il_robot.sim.bimanual_env import BimanualEnv
from il_robot.sim.camera_process import Picture
from il_robot.sim.camera_stream import CameraStream
from il_robot.spec import CameraSpec
from il_robot.statistics import Percentiles

TRANSPORTS = ('raw', 'compressed', 'both')


class SimCameras:
    """Publishes pictures of a world.

    Args:
        node: Whose publishers they are.
        env: The world.
        cameras: Which cameras.
        transport: ``raw``, ``compressed`` (JPEG) or ``both``.
        on_error: Told when drawing fails.

    Raises:
        ConfigError: an unknown transport.
        SimulationError: nothing can draw here.
    """

    def __init__(
        self, node: Node, env: BimanualEnv, cameras: Sequence[CameraSpec], transport: str,
        on_error: Callable[[str], None],
    ) -> None:
        if transport not in TRANSPORTS:
            raise ConfigError(unknown('image_transport', transport, TRANSPORTS))
        publish, qos = node.create_publisher, topics.IMAGE_QOS
        raw, jpeg = transport != 'compressed', transport != 'raw'
        self._cameras = tuple(cameras)
        names = [c.name for c in cameras]
        self._info = {n: publish(CameraInfo, topics.camera_info(n), qos) for n in names}
        self._raw = {n: publish(Image, topics.image(n), qos) for n in names if raw}
        self._jpeg = {
            n: publish(CompressedImage, topics.compressed(n), qos) for n in names if jpeg}
        self._rate, self._drawing = Rate(), Percentiles(100)
        self._env = env
        self._stream = CameraStream(
            env, cameras, rgb=raw, jpeg=jpeg, on_pictures=self._publish, on_error=on_error)
        node.get_logger().info(f'cameras are drawn by {self._stream.backend}')

    def replace(self, env: BimanualEnv) -> None:
        """Show another world; the old one still shows where this fails.

        Raises:
            SimulationError: nothing can draw here.
        """
        self._stream.replace(env)
        self._env = env

    def show(self, stamp: float, *, wait: bool) -> None:
        """Publish the world as it is now; see :meth:`CameraStream.show`."""
        self._stream.show(stamp, wait=wait)

    def _publish(self, stamp: float, pictures: dict[str, Picture], duration: float) -> None:
        """From the stream's thread, or from that of :meth:`show` where it waits."""
        self._drawing.add(duration)
        self._rate.tick(wall.perf_counter())
        for camera in self._cameras:
            name, picture = camera.name, pictures[camera.name]
            frame = f'{name}_optical_frame'
            self._info[name].publish(convert.camera_info(
                stamp, frame, camera, *self._env.image_size(camera)))
            if picture.rgb is not None:
                self._raw[name].publish(convert.image_message(stamp, frame, picture.rgb))
            if picture.jpeg is not None:
                self._jpeg[name].publish(convert.compressed_message(stamp, frame, picture.jpeg))

    def values(self) -> dict[str, Any]:
        """For the diagnostics."""
        drawing = {f'drawing_{k}_ms': 1e3 * v for k, v in self._drawing.values().items()}
        return {'renderer': self._stream.backend, 'skipped_pictures': self._stream.skipped,
                'pictures_per_s': self._rate.hertz(wall.perf_counter()), **drawing}

    def close(self) -> None:
        """End thread and process."""
        self._stream.close()
