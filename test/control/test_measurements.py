"""Joint states in any order and unit become one state; silence and jumps are noticed."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from il_robot.control.measurements import Measurements
from il_robot.resources import named_config
from il_robot.spec import load_robot_spec

OPENARM = load_robot_spec(named_config('robots', 'openarm'))
UR = load_robot_spec(named_config('robots', 'dual_ur5e'))
PERIOD = 0.01


class Driver:
    """Sends joint states of a whole robot, as a broadcaster does."""

    def __init__(self, spec=OPENARM, **settings):
        self.spec, self.wiring = spec, spec.wiring
        values = {'period': spec.dt, 'jump_margin': 0.1} | settings
        self.measurements = Measurements(self.wiring, **values)
        self.ours = spec.rest.astype(float)
        self.now, self.offset = 0.0, 1000.0

    def message(self, source=0, shuffle=None, extra=()):
        """(names, positions) in the driver's units."""
        joints = self.wiring.joints
        rows = [(joints[i].driver, (self.ours[i] - joints[i].offset) / joints[i].gain)
                for i in self.wiring.sources[source].joints]
        rows += [(name, 9.0) for name in extra]
        if shuffle is not None:
            shuffle.shuffle(rows)
        names, positions = zip(*rows)
        return list(names), list(positions)

    def put(self, source=0, message=None, velocity=(), effort=(), stamp=None):
        names, positions = message or self.message(source)
        return self.measurements.put(
            source, names, positions, velocity, effort,
            stamp=self.offset + self.now if stamp is None else stamp,
            clock=self.offset + self.now, now=self.now)

    def run(self, seconds):
        """All topics for so long; the states given out."""
        states = []
        for _ in range(round(seconds / PERIOD)):
            self.now += PERIOD
            for source in range(len(self.wiring.sources)):
                self.put(source)
                states.append(self.measurements.take(self.now))
        return [s for s in states if s is not None]


@given(st.randoms(use_true_random=False), st.lists(st.floats(0, 1), min_size=14, max_size=14))
def test_the_order_of_the_joints_and_strangers_among_them_change_nothing(shuffle, parts):
    driver = Driver(UR)
    driver.ours = UR.lower + np.array(parts) * (UR.upper - UR.lower)
    for source in (0, 1):
        assert driver.put(source, driver.message(source, shuffle, ('rail', 'lid'))) == ''
    np.testing.assert_allclose(driver.measurements.position, driver.ours, atol=1e-9)
    assert driver.measurements.extras == [{'rail', 'lid'}] * 2


def test_velocity_and_effort_are_converted_too():
    """Power stays the same: the gripper's gain is -0.107, so speed shrinks and force grows."""
    driver = Driver(UR)
    names, positions = driver.message(0)
    driver.put(0, (names, positions), velocity=[0.5] * 7, effort=[10.0] * 7)
    driver.put(1)
    state = driver.measurements.take(driver.now)
    hand, gain = UR.index('left_gripper'), -0.107202
    assert state.velocity[hand] == pytest.approx(0.5 * gain)
    assert state.effort[hand] == pytest.approx(10.0 / gain)
    assert state.velocity[0] == 0.5
    assert np.isnan(state.velocity[UR.arm_slice('right')]).all()


def test_states_come_at_the_control_rate_with_growing_stamps_and_once_each():
    driver = Driver(UR)
    states = driver.run(2.0)
    stamps = [s.stamp for s in states]
    assert (np.diff(stamps) > 0).all()
    assert len(states) == pytest.approx(2.0 * UR.rates.control, abs=2)


@pytest.mark.parametrize('hertz', [60.0, 130.0, 1000.0])
def test_states_keep_to_the_control_rate_whatever_the_drivers_rate(hertz):
    driver = Driver(OPENARM)
    count = 0
    for _ in range(int(4 * hertz)):
        driver.now += 1 / hertz
        driver.put()
        count += driver.measurements.take(driver.now) is not None
    assert count == pytest.approx(4 * OPENARM.rates.control, rel=0.03)


def test_no_state_before_every_joint_was_seen():
    driver = Driver(UR)
    assert 'yet' in driver.measurements.fault(driver.now)
    driver.put(0)
    assert driver.measurements.take(driver.now) is None
    assert '/right/joint_states' in driver.measurements.fault(driver.now)


def test_silence_of_one_topic_is_a_fault_of_the_whole_robot_until_it_is_back():
    driver = Driver(UR)
    driver.run(1.0)
    assert driver.measurements.fault(driver.now) == ''
    for _ in range(20):
        driver.now += PERIOD
        driver.put(0)
        assert driver.measurements.take(driver.now) is None or driver.now < 1.12
    fault = driver.measurements.fault(driver.now)
    assert fault.startswith('no joint states on /right/joint_states for 0.')
    assert '/left/joint_states' not in fault
    assert driver.run(PERIOD) != []
    assert driver.measurements.fault(driver.now) == ''


def test_a_jump_is_named_and_stays_a_fault_until_it_is_accepted():
    driver = Driver()
    driver.run(1.0)
    driver.ours[2] += 0.5
    driver.now += PERIOD
    said = 'jump of the measured position: left_joint3 by 0.500'
    assert driver.put() == said
    assert driver.run(0.5) == []
    assert driver.measurements.fault(driver.now) == said
    driver.measurements.accept()
    assert driver.run(0.1) != []
    assert driver.measurements.position[2] == pytest.approx(driver.ours[2])


def test_moving_at_the_velocity_limit_and_a_fast_hand_are_no_jumps():
    driver = Driver()
    driver.run(0.5)
    for _ in range(100):
        driver.now += PERIOD
        driver.ours[2] += 3.14 * PERIOD
        driver.ours[OPENARM.index('left_gripper')] = 0.088 * (driver.now * 20 % 2 > 1)
        assert driver.put() == ''


@pytest.mark.parametrize(('change', 'said'), [
    (lambda names, values: (names, values[:-1]), '16 names but 15 positions'),
    (lambda names, values: (names, [float('nan'), *values[1:]]),
     'position of openarm_left_joint1 is not a finite number'),
    (lambda names, values: (names, [*values[:-1], float('inf')]), 'right_finger_joint1'),
])
def test_a_broken_message_is_ignored_and_named(change, said):
    driver = Driver()
    driver.run(0.5)
    before = driver.measurements.position.copy()
    driver.ours += 0.01
    assert said in driver.put(0, change(*driver.message()))
    np.testing.assert_array_equal(driver.measurements.position, before)


def test_a_driver_with_another_clock_gets_our_time():
    driver = Driver()
    driver.put(stamp=3.0)
    assert driver.measurements.stamp == driver.offset
    assert driver.measurements.skew[0] == pytest.approx(997.0)


def test_rates_are_those_of_each_joint():
    driver = Driver(UR)
    driver.measurements.count_from(0.0)
    for k in range(100):
        driver.now += PERIOD
        driver.put(0)
        if k % 4 == 0:
            driver.put(1)
    rates = driver.measurements.rates(driver.now)
    assert rates[UR.arm_slice('left')] == pytest.approx([100.0] * 7)
    assert rates[UR.arm_slice('right')] == pytest.approx([25.0] * 7)
