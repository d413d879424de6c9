"""What the hardware node decides at each instant, on a robot of arithmetic."""

import numpy as np
import pytest

from il_robot.control.hardware import Hardware, Phase
from il_robot.errors import SpecError
from il_robot.resources import named_config
from il_robot.spec import load_robot_spec

SPEC = load_robot_spec(named_config('robots', 'openarm'))
WIRING = SPEC.wiring
GRIPPER = np.array([j.gripper for j in WIRING.joints])
PERIOD = 0.01
EPOCH = 1000.0


class Robot:
    """A robot whose joints are where the last set-points were, and an arbiter that answers."""

    def __init__(self, **settings):
        self.hardware = Hardware(SPEC, **settings)
        self.at = SPEC.rest + np.where(GRIPPER, 0.04, 0.2)
        self.target = self.at.copy()
        self.now, self.stamp = 0.0, None
        self.speaking = self.answering = True
        self.hardware.checked(0.0)
        self.phases, self.sent = [], []

    def run(self, seconds, rivals=0):
        """Phases and first rows of so long."""
        self.phases, self.sent = [], []
        for _ in range(round(seconds / PERIOD)):
            self.step(rivals)
        return self.phases

    def step(self, rivals=0):
        self.now += PERIOD
        hardware = self.hardware
        if self.speaking:
            names = WIRING.drivers(WIRING.sources[0].joints)
            hardware.measurements.put(
                0, names, hardware.to_driver(self.at), (), (), stamp=EPOCH + self.now,
                clock=EPOCH + self.now, now=self.now)
            state = hardware.state(self.now)
            if state is not None:
                self.stamp = state.stamp
                if self.answering and not rivals:
                    self.answer()
        tick = self.tick = hardware.tick(self.now, rivals=rivals)
        self.phases.append(tick.phase)
        if tick.rows is not None:
            self.at = tick.rows[0]
            self.sent.append(tick.rows[0])

    def answer(self, stamp=None):
        stamp = self.stamp if stamp is None else stamp
        return self.hardware.command(stamp, self.target.astype(np.float32), self.now)


@pytest.fixture
def robot():
    robot = Robot()
    robot.run(1.0)
    assert robot.phases[-1] is Phase.STREAMING
    return robot


def test_nothing_is_sent_before_a_command():
    robot = Robot()
    robot.answering = False
    assert set(robot.run(1.0)) == {Phase.WAITING}
    assert robot.sent == []


def test_a_first_target_far_away_is_approached_slowly_and_then_followed():
    robot = Robot()
    robot.target = robot.at + np.where(GRIPPER, 0.0, 0.4)
    phases = robot.run(3.0)
    assert list(dict.fromkeys(phases)) == [Phase.STARTING, Phase.STREAMING]
    slow = np.abs(np.diff(robot.sent[:phases.count(Phase.STARTING)], axis=0))
    assert slow[:, ~GRIPPER].max() <= 0.2 * 3.14 * PERIOD + 1e-6
    np.testing.assert_allclose(robot.at, robot.target, atol=1e-6)


def test_silence_of_the_command_holds_the_last_set_point(robot):
    robot.answering = False
    phases = robot.run(1.0)
    assert phases[0] is Phase.STREAMING
    assert phases[-1] is Phase.HOLDING
    assert 'no command for 0.2 s' in robot.tick.reason
    assert np.ptp(robot.sent[30:], axis=0).max() == 0
    robot.answering = True
    assert robot.run(0.2)[-1] is Phase.STREAMING


def test_the_command_timeout_is_a_setting():
    robot = Robot(command_timeout=1.0)
    robot.run(0.5)
    robot.answering = False
    assert Phase.HOLDING not in robot.run(0.9)
    assert robot.run(0.3)[-1] is Phase.HOLDING


