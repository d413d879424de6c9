"""The arbiter node among real processes: one command per observation, takeover, bad input."""

import os
import time

import numpy as np
import pytest
import yaml

pytest.importorskip('rclpy')

from diagnostic_msgs.msg import DiagnosticArray
from sensor_msgs.msg import JointState
from std_msgs.msg import String
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory

import il_robot.sim as sim
from il_robot.control.body import Body
from il_robot.control.clearance import Clearances
from il_robot.nodes import convert, topics
from il_robot.resources import named_config
from il_robot.sim.description import urdf_text
from il_robot.types import ActionChunk

SPEC = sim.default_robot()
LEFT, RIGHT = SPEC.arm_slice('left'), SPEC.arm_slice('right')


class Robot:
    """A robot that follows perfectly, and sources, played by the test in its own time."""

    def __init__(self, graph, **parameters):
        self.graph = graph
        self.arbiter = graph.start('arbiter', **parameters)
        self.states = graph.publisher(JointState, topics.JOINT_STATES, topics.STATE_QOS)
        self.commands = graph.collect(JointState, topics.COMMAND, topics.COMMAND_QOS)
        self.modes = graph.collect(DiagnosticArray, topics.MODE, topics.LATCHED_QOS)
        self.proposals = {
            name: graph.publisher(JointState, topic, topics.PROPOSAL_QOS)
            for name, topic in (
                ('teleop', topics.TELEOP_PROPOSAL), ('expert', topics.EXPERT_PROPOSAL))}
        self.chunks = graph.publisher(
            JointTrajectory, topics.POLICY_PROPOSAL, topics.CHUNK_QOS)
        self.requests = graph.publisher(String, topics.REQUEST, topics.REQUEST_QOS)
        status = graph.publisher(DiagnosticArray, topics.POLICY_STATUS, topics.LATCHED_QOS)
        status.publish(convert.status_message(0.0, 'policy', {
            'checkpoint': 'abc', 'chunk_size': 20, 'execution_mode': 'newest',
            'n_action_steps': 1, 'decay': 0.1}))
        self.tick = 0
        self.position = SPEC.rest.copy()
        self.offset = {'teleop': 0.1, 'policy': -0.1}
        self.live = set()
        self.until_answered()

    @property
    def now(self):
        return self.tick * SPEC.dt

    def until_answered(self):
        """Report the state, tick by tick, until an arbiter that is just starting answers."""
        before = len(self.commands)

        def answered():
            self.tick += 1
            self.states.publish(convert.joint_state(self.now, SPEC, self.position))
            return len(self.commands) > before

        self.graph.until(answered, 'the first command')
        # Answers to what was reported meanwhile must not be taken for later ones.
        self.step()

    def target(self, source):
        return SPEC.rest + np.float32(self.offset[source]) * (SPEC.upper > 1)

    def step(self, *requests):
        """One control tick; the command that answers it."""
        self.tick += 1
        for word in requests:
            self.requests.publish(String(data=word))
        if 'policy' in self.live:
            times = self.now + SPEC.dt * np.arange(20)
            positions = np.tile(self.target('policy'), (20, 1))
            self.chunks.publish(convert.chunk_message(
                ActionChunk(self.now, times, positions), SPEC))
        if 'teleop' in self.live:
            position = np.full(SPEC.dim, np.nan, np.float32)
            position[LEFT] = self.target('teleop')[LEFT]
            self.proposals['teleop'].publish(convert.joint_state(self.now, SPEC, position))
        self.states.publish(convert.joint_state(self.now, SPEC, self.position))
        stamp = convert.seconds(convert.time(self.now))
        self.graph.until(
            lambda: any(convert.seconds(m.header.stamp) == stamp for m in self.commands[-3:]),
            f'a command for {stamp}')
        self.position = np.array(self.commands[-1].position, np.float32)
        return self.position

    def mode(self):
        return convert.status_values(self.modes[-1]) if self.modes else {}

    def until_mode(self, mode, *requests, limit=200):
        """Tick, repeating the request, until the mode is reported."""
        for tick in range(limit):
            self.step(*requests)
            if self.mode().get('mode') == mode:
                return self.mode()
            if tick > 20:  # an arbiter that has just started may still be finding the others
                time.sleep(0.03)
        raise AssertionError(f'{mode} never came: {self.mode()}\n{self.graph.output()}')


@pytest.fixture
def robot(graph):
    return Robot(graph, lockstep=True, lockstep_timeout=3.0)


