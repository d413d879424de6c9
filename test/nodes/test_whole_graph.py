"""The whole graph as it is used: a policy drives, and an operator at a keyboard corrects it.

In lockstep, so that what happens does not depend on how busy the machine is; the keys are bytes
typed into a terminal.
"""

import time

import numpy as np
import pytest

pytest.importorskip('rclpy')

from diagnostic_msgs.msg import DiagnosticArray
from ros_graph import PATIENT_QOS
from sensor_msgs.msg import JointState
from small_policy import write_lively_policy
from test_teleop_node import PtyProcess
from trajectory_msgs.msg import JointTrajectory

import il_robot.sim as sim
from il_robot.control.arbiter import ArbiterConfig
from il_robot.control.replay import policy_actions
from il_robot.data.bag_reader import BagReader
from il_robot.data.dataset import open_dataset
from il_robot.kinematics import ArmKinematics
from il_robot.nodes import convert, topics
from il_robot.types import Outcome, Source

SPEC = sim.default_robot()
LEFT, RIGHT = SPEC.arm_slice('left'), SPEC.arm_slice('right')
JOINTS = np.array([not name.endswith('gripper') for name in SPEC.joint_names])
# The most that the limits of acceleration may add, here.
HANDOVER = ArbiterConfig().handover_time + 0.3


def nanoseconds(stamp):
    return stamp.sec * 10**9 + stamp.nanosec


class Watch:
    """Everything that is said on the topics, by the stamp [ns] it is for."""

    def __init__(self, graph):
        self.graph = graph
        self.commands, self.teleop = {}, {}
        for kept, topic in (
                (self.commands, topics.COMMAND), (self.teleop, topics.TELEOP_PROPOSAL)):
            graph.subscribe(JointState, topic, self._keeper(kept, topic), PATIENT_QOS)
        self.chunks = graph.collect(JointTrajectory, topics.POLICY_PROPOSAL, PATIENT_QOS)
        self.policies, self.modes, self.recordings = (
            graph.collect(DiagnosticArray, topic, topics.LATCHED_QOS)
            for topic in (topics.POLICY_STATUS, topics.MODE, topics.RECORDING))

    def _keeper(self, kept, topic):
        def keep(message):
            kept[nanoseconds(message.header.stamp)] = convert.positions_by_name(
                message.name, message.position, SPEC, topic, whole_arms=True)
        return keep

    @property
    def mode(self):
        return convert.status_values(self.modes[-1]) if self.modes else {}

    @property
    def recording(self):
        return convert.status_values(self.recordings[-1]) if self.recordings else {}

    def drivers(self):
        """(first stamp [ns], mode, driver of each arm, intervention), one for each change."""
        changes = []
        for message in self.modes:
            v = convert.status_values(message)
            said = (v['mode'], v['driver_left'], v['driver_right'], v['intervention'] == 'true')
            if not changes or changes[-1][1:] != said:
                changes.append((nanoseconds(message.header.stamp), *said))
        return changes

    def ticks(self, count):
        """Let so many commands go by."""
        until = len(self.commands) + count
        self.graph.until(lambda: len(self.commands) >= until, f'{count} commands')

    def policy(self, stamps):
        """What the policy wanted at these times ``(N, D)``."""
        chunks = [convert.chunk(m, SPEC, 'chunk') for m in self.chunks]
        status = convert.status_values(self.policies[-1])
        actions = policy_actions(chunks, status, 1e-9 * np.array(stamps), SPEC)
        return np.clip(actions, SPEC.lower, SPEC.upper)


class Operator:
    """Somebody at the keyboard, who looks whether a key did what it should."""

    def __init__(self, graph):
        self.graph = graph
        self.terminal = PtyProcess(graph, device='keyboard', speed=1.0, use_sim_time=True)

    def press(self, key, condition, what):
        """Press a key, again after some seconds, until the condition holds."""
        again = 0.0

        def done():
            nonlocal again
            if not condition() and time.monotonic() > again:
                again = time.monotonic() + 3.0
                self.terminal.type(key)
            return condition()

        self.graph.until(done, what)

    def hold(self, key, condition, what):
        """Keep a key down, as a terminal repeats it."""
        def done():
            self.terminal.type(key)
            return condition()

        self.graph.until(done, what)


