"""A session's way into the graph: reports about an episode come in, wishes go out.

Shared by the nodes that run episodes (:mod:`il_robot.control.session` says how).
"""

from __future__ import annotations

import time as wall
from collections.abc import Callable, Iterable
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.srv import SetParameters
from rclpy.node import Node
from rclpy.parameter import Parameter
from sensor_msgs.msg import JointState
from std_msgs.msg import String
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory

from il_robot.control.session_view import Reset, View, Wish
from il_robot.data.stream_check import stamp_of
from il_robot.nodes import convert, topics
from il_robot.nodes.node import Complaints
from il_robot.types import ControlMode

_SIMULATOR = 'sim'
# A reset unanswered for so long is asked for again: the simulator died over it [wall s].
_LOST = 10.0


class SessionPort:
    """See the module.

    Args:
        node: Its subscriptions, publishers and clients are made here.
        complain: For bad messages.
        on_state: Called with every state of the robot: a fast simulation must not wait for a
            timer.
        proposals: Whether the policy's proposals are watched.
    """

    def __init__(
        self, node: Node, complain: Complaints, on_state: Callable[[], None], *, proposals: bool
    ) -> None:
        self._complain, self._changed = complain, on_state
        self._values: dict[str, Any] = {}
        self._resetting = -_LOST
        self._request = node.create_publisher(String, topics.REQUEST, topics.REQUEST_QOS)
        self._set_seed: Any = node.create_client(SetParameters, f'{_SIMULATOR}/set_parameters')
        self._reset: Any = node.create_client(Trigger, topics.SIM_RESET)
        subscribe = node.create_subscription
        subscribe(JointState, topics.JOINT_STATES, self._on_state, topics.STATE_QOS)
        for topic, callback in (
            (topics.SIM_EPISODE, self._on_episode), (topics.MODE, self._on_mode),
            (topics.RECORDING, self._on_recorder), (topics.POLICY_STATUS, self._on_policy),
        ):
            subscribe(DiagnosticArray, topic, callback, topics.LATCHED_QOS)
        if proposals:
            subscribe(JointTrajectory, topics.POLICY_PROPOSAL, self._on_proposal,
                      topics.CHUNK_QOS, raw=True)

    @property
    def view(self) -> View:
        """What is known now."""
        return View(**self._values)

    def carry_out(self, wishes: Iterable[Wish]) -> None:
        """Publish requests; reset the simulator."""
        for wish in wishes:
            if isinstance(wish, Reset):
                self._reset_to(wish.seed, wall.monotonic())
            else:
                self._request.publish(String(data=wish))

    # -- what comes in ----------------------------------------------------------------------
    def _on_state(self, message: JointState) -> None:
        self._values['stamp'] = convert.seconds(message.header.stamp)
        self._changed()

    def _on_episode(self, message: DiagnosticArray) -> None:
        values = convert.status_values(message)
        try:
            self._values |= {
                'episode': int(values['episode']), 'seed': int(values['seed']),
                'stage_name': values['stage_name'],
                **{key: values[key] == 'true' for key in ('success', 'terminated', 'truncated')}}
        except (KeyError, ValueError) as error:
            self._complain(topics.SIM_EPISODE,
                           f'{topics.SIM_EPISODE}: {error!r} is missing or wrong')

    def _on_mode(self, message: DiagnosticArray) -> None:
        values = convert.status_values(message)
        if values.get('mode') in ControlMode.__members__:
            self._values |= {'mode': ControlMode[values['mode']],
                             # an arbiter that was started again knows of no driver
                             'lost': ' lost: ' in (reason := values.get('reason', ''))
                             or reason == 'started',
                             'help': values.get('help', '')}

    def _on_recorder(self, message: DiagnosticArray) -> None:
        values = convert.status_values(message)
        self._values |= {
            'recorder': values.get('state'), 'outcome': values.get('outcome', ''),
            'recorder_episode': int(values.get('sim_episode') or -1)}

    def _on_policy(self, message: DiagnosticArray) -> None:
        self._values['policy_ready'] = convert.status_values(message).get('state') == 'active'

    def _on_proposal(self, data: bytes) -> None:
        self._values['policy_stamp'] = stamp_of(data)

    # -- what goes out ----------------------------------------------------------------------
    def _reset_to(self, seed: int, now: float) -> None:
        """Set the simulator's seed, then reset it; one at a time."""
        if now - self._resetting < _LOST or not (
                self._set_seed.service_is_ready() and self._reset.service_is_ready()):
            return
        self._resetting = now
        value = Parameter('seed', value=seed).to_parameter_msg()
        future = self._set_seed.call_async(SetParameters.Request(parameters=[value]))
        future.add_done_callback(lambda _: self._reset.call_async(
            Trigger.Request()).add_done_callback(self._reset_done))

    def _reset_done(self, future: Any) -> None:
        self._resetting = -_LOST
        if not future.result().success:
            self._complain(topics.SIM_RESET, f'{topics.SIM_RESET}: {future.result().message}')