def test_one_arm_is_taken_over_while_the_policy_keeps_the_other(robot):
    robot.live = {'policy', 'teleop'}
    diagnostics = robot.graph.collect(
        DiagnosticArray, topics.DIAGNOSTICS, topics.DIAGNOSTICS_QOS)
    robot.until_mode('AUTONOMOUS', 'run')
    mode = robot.until_mode('CORRECTION', 'engage left')
    assert (mode['driver_left'], mode['driver_right']) == ('teleop', 'policy')
    assert mode['intervention'] == 'true'
    for _ in range(40):
        before = robot.position
        step = np.abs(robot.step() - before)
        assert (step <= SPEC.velocity * SPEC.dt + 1e-5).all()
    np.testing.assert_allclose(robot.position[LEFT], robot.target('teleop')[LEFT], atol=1e-5)
    np.testing.assert_allclose(robot.position[RIGHT], robot.target('policy')[RIGHT], atol=1e-5)
    robot.until_mode('AUTONOMOUS', 'release')
    robot.graph.until(lambda: diagnostics and 'policy_age_p99_ms' in convert.status_values(
        diagnostics[-1]))  # how old the observation is that a policy's command answers
    assert abs(float(convert.status_values(diagnostics[-1])['policy_age_max_ms'])) < 1e-3


def test_bad_messages_are_refused_and_nothing_moves(robot):
    good = convert.joint_state(0.0, SPEC, SPEC.rest)
    reordered = JointState(header=good.header, name=good.name[::-1],
                           position=list(good.position)[::-1])
    bad = {
        'unknown': JointState(name=['left_thumb'], position=[0.1]),
        'twice': JointState(name=[good.name[0]] * 2, position=[0.1, 0.2]),
        'half an arm': JointState(name=good.name[:3], position=list(good.position)[:3]),
        'lengths': JointState(name=good.name, position=[0.0]),
        'nan': JointState(name=good.name, position=[float('nan')] * SPEC.dim),
        'old': convert.joint_state(0.0, SPEC, SPEC.rest + np.float32(0.3)),
        'future': convert.joint_state(1e6, SPEC, SPEC.rest + np.float32(0.3)),
    }
    for message in bad.values():
        robot.proposals['teleop'].publish(message)
        robot.proposals['expert'].publish(message)
        robot.chunks.publish(JointTrajectory(joint_names=list(message.name)))
    robot.requests.publish(String(data='engag'))
    robot.requests.publish(String(data='engage middle'))
    robot.states.publish(JointState(name=['left_waist'], position=[1.0]))
    robot.states.publish(reordered)  # by name: as good as in order, but of time 0
    held = robot.position
    for _ in range(5):
        np.testing.assert_array_equal(robot.step('engage'), held)
    robot.graph.until(lambda: robot.mode().get('mode') == 'HOLD')
    assert robot.arbiter.popen.poll() is None
    # Each topic is complained about once; diagnostics count all.
    said = [f'ignored a message: {topic}' for topic in (
        topics.JOINT_STATES, topics.TELEOP_PROPOSAL, topics.POLICY_PROPOSAL)]

    def all_said():
        # Again: a subscriber that has only just been found may have missed the first.
        robot.states.publish(JointState(name=['left_waist'], position=[1.0]))
        robot.proposals['teleop'].publish(bad['unknown'])
        robot.chunks.publish(JointTrajectory(joint_names=['left_thumb']))
        robot.requests.publish(String(data='engag'))
        return all(text in robot.arbiter.output for text in (*said, "did you mean 'engage'"))

    robot.graph.until(all_said, 'a complaint about each')


def test_services_answer_and_a_stop_is_latched(graph):
    robot = Robot(graph)
    robot.live = {'policy'}
    assert not graph.call(Trigger, topics.service_of('reset')).success
    assert graph.call(Trigger, topics.service_of('stop')).success
    graph.until(lambda: robot.mode().get('mode') == 'STOPPED')
    refused = graph.call(Trigger, topics.service_of('run'))
    assert not refused.success and 'STOPPED' in refused.message
    assert graph.call(Trigger, topics.service_of('reset')).success
    graph.until(lambda: robot.mode().get('mode') == 'HOLD')


def test_a_restarted_arbiter_holds_where_the_robot_is(robot):
    robot.live = {'policy'}
    robot.until_mode('AUTONOMOUS', 'run')
    for _ in range(10):
        robot.step()
    held = robot.position
    robot.arbiter.kill()
    robot.arbiter = robot.graph.start('arbiter', lockstep=True)
    robot.live = set()
    robot.until_answered()
    np.testing.assert_allclose(robot.commands[-1].position, held, atol=1e-6)
    robot.graph.until(lambda: robot.mode().get('mode') == 'HOLD')


