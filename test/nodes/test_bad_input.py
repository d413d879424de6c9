"""What must not happen and does: two nodes on one topic, reordered joints, time that goes back."""

import numpy as np
import pytest

pytest.importorskip('rclpy')

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from sensor_msgs.msg import JointState
from test_arbiter_node import SPEC, Robot
from trajectory_msgs.msg import JointTrajectory

from il_robot.nodes import convert, topics
from il_robot.types import ActionChunk


@pytest.fixture
def robot(graph):
    return Robot(graph, lockstep=True, lockstep_timeout=3.0)


def says(robot, text):
    robot.graph.until(lambda: text in robot.arbiter.output, f'{text!r}')


def test_a_proposal_counts_by_names_in_any_order(robot):
    def propose(*requests):
        message = convert.joint_state(robot.now + SPEC.dt, SPEC, robot.target('teleop'))
        order = np.random.default_rng(robot.tick).permutation(SPEC.dim)
        message.name = [message.name[i] for i in order]
        message.position = [message.position[i] for i in order]
        robot.proposals['teleop'].publish(message)
        return robot.step(*requests)

    def driven():
        propose('engage')
        return robot.mode().get('mode') == 'TELEOP'

    robot.graph.until(driven, 'the operator drives')
    for _ in range(60):
        position = propose()
    np.testing.assert_allclose(position, robot.target('teleop'), atol=1e-5)


@pytest.mark.parametrize('source', ['expert', 'policy'])
def test_two_nodes_that_speak_for_one_source_are_both_ignored(robot, source):
    """The arms hold instead of going back and forth; with one of them gone it may drive again."""
    topic = {'expert': topics.EXPERT_PROPOSAL, 'policy': topics.POLICY_PROPOSAL}[source]
    rival = (robot.graph.publisher(JointState, topic, topics.PROPOSAL_QOS) if source == 'expert'
             else robot.graph.publisher(JointTrajectory, topic, topics.CHUNK_QOS))

    def propose(publisher, target):
        now = robot.now + SPEC.dt  # for the next step
        if source == 'expert':
            publisher.publish(convert.joint_state(now, SPEC, target))
        else:
            publisher.publish(convert.chunk_message(ActionChunk(
                now, now + SPEC.dt * np.arange(20), np.tile(target, (20, 1))), SPEC))

    word = {'expert': 'engage', 'policy': 'run'}[source]
    first = robot.proposals['expert'] if source == 'expert' else robot.chunks
    one, other = SPEC.rest, SPEC.rest + np.float32(0.3) * (SPEC.upper > 1)

    def alone():
        propose(first, one)
        robot.step(word)
        return robot.mode().get('driver_left') == source

    robot.graph.until(alone, 'one alone drives')

    def contested():
        propose(first, one)
        propose(rival, other)
        robot.step()
        return (f'more than one node publishes {topic}' in robot.arbiter.output
                and robot.mode().get('mode') == 'HOLD')

    robot.graph.until(contested, 'a contest')

    def stopped():
        before = robot.position
        contested()
        return np.array_equal(robot.position, before)

    robot.graph.until(stopped, 'arms that have braked')
    held = robot.position
    for _ in range(10):
        propose(first, one)
        propose(rival, other)
        np.testing.assert_array_equal(robot.step(word), held)
    robot.graph.until(alone, 'one alone drives again')


def test_a_second_writer_of_the_command_is_reported(robot):
    diagnostics = robot.graph.collect(
        DiagnosticArray, topics.DIAGNOSTICS, topics.DIAGNOSTICS_QOS)
    rival = robot.graph.node.create_publisher(JointState, topics.COMMAND, topics.COMMAND_QOS)
    robot.graph.until(lambda: any(
        m.status[0].level == DiagnosticStatus.ERROR
        and '1 other publisher(s) on command: stop them' in m.status[0].message
        for m in diagnostics), 'an error in diagnostics')
    says(robot, 'one that died goes by itself')
    robot.graph.node.destroy_publisher(rival)
    diagnostics.clear()
    robot.graph.until(lambda: any(
        m.status[0].level == DiagnosticStatus.OK for m in diagnostics), 'no error')


def test_two_robots_on_one_topic_are_held(robot):
    """Their clocks differ, so that time goes back and forth: nobody drives, and it is said."""
    robot.live = {'policy'}
    robot.until_mode('AUTONOMOUS', 'run')
    mine = robot.tick
    for _ in range(5):
        robot.tick = mine + 5000
        robot.step('run')
        mine = robot.tick = mine + 1
        robot.step('run')
    says(robot, f'do two nodes publish {topics.JOINT_STATES}?')
    assert robot.arbiter.output.count('time went back') == 1  # throttled


def test_a_stop_outlives_a_simulator_that_starts_anew(robot):
    robot.until_mode('STOPPED', 'stop')
    robot.tick += 500
    robot.step()
    robot.tick = 0
    robot.step()
    says(robot, 'time went back')
    for _ in range(5):
        robot.step('engage')
    assert robot.mode()['mode'] == 'STOPPED'
    robot.until_mode('HOLD', 'reset')


def test_a_mode_that_is_said_again_keeps_its_first_stamp(robot):
    """Who misses the first word must not believe that the driver changed later."""
    robot.live = {'policy'}
    robot.until_mode('AUTONOMOUS', 'run')
    first, count = robot.modes[-1].header.stamp, len(robot.modes)
    while len(robot.modes) < count + 2:
        robot.step()
    assert robot.modes[-1].header.stamp == first


@pytest.mark.parametrize('wrong', [1e6, -1e6])
def test_one_state_with_a_wrong_stamp_disturbs_nobody(graph, wrong):
    robot = Robot(graph)
    robot.tick += 500
    robot.until_answered()
    robot.live = {'policy'}
    robot.until_mode('AUTONOMOUS', 'run')
    for _ in range(5):
        robot.states.publish(convert.joint_state(
            max(robot.now + wrong, 0.0), SPEC, robot.position))
        robot.step()
    says(robot, 'two clocks')
    assert robot.mode()['mode'] == 'AUTONOMOUS'
    assert 'time went back' not in robot.arbiter.output
