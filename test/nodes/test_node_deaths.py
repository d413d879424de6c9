"""kill -9 of each node while the arms move: the others hold, say who is missing, and go on.

The simulator runs in real time, but slowly: so what is late on a busy machine is no death.
Everything is judged by stamps of robot time.
"""

import json

import numpy as np
import pytest

pytest.importorskip('rclpy')

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from ros_graph import PATIENT_QOS
from sensor_msgs.msg import JointState
from small_policy import write_lively_policy
from std_msgs.msg import String
from test_teleop_node import PtyProcess
from trajectory_msgs.msg import JointTrajectory

import il_robot.sim as sim
from il_robot.control.arbiter import ArbiterConfig
from il_robot.nodes import convert, topics

SPEC = sim.default_robot()
JOINTS = np.array([not name.endswith('gripper') for name in SPEC.joint_names])
BRAKE = float((SPEC.velocity / SPEC.acceleration)[JOINTS].max())
"""How long the command of a joint takes to stop, at most [s]."""
SLOW = 0.3
TIMEOUTS = {'expert': ArbiterConfig().human_timeout, 'teleop': ArbiterConfig().human_timeout,
            'policy': ArbiterConfig().policy_timeout}
"""Robot time from the last proposal until the arms hold [s]."""
PROPOSALS = {'expert': (JointState, topics.EXPERT_PROPOSAL),
             'teleop': (JointState, topics.TELEOP_PROPOSAL),
             'policy': (JointTrajectory, topics.POLICY_PROPOSAL)}


def stamp_of(message):
    return convert.seconds(message.header.stamp)


class Cell:
    """A simulator, a driver, the arbiter, and what they say."""

    def __init__(self, graph, driver='expert', factor=SLOW, *, moves=True):
        self.graph, self.driver, self.factor, self.moves = graph, driver, factor, moves
        self.states = graph.collect(JointState, topics.JOINT_STATES, PATIENT_QOS)
        self.commands = graph.collect(JointState, topics.COMMAND, PATIENT_QOS)
        kind, topic = PROPOSALS[driver]
        self.proposals = graph.collect(kind, topic, PATIENT_QOS)
        self.modes = graph.collect(DiagnosticArray, topics.MODE, topics.LATCHED_QOS)
        self.diagnostics = graph.collect(
            DiagnosticArray, topics.DIAGNOSTICS, topics.DIAGNOSTICS_QOS)
        self.nodes = {}
        for name in ('sim', 'arbiter', driver):
            self.start(name)
        self.requests = graph.publisher(String, topics.REQUEST, topics.REQUEST_QOS)
        self.drive()

    def start(self, name):
        """Start a node, or start it again."""
        if name == 'teleop':
            self.nodes[name] = PtyProcess(
                self.graph, device='keyboard', speed=1.0, use_sim_time=True)
            return
        parameters = {
            'sim': {'real_time_factor': self.factor}, 'arbiter': {'use_sim_time': True},
            'expert': {'use_sim_time': True},
            'policy': {'checkpoint': str(self.graph.folder / 'policy'), 'device': 'cpu',
                       'use_sim_time': True},
            'recorder': {'output': str(self.graph.folder / 'session'), 'use_sim_time': True}}
        self.nodes[name] = self.graph.start(name, **parameters[name])

    def kill(self, name):
        """As a crash; once the arbiter knows of the node, which may take it some time."""
        if name != 'arbiter':
            self.known(name)
        self.nodes[name].popen.kill()
        self.nodes[name].popen.wait()

    def drive(self):
        """Ask until the driver drives, then until the arms move."""
        self.graph.until(lambda: self.modes and self.states and self.proposals, 'all topics')
        self.ask('run' if self.driver == 'policy' else 'engage',
                 lambda: self.mode['driver_left'] == self.driver)
        if self.moves:
            self.moving()

    def ask(self, word, condition):
        """Request it until the condition holds."""
        self.graph.ask(self.requests, word, condition)

    @property
    def mode(self):
        return convert.status_values(self.modes[-1])

    def known(self, name):
        """Wait until the arbiter reports to hear from a node."""
        count = len(self.diagnostics)
        self.graph.until(lambda: any(
            name in convert.status_values(m).get('nodes', '').split()
            for m in self.diagnostics[count:]), f'the arbiter to know of {name}')

    def moving(self):
        """Wait until the newest commands move the arms."""
        count = len(self.commands)

        def moved():
            if self.driver == 'teleop':
                self.nodes['teleop'].type(b'l')
            newest = self.commands[max(count, len(self.commands) - 10):]
            return len(newest) == 10 and np.ptp(positions(newest), axis=0)[JOINTS].max() > 0.005

        self.graph.until(moved, 'motion')

    def still(self):
        """Wait until the measured arms do not move any more."""
        count = len(self.states)
        self.graph.until(lambda: len(self.states) > count + 10 and np.ptp(
            positions(self.states[-10:]), axis=0)[JOINTS].max() < 2e-3, 'arms at rest')

    def says(self, name, text):
        """Wait until a node's log has this text."""
        self.graph.until(lambda: text in self.nodes[name].output, f'{name} says {text!r}')

    def diagnosed(self, name, text, level=DiagnosticStatus.WARN):
        """Wait until a node's next diagnostics say this."""
        count = len(self.diagnostics)
        self.graph.until(lambda: any(
            m.status[0].name == name and m.status[0].level == level
            and text in m.status[0].message for m in self.diagnostics[count:]),
            f'{name} reports {text!r}')

    def within_limits(self, start=0):
        """Every command since the ``start``-th keeps the limits of position and velocity."""
        newest = self.commands[start:]
        values = positions(newest)
        assert (values >= SPEC.lower).all() and (values <= SPEC.upper).all()
        gaps = np.diff([stamp_of(m) for m in newest])[:, None]
        steps = np.abs(np.diff(values, axis=0))[:, JOINTS]
        assert (steps <= SPEC.velocity[JOINTS] * gaps + 1e-5).all()


