"""The topics that a policy sees beside the joint states: object poses and cameras."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from geometry_msgs.msg import PoseStamped
from rclpy.lifecycle import LifecycleNode
from sensor_msgs.msg import CompressedImage, Image

from il_robot.control.observe import ObservationAssembler
from il_robot.data.pictures import decode_picture, raw_picture, resized
from il_robot.errors import ConfigError, unknown
from il_robot.nodes import convert, topics
from il_robot.policies.checkpoint import Checkpoint
from il_robot.types import UInt8

TRANSPORTS = ('compressed', 'raw')
Listen = Callable[[Any, str, Callable[[Any], None], Any], Any]


class PolicyInputs:
    """Subscribes to what one checkpoint sees, and puts observations together.

    Pictures are decoded and made as small as the policy wants them when they arrive, once each,
    whether one observation or several look at them.

    Args:
        node: Whose subscriptions they are.
        checkpoint: Names objects and cameras.
        listen: Subscribes; complains of an IlRobotError and ignores that message.
        on_change: Called after each pose or picture that was taken.
        period: Control period [s].
        max_age: Oldest pose that counts [s].
        max_image_age: Oldest picture that counts [s].
        transport: ``compressed`` or ``raw``.

    Raises:
        ConfigError: an unknown transport.
    """

    def __init__(
        self, node: LifecycleNode, checkpoint: Checkpoint, listen: Listen,
        on_change: Callable[[], None], *, period: float, max_age: float, max_image_age: float,
        transport: str,
    ) -> None:
        if transport not in TRANSPORTS:
            raise ConfigError(unknown('image_transport', transport, TRANSPORTS))
        seen, objects = checkpoint.observation, checkpoint.given
        self._node, self._size, self._on_change = node, seen.image_size, on_change
        self._topics = {name: topics.object_pose(name) for name in objects}
        kind, topic = (CompressedImage, topics.compressed) if transport == 'compressed' else (
            Image, topics.image)
        self._camera_topics = {name: topic(name) for name in seen.cameras}
        self.assembler = ObservationAssembler(
            objects, period=period, max_age=max_age, cameras=seen.cameras,
            max_image_age=max_image_age)
        self._subscriptions = [
            listen(PoseStamped, name, partial(self._on_object, key), topics.STATE_QOS)
            for key, name in self._topics.items()]
        self._subscriptions += [
            listen(kind, name, partial(self._on_image, key), topics.IMAGE_SUBSCRIBER_QOS)
            for key, name in self._camera_topics.items()]

    def missing(self) -> list[str]:
        """Topics that keep the newest joint states waiting."""
        return [
            *(self._topics[name] for name in self.assembler.missing()),
            *(self._camera_topics[name] for name in self.assembler.missing_cameras())]

    def _on_object(self, name: str, message: PoseStamped) -> None:
        pose = convert.pose(message, self._topics[name])
        self.assembler.put_object(name, convert.seconds(message.header.stamp), pose)
        self._on_change()

    def _on_image(self, name: str, message: Any) -> None:
        picture = resized(_decoded(message), self._size)
        self.assembler.put_image(name, convert.seconds(message.header.stamp), picture)
        self._on_change()

    def close(self) -> None:
        """End the subscriptions."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)


def _decoded(message: Any) -> UInt8:
    if isinstance(message, CompressedImage):
        return decode_picture(bytes(message.data))
    return raw_picture(message)