def test_a_stop_is_told_while_the_robot_is_silent(robot):
    robot.live = {'policy'}
    robot.until_mode('AUTONOMOUS', 'run')
    time.sleep(0.3)  # nobody reports a state any more
    robot.requests.publish(String(data='stop'))
    robot.graph.until(lambda: robot.mode().get('mode') == 'STOPPED')
    assert robot.mode()['driver_left'] == robot.mode()['driver_right'] == 'hold'
    assert robot.until_mode('STOPPED')['reason'] == 'request stop'  # and carried out later


def test_a_stop_outlives_the_arbiter_until_somebody_clears_it(robot):
    robot.live = {'policy'}
    robot.until_mode('AUTONOMOUS', 'run')
    robot.until_mode('STOPPED', 'stop')
    for request, mode in (('run', 'STOPPED'), ('reset', 'HOLD')):
        robot.arbiter.kill()
        robot.arbiter = robot.graph.start('arbiter', lockstep=True)
        robot.live = set()
        robot.until_answered()
        robot.until_mode(mode, request)
        assert 'request reset once it is safe' in robot.arbiter.output
    robot.arbiter.kill()
    robot.arbiter = robot.graph.start('arbiter', lockstep=True)
    robot.until_answered()
    robot.live = {'policy'}
    robot.until_mode('AUTONOMOUS', 'run')
    assert 'still stopped' not in robot.arbiter.output


def own_model(folder):
    """A robot file without geometry that names a URDF of one arm."""
    data = yaml.safe_load(named_config('robots', 'sim_dual_arm').read_text())
    del data['geometry']
    data['safety'] = {'model': {'urdf': 'arm.urdf', 'joint_name': 'left_{joint}'}}
    (folder / 'arm.urdf').write_text(urdf_text(SPEC, 'left'))
    path = folder / 'robot.yaml'
    path.write_text(yaml.safe_dump(data))
    return path


@pytest.mark.parametrize('model', ['ours', 'its own'])
def test_no_policy_drives_the_arms_into_each_other(graph, tmp_path, model):
    robot = Robot(graph, lockstep=True, lockstep_timeout=3.0,
                  robot='sim_dual_arm' if model == 'ours' else str(own_model(tmp_path)))
    watched = Clearances(Body(SPEC, urdf_text(SPEC)))
    there = SPEC.rest.copy()
    for arm in SPEC.arms:
        there[SPEC.arm_slice(arm.name)][1:3] = 1.4, 0.9
    assert watched.exact(there.astype(np.float64)).min() < -0.05
    robot.target = lambda source: there
    robot.live = {'policy'}
    robot.until_mode('AUTONOMOUS', 'run')
    rooms = [watched.exact(robot.step().astype(np.float64)).min() for _ in range(80)]
    assert -1e-6 <= min(rooms) < 0.02
    assert 'not watched' not in robot.arbiter.output


def test_a_model_that_is_not_there_ends_it(graph, tmp_path):
    path = own_model(tmp_path)
    (tmp_path / 'arm.urdf').unlink()
    arbiter = graph.start('arbiter', robot=str(path))
    graph.processes.remove(arbiter)  # its exit code is no mistake
    assert arbiter.popen.wait(60) == 2
    assert f'safety.model.urdf: cannot read {tmp_path / "arm.urdf"}' in arbiter.output


def test_proposals_for_the_last_episode_do_not_count(robot):
    episode = robot.graph.publisher(DiagnosticArray, topics.SIM_EPISODE, topics.LATCHED_QOS)
    robot.live = {'policy'}
    robot.until_mode('AUTONOMOUS', 'run')
    robot.live = set()
    robot.step()
    episode.publish(convert.status_message(
        robot.now + SPEC.dt, 'sim/episode', {'episode': 7, 'seed': 1}))
    robot.until_mode('HOLD', limit=20)
    assert 'policy lost' in robot.mode()['reason']


def test_real_time_is_asked_for_and_what_is_refused_is_said(graph):
    """Processors that there are, and some that there are not: it drives all the same."""
    one = min(os.sched_getaffinity(0))
    robot = Robot(graph, cpus=str(one))
    graph.until(lambda: f'real time: on cpus {one}' in robot.arbiter.output)
    threads = os.listdir(f'/proc/{robot.arbiter.popen.pid}/task')
    assert {tuple(os.sched_getaffinity(int(t))) for t in threads} == {(one,)}
    robot.arbiter.kill()
    other = graph.start('arbiter', cpus='4000')
    graph.until(lambda: 'real time: cpus 4000: this process may use' in other.output)
    robot.until_answered()
    assert other.popen.poll() is None


def test_processors_that_are_no_numbers_end_it(graph):
    arbiter = graph.start('arbiter', cpus='all')
    graph.processes.remove(arbiter)  # its exit code is no mistake
    assert arbiter.popen.wait(60) == 2
    assert 'write numbers with commas, such as 2,3' in arbiter.output