def positions(messages):
    return np.array([convert.positions_by_name(m.name, m.position, SPEC, 'joints')
                     for m in messages])


@pytest.mark.parametrize('driver', ['expert', 'teleop', 'policy'])
def test_the_driver_dies(graph, driver):
    """Arms hold within the time-out, it is said who it was, and it can drive again."""
    if driver == 'policy':
        write_lively_policy(graph.folder / 'policy', SPEC, ['cube'])
    cell = Cell(graph, driver)
    cell.kill(driver)
    cell.says('arbiter', 'policy lost: no fresh proposal for the left arm' if driver == 'policy'
              else f'operator lost: no fresh proposal from {driver} for the left arm')
    graph.until(lambda: cell.mode['mode'] == 'HOLD', 'the mode')
    assert cell.modes[-1].status[0].level == DiagnosticStatus.WARN
    end = stamp_of(cell.proposals[-1]) + TIMEOUTS[driver] + 1e-6
    graph.until(lambda: stamp_of(cell.commands[-1]) > end + 0.5, 'commands after the time-out')
    held = positions([m for m in cell.commands if stamp_of(m) > end + BRAKE])
    assert len(held) > 10 and (held == held[0]).all()
    cell.still()
    cell.says('arbiter', f'{driver} has fallen silent')
    cell.diagnosed('arbiter', f'silent: {driver}')

    cell.start(driver)
    cell.says('arbiter', f'{driver} is back')
    assert cell.mode['mode'] == 'HOLD'  # nobody asked it to go on
    cell.drive()
    cell.within_limits()


def test_a_policy_of_one_step_drives_in_real_time(graph):
    """Its answer always comes after the instant it is for, and is the target until the next."""
    write_lively_policy(graph.folder / 'policy', SPEC, ['cube'], steps=1)
    cell = Cell(graph, 'policy', moves=False)
    count = len(cell.commands)
    graph.until(lambda: len(cell.commands) > count + 50, 'a second of it')
    assert cell.mode['mode'] == 'AUTONOMOUS'
    assert {convert.status_values(m)['mode'] for m in cell.modes} == {'HOLD', 'AUTONOMOUS'}
    cell.within_limits(count)