def test_an_operator_takes_one_arm_from_the_policy_and_gives_it_back(graph, tmp_path):
    # livelier, and the hard limits of acceleration and jerk would have their say
    policy = write_lively_policy(tmp_path / 'policy', SPEC, ['cube'], width=0.004)
    output = tmp_path / 'session'
    watch = Watch(graph)
    graph.start('sim', lockstep=True, lockstep_timeout=30.0)
    graph.start('arbiter', lockstep=True, lockstep_timeout=30.0, use_sim_time=True)
    graph.start('policy', checkpoint=str(policy), device='cpu', use_sim_time=True)
    graph.start('recorder', output=str(output), use_sim_time=True)
    operator = Operator(graph)
    # each topic is matched by itself, and a chunk from before that is not heard
    # (by the recorder neither, which subscribes to what it finds)
    graph.until(lambda: watch.recording.get('state') == 'idle' and watch.policies and watch.chunks
                and watch.commands and all(
                    any(i.node_name == 'recorder'
                        for i in graph.node.get_subscriptions_info_by_topic(topic))
                    for topic in (topics.POLICY_PROPOSAL, topics.POLICY_STATUS)), 'all nodes')
    watch.ticks(100)  # the policy has to find the recorder, too, which nobody else can see
    operator.press(b'r', lambda: watch.recording['state'] == 'recording', 'a recording')
    operator.press(b'a', lambda: watch.mode.get('mode') == 'AUTONOMOUS', 'the policy to drive')
    watch.ticks(50)
    operator.press(b'1', lambda: 'moving left,' in operator.terminal.output, 'the left arm')
    # refused while teleop hears no joint_states yet
    operator.press(b' ', lambda: watch.mode['mode'] == 'CORRECTION', 'the takeover')
    watch.ticks(50)
    arm = ArmKinematics.from_spec(SPEC, 'left')

    def x():
        return arm.fk(watch.commands[max(watch.commands)][LEFT][:-1]).position[0]

    start = x()
    operator.hold(b'l', lambda: x() > start + 0.06, '6 cm of the left arm')
    operator.press(b' ', lambda: watch.mode['mode'] == 'AUTONOMOUS', 'the return')
    watch.ticks(50)
    operator.press(b's', lambda: watch.recording.get('saved') == '1', 'the episode')

    changes = [c for c in watch.drivers() if c[1] != 'HOLD']
    assert [c[1:] for c in changes] == [
        ('AUTONOMOUS', 'policy', 'policy', False), ('CORRECTION', 'teleop', 'policy', True),
        ('AUTONOMOUS', 'policy', 'policy', False)]
    check_commands(watch, *(c[0] for c in changes))
    check_dataset(watch, output, *(c[0] for c in changes))


def check_commands(watch, begun, taken, given):
    """Who drives is obeyed, and nothing jumps; times in ns."""
    stamps = sorted(watch.commands)
    commands = np.array([watch.commands[s] for s in stamps])
    gaps = 1e-9 * np.diff(stamps)[:, None]
    steps = np.abs(np.diff(commands, axis=0))[:, JOINTS]
    assert (steps <= SPEC.velocity[JOINTS] * gaps + 1e-5).all()
    assert (commands >= SPEC.lower).all() and (commands <= SPEC.upper).all()
    for change in (taken, given):  # the arm goes on as it moved, as far as it can be told
        i = stamps.index(change)
        assert stamps[i - 1] == pytest.approx(change - 1e9 * SPEC.dt, abs=2)
        velocities = np.diff(commands[i - 2:i + 25, LEFT], axis=0)[:, :-1] / SPEC.dt
        change_of_it = np.abs(np.diff(velocities, axis=0)) / SPEC.dt
        assert (change_of_it <= 1.01 * SPEC.acceleration[LEFT][:-1]).all()

    # a driver's targets are carried out exactly once the handover is over
    after = begun + 1e9 * HANDOVER
    policy = watch.policy(stamps)
    np.testing.assert_array_equal(*(
        values[[s > after for s in stamps], RIGHT] for values in (commands, policy)))
    assert np.ptp(commands[[s > after for s in stamps], RIGHT], axis=0)[:-1].min() > 0.002
    operated = [i for i, s in enumerate(stamps) if taken + 1e9 * HANDOVER < s < given]
    teleop = np.array([watch.teleop[stamps[i]] for i in operated])
    np.testing.assert_array_equal(commands[operated, LEFT], teleop[:, LEFT])
    assert np.abs(commands[operated, LEFT] - policy[operated, LEFT]).max() > 0.05
    back = [i for i, s in enumerate(stamps) if s > given + 1e9 * HANDOVER]
    np.testing.assert_array_equal(commands[back, LEFT], policy[back, LEFT])


def check_dataset(watch, output, begun, taken, given):
    """The same in the columns of the episode; times in ns."""
    dataset = open_dataset(output / 'dataset')
    (record,) = dataset.episodes
    (path,) = (output / 'bags').iterdir()
    with BagReader(path) as bag:
        start, end = (float(bag.metadata[key]) for key in ('start', 'end'))
        states = [nanoseconds(bag.decode('/joint_states', m).header.stamp)
                  for m in bag.messages('/joint_states')]
    rows = [s for s in states if start - 1e-6 <= 1e-9 * s < end - 1e-6]
    assert len(rows) == len(record) and record.outcome is Outcome.SUCCESS
    times = np.array(rows)
    mine = (times >= taken) & (times < given)
    left = np.where(mine, Source.TELEOP, np.where(times >= begun, Source.POLICY, Source.HOLD))
    right = np.where(times >= begun, Source.POLICY, Source.HOLD)
    np.testing.assert_array_equal(dataset.source, np.stack([left, right], 1))
    np.testing.assert_array_equal(dataset.intervention.ravel(), mine)
    seen = np.array([t in watch.commands for t in rows])
    assert seen.mean() > 0.9
    commands = np.array([watch.commands[t] for t in times[seen]])
    np.testing.assert_array_equal(dataset.action[seen], commands)
    driven = times >= begun
    np.testing.assert_array_equal(
        np.clip(dataset.policy[driven], SPEC.lower, SPEC.upper), watch.policy(times[driven]))
    assert np.isfinite(dataset.policy[driven]).all()
    assert np.abs(dataset.policy[mine] - dataset.action[mine])[:, LEFT].max() > 0.05
