"""The ends of the wires to ros2_control: one link per controller, whatever kind it is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

from rcl_interfaces.srv import GetParameters
from rclpy.action import ActionClient
from rclpy.node import Node
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray
from trajectory_msgs.msg import JointTrajectory

from il_robot.control.gripper_goals import GripperGoals
from il_robot.control.hardware_check import ControllerSeen
from il_robot.errors import ConfigError
from il_robot.nodes import convert, topics
from il_robot.types import Float64
from il_robot.wiring import WiredController, Wiring

# Targets closer than this part of the gripper's range are one goal.
_SAME_GOAL = 0.02


class Link(ABC):
    """How to send to one controller, and what the graph shows of it."""

    @abstractmethod
    def send(self, stamp: float, rows: Float64, goal: Float64, period: float) -> None:
        """Send set-points.

        Args:
            stamp: ROS time of the first row [s].
            rows: ``(T, D)`` set-points of the whole robot in the drivers' units.
            goal: ``(D,)`` the newest target, likewise.
            period: Time between rows [s].
        """

    @abstractmethod
    def seen(self) -> ControllerSeen:
        """What the graph shows now."""

    @abstractmethod
    def ask(self) -> None:
        """Ask again for what :meth:`seen` needs to know."""

    @abstractmethod
    def close(self) -> None:
        """Give everything back."""


class ControllerLink(Link):
    """A link that sends."""

    def __init__(self, node: Node, wiring: Wiring, controller: WiredController) -> None:
        self.node, self.controller = node, controller
        self.names = wiring.drivers(controller.joints)
        self.joints = list(controller.joints)


class TopicLink(ControllerLink):
    """A controller that listens on a topic; it is asked which joints it moves."""

    def __init__(
        self, node: Node, wiring: Wiring, controller: WiredController, kind: type
    ) -> None:
        super().__init__(node, wiring, controller)
        self._publisher: Any = node.create_publisher(kind, controller.topic, topics.SETPOINT_QOS)
        self._answer: tuple[str, ...] | None = None
        self._request: Any = None
        owner = controller.topic.rpartition('/')[0]
        self._asked: Any = node.create_client(GetParameters, f'{owner}/get_parameters')

    def ask(self) -> None:
        """Ask the controller for its parameter ``joints``; the answer comes later.

        An old answer does not count: it may be that of a controller that is gone.
        """
        self._answer = None
        if self._request is not None:
            self._asked.remove_pending_request(self._request)
            self._request = None
        if self._asked.service_is_ready():
            self._request = self._asked.call_async(GetParameters.Request(names=['joints']))
            self._request.add_done_callback(self._on_answer)

    def _on_answer(self, future: Any) -> None:
        response = future.result()
        self._request = None
        if response is not None and response.values:
            # A parameter that is not set has no strings.
            self._answer = tuple(response.values[0].string_array_value) or None

    def seen(self) -> ControllerSeen:
        """See the base class."""
        topic = self._publisher.topic_name
        return ControllerSeen(
            self._publisher.get_subscription_count(),
            max(0, self.node.count_publishers(topic) - 1), self._answer)

    def close(self) -> None:
        """See the base class."""
        self.node.destroy_publisher(self._publisher)
        self.node.destroy_client(self._asked)


class ForwardLink(TopicLink):
    """forward_command_controller, position_controllers: values in the controller's order."""

    def __init__(self, node: Node, wiring: Wiring, controller: WiredController) -> None:
        super().__init__(node, wiring, controller, Float64MultiArray)

    def send(self, stamp: float, rows: Float64, goal: Float64, period: float) -> None:
        """See the base class."""
        self._publisher.publish(convert.setpoint_array(rows[0, self.joints]))


class TrajectoryLink(TopicLink):
    """joint_trajectory_controller: the set-points of the next moments with their times."""

    def __init__(self, node: Node, wiring: Wiring, controller: WiredController) -> None:
        super().__init__(node, wiring, controller, JointTrajectory)

    def send(self, stamp: float, rows: Float64, goal: Float64, period: float) -> None:
        """See the base class."""
        self._publisher.publish(convert.setpoint_trajectory(
            stamp, self.names, rows[:, self.joints], period))


def gripper_command(topic: str) -> Any:
    """The type of a gripper's action.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        from control_msgs.action import GripperCommand
    except ImportError:
        raise ConfigError(
            f'{topic} is a GripperCommand action, whose type is in control_msgs: install '
            'ros-$ROS_DISTRO-control-msgs, or let the gripper be moved by a '
            'forward_command_controller') from None
    return GripperCommand


class GripperLink(ControllerLink):
    """A gripper behind control_msgs/action/GripperCommand; goals replace each other."""

    def __init__(self, node: Node, wiring: Wiring, controller: WiredController) -> None:
        super().__init__(node, wiring, controller)
        action = gripper_command(controller.topic)
        self._goal_type = action.Goal
        self._client: Any = ActionClient(node, action, controller.topic)
        joint = wiring.joints[controller.joints[0]]
        self._goals = GripperGoals(_SAME_GOAL * (joint.upper - joint.lower) / abs(joint.gain))

    def send(self, stamp: float, rows: Float64, goal: Float64, period: float) -> None:
        """See the base class."""
        target = float(goal[self.joints[0]])
        if not self._client.server_is_ready():
            self._goals.forget()
        elif self._goals.send(target, stamp):
            message = self._goal_type()
            message.command.position = target
            message.command.max_effort = self.controller.max_effort
            self._client.send_goal_async(message)

    def seen(self) -> ControllerSeen:
        """See the base class."""
        return ControllerSeen(int(self._client.server_is_ready()))

    def ask(self) -> None:
        """See the base class; an action has no parameters."""

    def close(self) -> None:
        """See the base class."""
        self._client.destroy()


class DryLink(Link):
    """Shows on ``hardware/dry_run`` what ``link`` would send; the frame is its topic."""

    def __init__(self, link: ControllerLink, publisher: Any) -> None:
        self._link, self._publisher = link, publisher

    def send(self, stamp: float, rows: Float64, goal: Float64, period: float) -> None:
        """See the base class."""
        self._publisher.publish(convert.driver_joints(
            stamp, self._link.controller.topic, self._link.names, rows[0, self._link.joints]))

    def seen(self) -> ControllerSeen:
        """See the base class."""
        return self._link.seen()

    def ask(self) -> None:
        """See the base class."""
        self._link.ask()

    def close(self) -> None:
        """See the base class."""
        self._link.close()


_KINDS: dict[str, Callable[[Node, Wiring, WiredController], ControllerLink]] = {
    'forward': ForwardLink, 'trajectory': TrajectoryLink, 'gripper_action': GripperLink}


def open_links(node: Node, wiring: Wiring, *, dry_run: bool) -> Sequence[Link]:
    """A link to every controller, in the order of ``wiring.controllers``."""
    links = [_KINDS[c.kind](node, wiring, c) for c in wiring.controllers]
    if not dry_run:
        return links
    publisher = node.create_publisher(JointState, topics.DRY_RUN, topics.STATE_QOS)
    return [DryLink(link, publisher) for link in links]