def test_two_commanders_are_both_not_obeyed(robot):
    robot.target = robot.at + np.where(GRIPPER, 0.0, 0.3)
    assert set(robot.run(0.5, rivals=1)) == {Phase.HOLDING}
    assert '2 nodes write the command' in robot.tick.reason
    assert np.ptp(robot.sent, axis=0).max() == 0


def test_a_robot_that_was_not_checked_gets_nothing():
    robot = Robot()
    robot.hardware.distrust('not checked yet', 0.0)
    assert set(robot.run(0.5)) == {Phase.LOST}
    assert robot.stamp is None
    assert robot.sent == []


def test_nothing_is_sent_while_the_robot_is_silent_and_it_returns_where_it_is_then(robot):
    robot.speaking = False
    assert robot.run(0.5)[-1] is Phase.LOST
    assert robot.run(0.5) == [Phase.LOST] * 50
    assert robot.sent == []
    # Somebody moved the arm meanwhile; the commands still want the old place.
    robot.at = robot.at - np.where(GRIPPER, 0.0, 0.3)
    returned = robot.at
    robot.speaking = True
    back = robot.now
    assert set(robot.run(0.5)) == {Phase.LOST}
    assert robot.tick.reason.endswith('checking')
    assert not robot.hardware.checked(since=back - 0.1)  # it was lost during that check
    assert robot.hardware.checked(since=back + 0.1)
    assert Phase.STARTING in robot.run(0.5)
    assert np.abs(robot.sent[0] - returned)[~GRIPPER].max() <= 0.2 * 3.14 * PERIOD + 1e-6
    assert robot.run(3.0)[-1] is Phase.STREAMING
    np.testing.assert_allclose(robot.at, robot.target, atol=1e-6)


def test_a_jump_of_the_state_stops_the_arms_and_they_go_on_from_there(robot):
    robot.at = robot.at + np.where(np.arange(SPEC.dim) == 3, 0.5, 0.0)
    jumped = robot.at
    robot.step()
    assert 'left_joint4 by 0.500' in robot.tick.reason
    assert set(robot.run(1.0)) == {Phase.LOST}
    # Time does not heal a jump, a check does.
    assert not robot.hardware.checked(since=robot.now - 1.1)
    assert robot.hardware.checked(since=robot.now - 0.9)
    assert robot.run(0.5)[-1] is Phase.STARTING
    assert np.abs(robot.sent[0] - jumped).max() <= 0.02


def test_a_stall_of_this_process_is_not_the_robots_silence(robot):
    robot.now += 0.5
    robot.speaking = False  # its messages lie in the queue behind the late tick
    robot.step()
    assert robot.phases[-1] is Phase.LATE
    assert robot.tick.rows is None
    robot.speaking = True
    assert Phase.LOST not in robot.run(0.5)


@pytest.mark.parametrize(('age', 'why'), [
    (-1.0, 'from the future'), (0.5, 'too old'), (0.0, 'out of order')])
def test_a_command_that_answers_no_present_state_does_not_count(age, why):
    robot = Robot()
    robot.answering = False
    robot.run(1.0)
    if age == 0:
        assert robot.answer() == ''
    assert robot.answer(robot.stamp - age) == why


def test_commands_do_not_count_while_the_state_is_lost(robot):
    robot.speaking = False
    robot.run(0.5)
    assert robot.answer() == 'while the robot is lost'


def test_conversion_to_the_driver_and_back_is_exact():
    hardware = Hardware(SPEC)
    positions = np.random.default_rng(0).uniform(SPEC.lower, SPEC.upper, (100, SPEC.dim))
    gain = np.array([j.gain for j in WIRING.joints])
    back = gain * hardware.to_driver(positions) + [j.offset for j in WIRING.joints]
    np.testing.assert_allclose(back, positions, atol=1e-12)
    left = SPEC.index('left_joint1')
    assert hardware.to_driver(positions)[0, left] == -positions[0, left]


def test_a_robot_without_wires_is_refused():
    with pytest.raises(SpecError, match='no hardware section'):
        Hardware(load_robot_spec(named_config('robots', 'sim_dual_arm')))
