"""What drivers propose, as the arbiter takes it in: the newest word of each source that counts.

Proposals for the last episode and those of two nodes that speak for one source do not count.
"""

from __future__ import annotations

import math
import time as wall
from collections.abc import Callable, Collection
from functools import partial
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from sensor_msgs.msg import JointState
from trajectory_msgs.msg import JointTrajectory

from il_robot.control.arbiter import Proposal
from il_robot.control.chunks import ChunkBuffer
from il_robot.control.contest import Contest
from il_robot.control.punctuality import Punctuality
from il_robot.control.vectors import confined
from il_robot.errors import ConfigError
from il_robot.nodes import convert, topics
from il_robot.nodes.node import Complaints
from il_robot.spec import RobotSpec
from il_robot.types import Float32, Source

# A source that answered one of the last so many observations is waited for in lockstep.
_ALIVE_TICKS = 5
# Longest lead of a proposal over the states that the arbiter has heard [s].
_AHEAD = 1.0
Listen = Callable[[Any, str, Callable[[Any], None], Any], Any]


class Proposals:
    """Subscribes to every driver.

    Args:
        spec: The robot.
        answer_time: Longest wait for a punctual driver in real time [s].
        listen: Subscribes; complains of an IlRobotError and ignores that message.
        complain: Says what is wrong, now and then.
        on_answer: Called after each proposal that was taken.
    """

    def __init__(
        self, spec: RobotSpec, answer_time: float, listen: Listen, complain: Complaints,
        on_answer: Callable[[], None],
    ) -> None:
        self._spec, self._complain, self._on_answer = spec, complain, on_answer
        self._contests = {s: Contest() for s in (Source.TELEOP, Source.EXPERT, Source.POLICY)}
        self._newest: dict[Source, Proposal] = {}
        self._buffer: ChunkBuffer | None = None
        self._policy = self._episode = ''
        self._since = -math.inf
        self.now = -math.inf
        """Newest stamp of the robot that was believed [s]."""
        self.punctuality = Punctuality(answer_time)
        for source, topic in ((Source.TELEOP, topics.TELEOP_PROPOSAL),
                              (Source.EXPERT, topics.EXPERT_PROPOSAL)):
            listen(JointState, topic, partial(self._on_proposal, source, topic),
                   topics.PROPOSAL_QOS)
        listen(JointTrajectory, topics.POLICY_PROPOSAL, self._on_chunk, topics.CHUNK_QOS)
        listen(DiagnosticArray, topics.POLICY_STATUS, self._on_policy_status, topics.LATCHED_QOS)

    # -- what comes in ----------------------------------------------------------------------
    def _on_proposal(self, source: Source, topic: str, message: JointState) -> None:
        position = convert.positions_by_name(
            message.name, message.position, self._spec, topic, whole_arms=True)
        stamp = convert.seconds(message.header.stamp)
        if stamp < self._since - 1e-9 or self._ahead(topic, stamp):
            return
        if self._contested(source, topic, stamp, position):
            self._newest.pop(source, None)
            return
        self._newest[source] = Proposal(stamp, position)
        self.punctuality.answer(source, stamp, wall.perf_counter())
        self._on_answer()

    def _on_chunk(self, message: JointTrajectory) -> None:
        if self._buffer is None:
            raise ConfigError(f'a chunk before any {topics.POLICY_STATUS}')
        chunk = convert.chunk(message, self._spec, topics.POLICY_PROPOSAL)
        if chunk.stamp < self._since - 1e-9 or self._ahead(topics.POLICY_PROPOSAL, chunk.stamp):
            return
        if self._contested(
                Source.POLICY, topics.POLICY_PROPOSAL, chunk.stamp, chunk.positions):
            self._buffer.clear()
            return
        self._buffer.push(chunk)
        self.punctuality.answer(Source.POLICY, chunk.stamp, wall.perf_counter())
        self._on_answer()

    def _on_policy_status(self, message: DiagnosticArray) -> None:
        """Make the buffer anew for another policy, or another way of executing its chunks."""
        identity, buffer = convert.chunk_buffer(message, self._spec)
        if identity != self._policy:
            self._policy, self._buffer = identity, buffer

    def _contested(self, source: Source, topic: str, stamp: float, values: Float32) -> bool:
        """Whether two nodes speak for one source; two targets in turn would shake the arm."""
        contested = self._contests[source].put(stamp, values)
        if contested:
            self._complain(f'{topic} rivals', f'more than one node publishes {topic}: none of '
                           'them counts until there is only one; stop the others')
        return contested

    def heard(self, stamp: float) -> None:
        """A state of the robot was believed [s]."""
        self.now = stamp
        if self._ahead(topics.SIM_EPISODE, self._since):
            self._since = -math.inf  # it came before the first state

    def _ahead(self, topic: str, stamp: float) -> bool:
        """Whether it answers what the robot has not said yet: it would make all others old."""
        ahead = -math.inf < self.now < stamp - _AHEAD
        if ahead:
            self._complain(f'{topic} ahead', f'ignored a message on {topic} with a stamp of '
                           f'{stamp:.3f} s, {stamp - self.now:.3f} s ahead of the robot; is its '
                           'sender on the same clock?')
        return ahead

    def episode(self, message: DiagnosticArray) -> bool:
        """Take note of ``sim/episode``; whether another episode began.

        What was proposed for the last one then no longer counts.
        """
        episode = convert.status_values(message).get('episode', '')
        if episode == self._episode:
            return False
        self._episode = episode
        begun = convert.seconds(message.header.stamp)
        if not self._ahead(topics.SIM_EPISODE, begun):
            self._since = begun
        self._newest = {
            source: p for source, p in self._newest.items() if p.stamp >= self._since - 1e-9}
        if self._buffer is not None:
            self._buffer.clear()
        return True

    def clear(self) -> None:
        """Forget all: time begins anew."""
        self._newest.clear()
        if self._buffer is not None:
            self._buffer.clear()
        self._since = self.now = -math.inf

    # -- for a decision ---------------------------------------------------------------------
    def at(self, stamp: float) -> dict[Source, Proposal]:
        """The newest proposal of each source at a time [s]."""
        proposals = dict(self._newest)
        if self._buffer is not None:
            action = self._buffer.action(stamp)
            if action is not None:
                # A regression ends a hair outside the limits now and then; evaluation in
                # process clips in the same way.
                inside = confined(action, self._spec.lower, self._spec.upper)
                proposals[Source.POLICY] = Proposal(self._buffer.stamp, inside)
        return proposals

    def missing(self, stamp: float) -> list[Source]:
        """Sources that are alive and have not answered this observation yet."""
        horizon = stamp - (_ALIVE_TICKS + 0.5) * self._spec.dt
        missing: list[Source] = [
            source for source, p in self._newest.items()
            if source is not Source.POLICY and horizon <= p.stamp < stamp - 1e-9
        ]
        buffer = self._buffer
        if buffer is not None and buffer.due(stamp):
            period = buffer.execution.n_action_steps * self._spec.dt
            if buffer.stamp >= horizon - period:
                missing.append(Source.POLICY)
        return missing

    def awaited(self, stamp: float, drivers: Collection[Source]) -> list[Source]:
        """Drivers who will answer this observation in a moment."""
        due = set(drivers)
        if self._buffer is None or not self._buffer.due(stamp):
            due.discard(Source.POLICY)
        return self.punctuality.awaited(due, wall.perf_counter())
