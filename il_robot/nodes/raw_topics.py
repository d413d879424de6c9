"""The topics that are recorded: subscribed raw, checked as bytes, remembered for a moment."""

from __future__ import annotations

import time as wall
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import import_module
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.subscription import Subscription
from rosgraph_msgs.msg import Clock as ClockMessage
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, JointState
from std_msgs.msg import String
from trajectory_msgs.msg import JointTrajectory

from il_robot.data.bags import Topic, qos
from il_robot.data.message_definitions import message_definition, share_folders
from il_robot.data.stream_check import Kind, StreamCheck
from il_robot.nodes import topics
from il_robot.spec import RobotSpec

PREROLL = 0.5
"""Messages from so long before an episode are remembered for its first rows [s]."""


@dataclass(frozen=True)
class TopicPlan:
    """A topic to record: what it is and what is expected of it.

    ``rate`` [Hz] is 0 where none is expected; a latched topic's last message belongs to every
    episode.
    """

    name: str
    type: type
    qos: QoSProfile
    kind: Kind = 'header'
    rate: float = 0.0
    latched: bool = False


def image_topic(camera: str, transport: str) -> str:
    """Where a camera's pictures come from: transport ``compressed`` or ``raw``."""
    return topics.compressed(camera) if transport == 'compressed' else topics.image(camera)


def contract(spec: RobotSpec, transport: str, clock: bool) -> Iterator[TopicPlan]:
    """Every topic of the graph but object poses, whose names only the simulator knows."""
    every, control = topics.EVERY_MESSAGE_QOS, spec.rates.control
    yield TopicPlan(topics.JOINT_STATES, JointState, every, 'joints', control)
    yield TopicPlan(topics.COMMAND, JointState, every, 'joints', control)
    yield TopicPlan(topics.TELEOP_PROPOSAL, JointState, every)
    yield TopicPlan(topics.EXPERT_PROPOSAL, JointState, every)
    yield TopicPlan(topics.POLICY_PROPOSAL, JointTrajectory, every)
    yield TopicPlan(topics.REQUEST, String, every, 'other')
    yield TopicPlan(topics.DIAGNOSTICS, DiagnosticArray, every, 'other')
    for name in (topics.MODE, topics.POLICY_STATUS, topics.SIM_EPISODE):
        yield TopicPlan(name, DiagnosticArray, topics.EVERY_STATE_QOS, 'other', latched=True)
    for camera in spec.cameras:
        name, rate = image_topic(camera.name, transport), spec.rates.camera
        if transport == 'compressed':
            yield TopicPlan(name, CompressedImage, topics.EVERY_IMAGE_QOS, 'jpeg', rate)
        else:
            yield TopicPlan(name, Image, topics.EVERY_IMAGE_QOS, 'image', rate)
        yield TopicPlan(topics.camera_info(camera.name), CameraInfo, every)
    if clock:
        yield TopicPlan(topics.CLOCK, ClockMessage, every, 'other')


@dataclass
class Stream:
    """One recorded topic: its full name, the check on it, the last message of a latched one."""

    plan: TopicPlan
    topic: str
    check: StreamCheck
    subscription: Subscription[Any] | None = None
    last: bytes | None = None
    _numbers: dict[bytes, int] = field(default_factory=dict)

    def lost_before(self, info: Any) -> int:
        """Messages of this publisher that the middleware lost, by their numbers."""
        number = info['publication_sequence_number']
        if number is None:
            return 0
        publisher = bytes(info['publisher_gid']['data'])
        before = self._numbers.get(publisher, number - 1)
        self._numbers[publisher] = number
        return max(0, number - before - 1)


@dataclass(frozen=True)
class RawMessage:
    """A serialized message; times of receipt and sending [ns since the epoch].

    ``stamp`` is its header's [s], NaN where it has none.
    """

    stream: Stream
    data: bytes
    stamp: float
    received: int
    sent: int


