"""A stand-in for the arbiter while the policy drives."""

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from sensor_msgs.msg import JointState
from trajectory_msgs.msg import JointTrajectory

from il_robot.nodes import convert, topics


class Relay:
    """Executes the policy's chunks in lockstep, as the arbiter does while the policy drives."""

    def __init__(self, graph, spec):
        self.spec = spec
        self.buffer, self.stamp = None, None
        self.states, self.episode, self.since = [], {}, 0.0
        self.command = graph.publisher(JointState, topics.COMMAND, topics.COMMAND_QOS)
        for kind, topic, callback, qos in (
            (DiagnosticArray, topics.POLICY_STATUS, self.on_status, topics.LATCHED_QOS),
            (DiagnosticArray, topics.SIM_EPISODE, self.on_episode, topics.LATCHED_QOS),
            (JointTrajectory, topics.POLICY_PROPOSAL, self.on_chunk, topics.CHUNK_QOS),
            (JointState, topics.JOINT_STATES, self.on_state, topics.STATE_QOS),
        ):
            graph.subscribe(kind, topic, callback, qos)

    def on_status(self, message):
        _, self.buffer = convert.chunk_buffer(message, self.spec)

    def on_episode(self, message):
        values = convert.status_values(message)
        if values['episode'] != self.episode.get('episode'):
            self.states.clear()
            self.since = convert.seconds(message.header.stamp)
            if self.buffer is not None:
                self.buffer.clear()
        self.episode = values

    def on_state(self, message):
        self.states.append(np.array(message.position, np.float32))
        self.stamp = convert.seconds(message.header.stamp)
        self.answer()

    def on_chunk(self, message):
        chunk = convert.chunk(message, self.spec, 'chunk')
        if chunk.stamp >= self.since - 1e-9:  # else one of the last episode was still on its way
            self.buffer.push(chunk)
            self.answer()

    def answer(self):
        if self.buffer is None or self.stamp is None or self.buffer.due(self.stamp):
            return
        action = self.buffer.action(self.stamp)
        if action is not None:
            stamp, self.stamp = self.stamp, None
            self.command.publish(convert.joint_state(
                stamp, self.spec, np.clip(action, self.spec.lower, self.spec.upper)))
