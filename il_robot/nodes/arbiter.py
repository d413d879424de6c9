"""The arbiter node: the single writer of ``command``.

Callbacks store what comes in; every joint_states message triggers one decision of
:class:`il_robot.control.arbiter.Arbiter` and one command with the same stamp. In lockstep the
decision for an observation waits until every source that is alive has answered it; in real time
some milliseconds for a driver that is always that quick (:mod:`il_robot.control.punctuality`).
"""

from __future__ import annotations

import math
import sys
import time as wall
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from sensor_msgs.msg import JointState
from std_msgs.msg import String
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory

from il_robot.control.arbiter import REQUESTS, Arbiter, ArbiterConfig, Decision, Proposal, Request
from il_robot.control.chunks import ChunkBuffer
from il_robot.control.contest import Contest
from il_robot.control.punctuality import Punctuality
from il_robot.control.roll_call import RollCall
from il_robot.errors import ConfigError, IlRobotError
from il_robot.nodes import convert, topics
from il_robot.nodes.node import Complaints, declare, events_executor, run_node
from il_robot.resources import named_config
from il_robot.spec import load_robot_spec
from il_robot.types import ControlMode, Float32, Source

_RECORDER_REQUESTS = ('start', 'success', 'failure', 'discard')
# A source that answered one of the last so many observations is waited for in lockstep.
_ALIVE_TICKS = 5
_NODES = ('sim', 'hardware', 'teleop', 'expert', 'policy', 'recorder')
"""Whose end is worth a word, since nobody else may notice it."""
_STATE_SILENCE = 0.25
"""Without joint_states for so long [wall s] the robot is reported as lost."""