class RawTopics:
    """Subscribes to topics and hands over every message as it is.

    Args:
        node: For subscriptions and the graph.
        spec: The robot, for what is expected of the streams.
        receive: Called with every message and what is wrong with it (kind, text).
        now: ROS time [s].
    """

    def __init__(
        self, node: Node, spec: RobotSpec,
        receive: Callable[[RawMessage, list[tuple[str, str]]], None],
        now: Callable[[], float],
    ) -> None:
        self.streams: dict[str, Stream] = {}
        self._node, self._spec, self._receive, self._now = node, spec, receive, now
        self._recent: deque[RawMessage] = deque()
        self._refused: set[str] = set()
        self._objects = node.resolve_topic_name('object') + '/'

    def subscribe(self, plans: Iterable[TopicPlan]) -> None:
        """Listen to topics, each once."""
        for plan in plans:
            if plan.name not in self.streams:
                stream = Stream(
                    plan, self._node.resolve_topic_name(plan.name),
                    StreamCheck(plan.name, plan.kind, plan.rate, self._spec.joint_names))
                self.streams[plan.name] = stream
                self._listen(stream, plan.qos)

    def recent(self, start: float) -> Iterator[RawMessage]:
        """What was received just before and belongs to an episode from ``start`` [s] on.

        The last message of a latched topic always does.
        """
        recent = {id(message.stream) for message in self._recent}
        received = self._recent[0].received if self._recent else wall.time_ns()
        for stream in self.streams.values():
            if stream.last is not None and id(stream) not in recent:
                yield RawMessage(stream, stream.last, float('nan'), received, 0)
        for message in self._recent:
            if not message.stamp < start - PREROLL:
                yield message

    def discover(self, extra: Iterable[str]) -> None:
        """Listen to object poses, and to further topics of any type, that have appeared."""
        control = self._spec.rates.control
        types = dict(self._node.get_topic_names_and_types())
        self.subscribe(
            TopicPlan('object/' + topic.removeprefix(self._objects), PoseStamped,
                      topics.EVERY_MESSAGE_QOS, rate=control)
            for topic, names in types.items()
            if topic.startswith(self._objects) and topic.endswith('/pose')
            and 'geometry_msgs/msg/PoseStamped' in names)
        for name in extra:
            full = self._node.resolve_topic_name(name)
            if full in types and name not in self._refused:
                try:
                    kind = _message_type(types[full][0])
                except (ImportError, AttributeError) as error:
                    self._refused.add(name)
                    self._node.get_logger().error(
                        f'{full} is not recorded: its type is not installed: {error}')
                    continue
                self.subscribe([TopicPlan(name, kind, topics.EVERY_MESSAGE_QOS, 'other')])

    def adapt(self) -> None:
        """Ask no more reliability than the publishers offer, or nothing would come."""
        for stream in self.streams.values():
            assert stream.subscription is not None
            asked = stream.subscription.qos_profile
            if asked.reliability is ReliabilityPolicy.RELIABLE and any(
                    offer.qos_profile.reliability is ReliabilityPolicy.BEST_EFFORT
                    for offer in self._node.get_publishers_info_by_topic(stream.topic)):
                self._node.get_logger().info(
                    f'{stream.topic} is published best effort: messages may be lost')
                self._listen(stream, QoSProfile(
                    depth=asked.depth, durability=asked.durability,
                    reliability=ReliabilityPolicy.BEST_EFFORT))

    def describe(self, topic: str, kind: type) -> Topic:
        """A topic as a bag describes it, with what its publishers offer now.

        Raises:
            DatasetError: the message's definition is not installed.
        """
        offers = []
        for publisher in self._node.get_publishers_info_by_topic(topic):
            p = publisher.qos_profile
            offers.append(qos(p.reliability.name.lower(), p.durability.name.lower(), p.depth,
                              p.history.name.lower()))
        name = f'{kind.__module__.partition(".")[0]}/msg/{kind.__name__}'
        text, type_hash = _definition(name)
        return Topic(topic, name, text, type_hash, tuple(offers))

    def _listen(self, stream: Stream, profile: QoSProfile) -> None:
        if stream.subscription is not None:
            self._node.destroy_subscription(stream.subscription)

        def receive(data: bytes, info: Any) -> None:
            self._take(stream, data, info)

        stream.subscription = self._node.create_subscription(
            stream.plan.type, stream.plan.name, receive, profile, raw=True)

    def _take(self, stream: Stream, data: bytes, info: Any) -> None:
        received = wall.time_ns()
        wrong = stream.check.receive(data, self._now(), stream.lost_before(info))
        stamp = float('nan') if stream.plan.kind == 'other' else stream.check.stamp
        message = RawMessage(stream, data, stamp, received, info['source_timestamp'])
        if stream.plan.latched:
            stream.last = data
        self._recent.append(message)
        while received - self._recent[0].received > PREROLL * 1e9:
            self._recent.popleft()
        self._receive(message, wrong)


@lru_cache(maxsize=256)
def _definition(name: str) -> tuple[str, str]:
    return message_definition(name, share_folders())


def _message_type(name: str) -> type:
    package, kind, message = name.split('/')
    found: type = getattr(import_module(f'{package}.{kind}'), message)
    return found
