"""The arbiter node: the single writer of ``command``.

Callbacks store what comes in (:mod:`il_robot.nodes.proposals`); every joint_states message
triggers one decision of :class:`il_robot.control.arbiter.Arbiter` and one command with the same
stamp. In lockstep the decision for an observation waits until every source that is alive has
answered it; in real time some milliseconds for a driver that is always that quick
(:mod:`il_robot.control.punctuality`).
"""

from __future__ import annotations

import sys
import time as wall
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from sensor_msgs.msg import JointState
from std_msgs.msg import String
from std_srvs.srv import Trigger

from il_robot.config import build
from il_robot.control.arbiter import Arbiter, ArbiterConfig
from il_robot.control.body import Body
from il_robot.control.clearance import Clearances
from il_robot.control.decision import Decision
from il_robot.control.modes import REQUESTS, Request
from il_robot.control.stamps import Stamps
from il_robot.nodes import convert, topics
from il_robot.nodes.arbiter_report import ArbiterReport
from il_robot.nodes.node import Complaints, declare, events_executor, run_node
from il_robot.nodes.proposals import Proposals
from il_robot.nodes.stop_latch import StopLatch, stop_file
from il_robot.resources import named_config
from il_robot.sim.meshes import has_model, robot_model
from il_robot.spec import load_robot_spec
from il_robot.types import ControlMode, Float32, Source