class ArbiterNode(Node):
    """See the module."""

    def __init__(self) -> None:
        super().__init__('arbiter')
        robot = declare(self, 'robot', 'sim_dual_arm', 'robot: a name in config/robots, or a file',
                        read_only=True)
        self.spec = load_robot_spec(named_config('robots', robot))
        self._lockstep = declare(
            self, 'lockstep', False, 'answer each observation once all live sources answered it',
            read_only=True)
        self._patience = declare(
            self, 'lockstep_timeout', 1.0, 'longest wait for a source in lockstep [wall s]',
            low=0.01, high=60.0)
        dt = self.spec.dt
        self._answer_time = declare(
            self, 'answer_time', round(0.4 * dt, 4), 'in real time, longest wait for a driver '
            'that answers each observation so quickly [s]; 0: none', low=0.0, high=0.8 * dt,
            read_only=True)
        self._punctuality = Punctuality(self._answer_time)
        self.arbiter = Arbiter(self.spec, self._config())
        self._complain = Complaints(self)
        self._roll = RollCall(_NODES)
        self._contests = {s: Contest() for s in (Source.TELEOP, Source.EXPERT, Source.POLICY)}
        self._proposals: dict[Source, Proposal] = {}
        self._buffer: ChunkBuffer | None = None
        self._policy = self._episode = ''
        self._since = -math.inf
        self._requests: list[Request] = []
        self._pending: tuple[float, Float32, float] | None = None
        self._decided, self._mode_since = -1.0, math.inf
        self._heard = 0.0
        self._last: Decision | None = None
        self._counts: Counter[str] = Counter()
        self._latencies: list[float] = []
        self._make_interfaces()

    def _config(self) -> ArbiterConfig:
        default = ArbiterConfig()
        values = {
            'human_timeout': declare(
                self, 'human_timeout', default.human_timeout,
                'age from which teleop and expert proposals no longer count [s]',
                low=0.02, high=2.0, read_only=True),
            'policy_timeout': declare(
                self, 'policy_timeout', default.policy_timeout,
                'age of the observation behind a chunk from which it no longer counts [s]',
                low=0.02, high=5.0, read_only=True),
            'state_timeout': declare(
                self, 'state_timeout', default.state_timeout,
                'silence of joint_states after which nobody goes on driving by himself [s]',
                low=0.1, high=5.0, read_only=True),
            'handover_time': declare(
                self, 'handover_time', default.handover_time,
                'time over which a change of driver blends [s]', low=0.05, high=5.0,
                read_only=True),
            'speed_scale': declare(
                self, 'speed_scale', default.speed_scale, 'factor on the velocity limits',
                low=0.01, high=1.0, read_only=True),
            'resume': declare(
                self, 'resume', default.resume,
                'a policy that was lost and came back goes on without a request',
                read_only=True),
        }
        return ArbiterConfig(**values)

    def _make_interfaces(self) -> None:
        self._command = self.create_publisher(JointState, topics.COMMAND, topics.COMMAND_QOS)
        self._mode = self.create_publisher(DiagnosticArray, topics.MODE, topics.LATCHED_QOS)
        self._diagnostics = self.create_publisher(
            DiagnosticArray, topics.DIAGNOSTICS, topics.DIAGNOSTICS_QOS)
        subscribe = self.create_subscription
        subscribe(JointState, topics.JOINT_STATES, self._on_state, topics.STATE_QOS)
        for source, topic in ((Source.TELEOP, topics.TELEOP_PROPOSAL),
                              (Source.EXPERT, topics.EXPERT_PROPOSAL)):
            subscribe(JointState, topic, self._guarded(
                topic, partial(self._on_proposal, source, topic)), topics.PROPOSAL_QOS)
        subscribe(JointTrajectory, topics.POLICY_PROPOSAL, self._guarded(
            topics.POLICY_PROPOSAL, self._on_chunk), topics.CHUNK_QOS)
        subscribe(DiagnosticArray, topics.POLICY_STATUS, self._guarded(
            topics.POLICY_STATUS, self._on_policy_status), topics.LATCHED_QOS)
        subscribe(DiagnosticArray, topics.SIM_EPISODE, self._on_episode, topics.LATCHED_QOS)
        subscribe(String, topics.REQUEST, self._on_request, topics.REQUEST_QOS)
        subscribe(DiagnosticArray, topics.DIAGNOSTICS, self._on_diagnostics,
                  topics.DIAGNOSTICS_QOS)
        for kind in REQUESTS:
            self.create_service(
                Trigger, topics.service_of(kind), partial(self._on_service, kind))
        # Wall time: these watch for silence, also of a paused or dead simulation clock.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        longest = self._patience if self._lockstep else max(self._answer_time, 1e-3)
        self._overdue = self.create_timer(longest, self._on_overdue, clock=steady)
        self._overdue.cancel()  # started by each observation that is not answered at once
        self.create_timer(0.5, self._publish_mode, clock=steady)
        self.create_timer(1.0, self._publish_diagnostics, clock=steady)

    def _guarded(self, topic: str, callback: Callable[[Any], None]) -> Callable[[Any], None]:
        """A callback that complains about a bad message instead of dying of it."""
        def guarded(message: Any) -> None:
            try:
                callback(message)
            except IlRobotError as error:
                self._complain(topic, f'ignored a message: {error}')
        return guarded

    # -- what comes in ----------------------------------------------------------------------
    def _on_state(self, message: JointState) -> None:
        try:
            state = convert.positions_by_name(
                message.name, message.position, self.spec, topics.JOINT_STATES)
        except IlRobotError as error:
            self._complain(topics.JOINT_STATES, f'ignored a message: {error}')
            return
        stamp = convert.seconds(message.header.stamp)
        received = wall.perf_counter()
        self._heard = received
        if stamp < self._decided - 1.0:
            # The clock went back: another simulation started.
            self._restart(stamp)
        elif stamp < self._decided:
            self._complain(topics.JOINT_STATES, f'ignored a state of {stamp:.3f} s after one of '
                           f'{self._decided:.3f} s: two publishers?')
            return
        if not self._lockstep and stamp - self._decided < 0.9 * self.spec.dt:
            return  # the robot reports faster than it is controlled
        self._pending = (stamp, state, received)
        self._punctuality.observe(stamp, received)
        self._try_to_decide()
        if self._pending is not None:
            self._overdue.reset()

    def _restart(self, stamp: float) -> None:
        self._complain('clock', f'time went back to {stamp:.3f} s: starting again; did sim start '
                       f'anew, or do two nodes publish {topics.JOINT_STATES}?')
        before, self.arbiter = self.arbiter, Arbiter(self.spec, self.arbiter.config)
        if before.mode is ControlMode.STOPPED:  # latched, whatever happens to the robot
            self.arbiter.mode, self.arbiter.reason = before.mode, before.reason
        self._proposals.clear()
        if self._buffer is not None:
            self._buffer.clear()
        self._decided, self._since = -1.0, -math.inf

    def _on_proposal(self, source: Source, topic: str, message: JointState) -> None:
        position = convert.positions_by_name(
            message.name, message.position, self.spec, topic, whole_arms=True)
        stamp = convert.seconds(message.header.stamp)
        if stamp < self._since - 1e-9:
            return
        if self._contested(source, topic, stamp, position):
            self._proposals.pop(source, None)
            return
        self._proposals[source] = Proposal(stamp, position)
        self._punctuality.answer(source, stamp, wall.perf_counter())
        self._try_to_decide()

    def _contested(self, source: Source, topic: str, stamp: float, values: Float32) -> bool:
        """Whether two nodes speak for one source; two targets in turn would shake the arm."""
        contested = self._contests[source].put(stamp, values)
        if contested:
            self._complain(f'{topic} rivals', f'more than one node publishes {topic}: none of '
                           'them counts until there is only one; stop the others')
        return contested

    def _on_policy_status(self, message: DiagnosticArray) -> None:
        """Make the buffer anew for another policy, or another way of executing its chunks."""
        identity, buffer = convert.chunk_buffer(message, self.spec)
        if identity != self._policy:
            self._policy, self._buffer = identity, buffer

    def _on_episode(self, message: DiagnosticArray) -> None:
        """Another episode: what was proposed for the last one no longer counts."""
        episode = convert.status_values(message).get('episode', '')
        if episode == self._episode:
            return
        self._episode = episode
        self._since = convert.seconds(message.header.stamp)
        self._proposals = {
            source: p for source, p in self._proposals.items() if p.stamp >= self._since - 1e-9}
        if self._buffer is not None:
            self._buffer.clear()

    def _on_chunk(self, message: JointTrajectory) -> None:
        if self._buffer is None:
            raise ConfigError(f'a chunk before any {topics.POLICY_STATUS}')
        chunk = convert.chunk(message, self.spec, topics.POLICY_PROPOSAL)
        if chunk.stamp < self._since - 1e-9:
            return
        if self._contested(
                Source.POLICY, topics.POLICY_PROPOSAL, chunk.stamp, chunk.positions):
            self._buffer.clear()
            return
        self._buffer.push(chunk)
        self._punctuality.answer(Source.POLICY, chunk.stamp, wall.perf_counter())
        self._try_to_decide()

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        if message.status:
            self._roll.heard(message.status[0].name)

    def _on_request(self, message: String) -> None:
        if message.data.split()[:1] and message.data.split()[0] in _RECORDER_REQUESTS:
            return
        try:
            self._requests.append(Request.parse(message.data, self.spec))
        except ConfigError as error:
            self._complain(topics.REQUEST, f'ignored: {error}')

    def _on_service(
        self, kind: str, _: Trigger.Request, response: Trigger.Response
    ) -> Trigger.Response:
        """A request that is answered: carried out at once, at the last observation's time."""
        self._requests.append(Request(kind))
        if self._last is None or self._lockstep:
            response.success, response.message = True, 'taken; see session/mode'
            return response
        decision = self._decide(self._decided, self._last_state, None)
        response.success = not decision.refused
        response.message = '; '.join(decision.refused) or decision.mode.name
        return response

    # -- decision ---------------------------------------------------------------------------
    def _try_to_decide(self, *, overdue: bool = False) -> None:
        if self._pending is None:
            return
        stamp, state, received = self._pending
        if not overdue and (self._missing(stamp) if self._lockstep else self._awaited(stamp)):
            return
        self._pending = None
        self._decide(stamp, state, received)

    def _missing(self, stamp: float) -> list[Source]:
        """Sources that are alive and have not answered this observation yet."""
        horizon = stamp - (_ALIVE_TICKS + 0.5) * self.spec.dt
        missing: list[Source] = [
            source for source, p in self._proposals.items()
            if source is not Source.POLICY and horizon <= p.stamp < stamp - 1e-9
        ]
        buffer = self._buffer
        if buffer is not None and buffer.due(stamp):
            period = buffer.execution.n_action_steps * self.spec.dt
            if buffer.stamp >= horizon - period:
                missing.append(Source.POLICY)
        return missing

    def _awaited(self, stamp: float) -> list[Source]:
        """Drivers who will answer this observation in a moment."""
        drivers = set(self._last.drivers) if self._last is not None else set()
        if self._buffer is None or not self._buffer.due(stamp):
            drivers.discard(Source.POLICY)
        return self._punctuality.awaited(drivers, wall.perf_counter())

    def _decide(self, stamp: float, state: Float32, received: float | None) -> Decision:
        proposals = dict(self._proposals)
        if self._buffer is not None:
            action = self._buffer.action(stamp)
            if action is not None:
                # A regression ends a hair outside the limits now and then; evaluation in
                # process clips in the same way.
                inside = np.clip(action, self.spec.lower, self.spec.upper)
                proposals[Source.POLICY] = Proposal(self._buffer.stamp, inside)
        requests, self._requests = self._requests, []
        decision = self.arbiter.decide(stamp, state, proposals, requests)
        self._punctuality.decided()
        self._last, self._last_state, self._decided = decision, state, stamp
        if decision.changed or stamp < self._mode_since:
            self._mode_since = stamp
        self._command.publish(convert.joint_state(stamp, self.spec, decision.command))
        if received is not None:
            self._latencies.append(wall.perf_counter() - received)
        self._report(decision)
        return decision

    def _report(self, decision: Decision) -> None:
        if decision.changed:
            text = f'{decision.mode.name}: {decision.reason}'
            if decision.fault:
                self.get_logger().warning(text)
            else:
                self.get_logger().info(text)
            self._publish_mode()
        for text in decision.refused:
            self.get_logger().warning(f'refused {text}')
        if decision.limited:
            self._counts['limited'] += 1
            self._complain('limit', f'command limited: {decision.limited}')

    def _on_overdue(self) -> None:
        """Go on without who has not answered yet."""
        self._overdue.cancel()
        if self._pending is None:
            return
        if self._lockstep:
            silent = ', '.join(s.name.lower() for s in self._missing(self._pending[0]))
            self._complain('lockstep', f'no answer from {silent} within {self._patience:g} s: '
                           'going on without')
        self._counts['lockstep timeouts' if self._lockstep else 'late answers'] += 1
        self._try_to_decide(overdue=True)

    # -- what goes out ----------------------------------------------------------------------
    def _publish_mode(self) -> None:
        """With the stamp of the first command it is true for, however often it is said."""
        decision = self._last
        if decision is None:
            return
        values: dict[str, Any] = {'mode': decision.mode.name}
        for arm, driver in zip(self.spec.arms, decision.drivers):
            values[f'driver_{arm.name}'] = driver.name.lower()
        values['intervention'] = decision.intervention
        values['reason'] = decision.reason
        values['silent'] = ' '.join(self._roll.silent)
        self._mode.publish(convert.status_message(
            self._mode_since, topics.MODE, values, decision.reason,
            'warn' if decision.fault else 'ok'))

    def _call_roll(self) -> None:
        """Say once that a node fell silent, and once that it is back."""
        gone, back = self._roll.call()
        for name in gone:
            self.get_logger().warning(
                f'{name} has fallen silent: it was ended, died, or hangs')
        for name in back:
            self.get_logger().info(f'{name} is back')

    def _publish_diagnostics(self) -> None:
        silence = wall.perf_counter() - self._heard
        lost = silence > _STATE_SILENCE and not self._lockstep
        rivals = self.count_publishers(topics.COMMAND) - 1
        latencies, self._latencies = sorted(self._latencies), []
        self._call_roll()
        level, message = 'ok', 'waiting for joint_states'
        if self._last is not None:
            message = self._last.mode.name
            if self._last.fault:
                level, message = 'warn', f'{message}: {self._last.reason}'
        if self._roll.silent:
            level, message = 'warn', f'{message}; silent: {", ".join(self._roll.silent)}'
        if rivals > 0:
            level = 'error'
            message = f'{rivals} other publisher(s) on {topics.COMMAND}: stop them'
            self._complain('rivals', f'{message} (one that died goes by itself within 20 s)')
        elif lost:
            level, message = 'stale', 'no joint_states: is sim or hardware running?'
            if self._last is not None:
                self._complain('state', message)
        values: dict[str, Any] = {
            'nodes': ' '.join(self._roll.present), 'silent': ' '.join(self._roll.silent),
            'decisions_per_s': len(latencies), **self._counts}
        if latencies:
            for percent in (50, 95, 99):
                index = min(len(latencies) - 1, len(latencies) * percent // 100)
                values[f'latency_p{percent}_ms'] = 1e3 * latencies[index]
        values |= {f'ignored {k}': v for k, v in self._complain.counts.items()}
        now = self.get_clock().now().nanoseconds * 1e-9
        self._diagnostics.publish(
            convert.status_message(now, 'arbiter', values, message, level))


def main(args: Sequence[str] | None = None) -> int:
    """Run the node; the exit code."""
    return run_node(ArbiterNode, args, events_executor)


if __name__ == '__main__':
    sys.exit(main())