def test_the_arbiter_dies(graph):
    """The simulator holds; a new arbiter holds where the robot is, until somebody asks."""
    cell = Cell(graph)
    cell.kill('arbiter')
    cell.says('sim', 'no command for 0.2 s: holding; is the arbiter running?')
    cell.diagnosed('sim', 'is the arbiter running?')
    cell.still()
    cell.within_limits()
    count = len(cell.commands)
    cell.start('arbiter')
    graph.until(lambda: len(cell.commands) > count + 10, 'commands again')
    graph.until(lambda: cell.mode['mode'] == 'HOLD', 'the mode')
    held, still = positions(cell.commands[count:]), positions(cell.states[-1:])
    assert (held == held[0]).all()
    np.testing.assert_allclose(
        held[0], np.clip(still, SPEC.lower, SPEC.upper)[0], atol=0.01)
    graph.until(lambda: cell.nodes['sim'].output.count('obeying command') == 2, 'obedience')
    cell.still()
    cell.drive()
    cell.within_limits(count)


def test_the_simulator_dies(graph):
    """No command without a state; a simulator that starts anew is held where it starts."""
    cell = Cell(graph)
    graph.until(lambda: np.abs(positions(cell.commands[-1:]) - SPEC.rest).max() > 0.5, 'a way')
    cell.kill('sim')
    cell.says('arbiter', 'no joint_states: is sim or hardware running?')
    cell.diagnosed('arbiter', 'no joint_states', DiagnosticStatus.STALE)
    cell.says('arbiter', 'sim has fallen silent')
    cell.within_limits()
    commands, states = len(cell.commands), len(cell.states)
    cell.start('sim')
    graph.until(lambda: len(cell.states) > states + 10 and len(cell.commands) > commands,
                'commands again')
    held = positions(cell.commands[commands:])
    assert (held == held[0]).all()
    np.testing.assert_allclose(held[0], SPEC.rest, atol=0.02)  # where it starts
    np.testing.assert_allclose(positions(cell.states[states:])[:, JOINTS], np.tile(
        SPEC.rest[JOINTS], (len(cell.states) - states, 1)), atol=0.02)
    graph.until(lambda: cell.mode['mode'] == 'HOLD', 'the mode')
    cell.says('arbiter', 'sim is back')
    cell.drive()
    cell.within_limits(commands)


def test_the_recorder_dies(graph):
    """The arms go on; the operator is told; another recorder begins the next episode."""
    # slower still: that somebody drives all the time must not hang on a process that starts
    cell = Cell(graph, 'teleop', SLOW / 3)
    status = graph.collect(DiagnosticArray, topics.RECORDING, topics.LATCHED_QOS)

    def recording():
        return status and convert.status_values(status[-1])['state'] == 'recording'

    cell.start('recorder')
    cell.ask('start', recording)
    bags = graph.folder / 'session' / 'bags'
    cell.kill('recorder')
    (first,) = bags.iterdir()
    cell.says('arbiter', 'recorder has fallen silent')
    cell.says('teleop', '! fallen silent: recorder')
    assert cell.mode['driver_left'] == 'teleop'
    cell.moving()
    status.clear()
    cell.start('recorder')
    cell.says('arbiter', 'recorder is back')
    cell.ask('start', recording)
    assert len(list(bags.iterdir())) == 2 and any(first.iterdir())
    cell.within_limits()


def test_an_arbiter_that_dies_costs_no_episode(graph, tmp_path):
    """Unattended: the session asks again, and every episode is solved."""
    file = tmp_path / 'session' / 'session.json'
    graph.start('sim', lockstep=True)
    arbiter = graph.start('arbiter', lockstep=True, use_sim_time=True)
    graph.start('expert', use_sim_time=True)
    session = graph.start(
        'session', episodes=6, driver='human', output=str(file.parent), use_sim_time=True)
    graph.processes.remove(session)  # it ends
    graph.until(lambda: arbiter.output.count('TELEOP') > 1, 'the second episode')
    arbiter.kill()
    assert len(json.loads(file.read_text())['results']) < 6, 'killed too late'
    graph.start('arbiter', lockstep=True, use_sim_time=True)
    assert session.popen.wait(60) == 0
    results = json.loads(file.read_text())['results']
    assert [(r['seed'], r['success']) for r in results] == [(i, True) for i in range(6)]