_RECORDER_REQUESTS = ('start', 'success', 'failure', 'discard')


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
        self._clearances = self._watched()
        self.arbiter = Arbiter(self.spec, self._config(), self._clearances)
        self._complain = Complaints(self)
        self._latch = StopLatch(Path(declare(
            self, 'stop_file', '', 'keeps a stop until it is cleared, also over a restart; empty: '
            'in ROS_HOME/il_robot', read_only=True) or stop_file(self.spec)))
        if self._latch.stopped:
            self.arbiter.mode, self.arbiter.reason = ControlMode.STOPPED, self._latch.reason
        self._requests: list[Request] = []
        self._pending: tuple[float, Float32, float] | None = None
        self._stamps = Stamps(trusting=self._lockstep)
        self._decided = -1.0
        self._last: Decision | None = None
        self._make_interfaces()
        if self._latch.stopped:
            # before the robot's first word
            self._report.stopped(f'{self._latch.reason}; request reset once it is safe')

    def _watched(self) -> Clearances | None:
        """Distances to keep, where the robot has a model and they are wanted."""
        wanted = declare(
            self, 'distances', True, 'keep arms apart from each other and above the table',
            read_only=True)
        if not wanted or not has_model(self.spec):
            self.get_logger().warning(
                'distances between arms and to the table are not watched: ' + (
                    f'{self.spec.name} has no model; name its URDF in safety.model of the robot '
                    'file (docs/safety.md)' if wanted else 'parameter distances is false'))
            return None
        clearances = Clearances(Body(self.spec, *robot_model(self.spec)))
        at_rest = clearances.exact(self.spec.rest.astype(np.float64))
        near = [clearances.names[i] for i in np.flatnonzero(at_rest < 0)]
        if near:
            self.get_logger().warning(
                f'closer in the rest posture than they may be: {", ".join(near[:5])}'
                f'{" ..." if len(near) > 5 else ""}. Do arms.base, safety.model and '
                'safety.clearance of the robot file fit the robot?')
        return clearances

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
            'acceleration': declare(
                self, 'acceleration', default.acceleration, 'when accelerations are limited: '
                'in each handover (the rest is as the driver wants it), or always',
                read_only=True),
            'resume': declare(
                self, 'resume', default.resume,
                'a policy that was lost and came back goes on without a request',
                read_only=True),
        }
        return build(ArbiterConfig, values, 'arbiter')

    def _make_interfaces(self) -> None:
        self._command = self.create_publisher(JointState, topics.COMMAND, topics.COMMAND_QOS)
        self._message = convert.joint_state(0.0, self.spec, self.spec.rest)
        self._report = ArbiterReport(self, self.spec, self._complain, lockstep=self._lockstep)
        self._listen(JointState, topics.JOINT_STATES, self._on_state, topics.STATE_QOS)
        self._proposals = Proposals(
            self.spec, self._answer_time, self._listen, self._complain, self._try_to_decide)
        self._listen(DiagnosticArray, topics.SIM_EPISODE, self._on_episode, topics.LATCHED_QOS)
        self._listen(String, topics.REQUEST, self._on_request, topics.REQUEST_QOS)
        for kind in REQUESTS:
            self.create_service(
                Trigger, topics.service_of(kind), partial(self._on_service, kind))
        # Wall time: these watch for silence, also of a paused or dead simulation clock.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        longest = self._patience if self._lockstep else max(self._answer_time, 1e-3)
        self._overdue = self.create_timer(longest, self._on_overdue, clock=steady)
        self._overdue.cancel()  # started by each observation that is not answered at once
        self.create_timer(0.5, self._report.publish_mode, clock=steady)
        self.create_timer(1.0, self._report.publish_diagnostics, clock=steady)

    def _listen(self, kind: Any, topic: str, callback: Callable[[Any], Any], qos: Any) -> None:
        """Subscribe; a bad message is complained about instead of dying of it."""
        self.create_subscription(kind, topic, self._complain.guard(topic, callback), qos)

    # -- what comes in ----------------------------------------------------------------------
    def _on_state(self, message: JointState) -> None:
        state = convert.positions_by_name(
            message.name, message.position, self.spec, topics.JOINT_STATES)
        stamp = convert.seconds(message.header.stamp)
        received = self._report.heard = wall.perf_counter()
        verdict = self._stamps.judge(stamp)
        if verdict == 'restart':
            self._restart(stamp)
        elif verdict != 'next':
            self._complain(topics.JOINT_STATES, f'ignored a state of {stamp:.3f} s after one of '
                           f'{self._stamps.last:.3f} s: two publishers, or two clocks?')
            return
        if not self._lockstep and stamp - self._decided < 0.9 * self.spec.dt:
            return  # the robot reports faster than it is controlled
        if not self._lockstep and self.arbiter.doubts(stamp, state):
            self._complain('jump', f'ignored a state that jumped at {stamp:.3f} s, unless the '
                           f'next one confirms it; do two nodes publish {topics.JOINT_STATES}?')
            return
        self._proposals.heard(stamp)
        self._pending = (stamp, state, received)
        self._proposals.punctuality.observe(stamp, received)
        self._try_to_decide()
        if self._pending is not None:
            self._overdue.reset()

    def _restart(self, stamp: float) -> None:
        self._complain('clock', f'time went back to {stamp:.3f} s: starting again; did sim start '
                       f'anew, or do two nodes publish {topics.JOINT_STATES}?')
        before, self.arbiter = self.arbiter, Arbiter(
            self.spec, self.arbiter.config, self._clearances)
        if before.mode is ControlMode.STOPPED:  # latched, whatever happens to the robot
            self.arbiter.mode, self.arbiter.reason = before.mode, before.reason
        self._proposals.clear()
        self._decided = -1.0

    def _on_episode(self, message: DiagnosticArray) -> None:
        if self._proposals.episode(message):
            self.arbiter.end_run()
            self.arbiter.expect_jump()

    def _on_request(self, message: String) -> None:
        if message.data.strip() in _RECORDER_REQUESTS:
            self.arbiter.end_run()
            return
        self._take(Request.parse(message.data, self.spec))

    def _take(self, request: Request) -> None:
        self._requests.append(request)
        if request.kind == 'stop':  # also where no state of the robot comes, and nobody decides
            self.arbiter.stop('request stop')
            self._keep(stopped=True, reason='request stop')
            if self._report.silent:  # otherwise the next decision tells
                self._report.stopped('request stop')

    def _keep(self, *, stopped: bool, reason: str) -> None:
        """Let a restart know whether it is stopped."""
        if stopped is self._latch.stopped:
            return
        try:
            if stopped:
                self._latch.keep(reason)
            else:
                self._latch.clear()
        except OSError as error:
            self._complain('stop_file', f'a restart will not know of {reason!r}: {error}')

    def _on_service(
        self, kind: str, _: Trigger.Request, response: Trigger.Response
    ) -> Trigger.Response:
        """A request that is answered: carried out at once, at the last observation's time."""
        self._take(Request(kind))
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
        drivers = set(self._last.drivers) if self._last is not None else set()
        if not overdue and (self._proposals.missing(stamp) if self._lockstep
                            else self._proposals.awaited(stamp, drivers)):
            return
        self._pending = None
        self._decide(stamp, state, received)

    def _decide(self, stamp: float, state: Float32, received: float | None) -> Decision:
        requests, self._requests = self._requests, []
        proposals = self._proposals.at(stamp)
        decision = self.arbiter.decide(stamp, state, proposals, requests)
        self._proposals.punctuality.decided()
        self._last, self._last_state, self._decided = decision, state, stamp
        self._command.publish(convert.restated(self._message, stamp, decision.command))
        self._keep(stopped=decision.mode is ControlMode.STOPPED, reason=decision.reason)
        self._report.decided(
            stamp, decision, None if received is None else wall.perf_counter() - received)
        if Source.POLICY in decision.drivers and Source.POLICY in proposals:
            self._report.policy_age.add(stamp - proposals[Source.POLICY].stamp)
        return decision

    def _on_overdue(self) -> None:
        """Go on without who has not answered yet."""
        self._overdue.cancel()
        if self._pending is None:
            return
        if self._lockstep:
            missing = self._proposals.missing(self._pending[0])
            silent = ', '.join(s.name.lower() for s in missing)
            self._complain('lockstep', f'no answer from {silent} within {self._patience:g} s: '
                           'going on without')
        self._report.counts['lockstep timeouts' if self._lockstep else 'late answers'] += 1
        self._try_to_decide(overdue=True)


def main(args: Sequence[str] | None = None) -> int:
    """Run the node; the exit code."""
    return run_node(ArbiterNode, args, events_executor, real_time=True)


if __name__ == '__main__':
    sys.exit(main())
