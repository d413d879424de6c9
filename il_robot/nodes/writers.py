"""How many living nodes write a topic; a node that crashed stays in the ROS graph for 20 s."""

from __future__ import annotations

from rclpy.event_handler import QoSLivelinessChangedInfo, SubscriptionEventCallbacks
from rclpy.node import Node


class Writers:
    """Counts them, for a subscription whose QoS asks its writers for signs of life.

    Args:
        node: Whose subscription it is.
        topic: As the node names it.
    """

    def __init__(self, node: Node, topic: str) -> None:
        self._node, self._topic = node, node.resolve_topic_name(topic)
        self._dead = 0
        self.events = SubscriptionEventCallbacks(liveliness=self._on_change)
        """For ``create_subscription(event_callbacks=...)``."""

    def _on_change(self, info: QoSLivelinessChangedInfo) -> None:
        self._dead = info.not_alive_count

    def count(self) -> int:
        """Writers now."""
        return max(0, self._node.count_publishers(self._topic) - self._dead)
