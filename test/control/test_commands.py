import numpy as np
import pytest

from il_robot.control.commands import CommandBuffer

HERE, THERE = np.zeros(2, np.float32), np.ones(2, np.float32)


def test_lockstep_takes_the_answer_to_the_present_observation_alone():
    commands = CommandBuffer(lockstep=True, timeout=0.2)
    commands.begin(1.0)
    assert commands.get(1.0) is None
    assert commands.put(0.98, HERE, 1.0) == 'of another stamp'
    assert commands.put(1.02, HERE, 1.0) == 'of another stamp'
    assert commands.put(1.0, THERE, 1.0) == ''
    assert commands.get(1.0) is THERE
    assert commands.get(1.02) is None  # the next observation has no answer yet


def test_real_time_takes_the_newest_while_it_is_young():
    commands = CommandBuffer(lockstep=False, timeout=0.2)
    commands.begin(1.0)
    assert commands.put(1.0, HERE, 1.04) == ''
    assert commands.put(1.02, THERE, 1.06) == ''
    assert commands.put(1.0, HERE, 1.06) == 'out of order'
    assert commands.get(1.2) is THERE and commands.age(1.2) == pytest.approx(0.18)
    assert commands.get(1.23) is None
    assert commands.put(1.1, HERE, 1.31) == 'too old'
    assert commands.put(1.3, HERE, 1.31) == '' and commands.get(1.31) is HERE


def test_what_was_meant_for_the_last_episode_moves_nothing():
    commands = CommandBuffer(lockstep=False, timeout=0.2)
    commands.put(1.0, THERE, 1.0)
    commands.begin(1.02)
    assert commands.get(1.02) is None
    assert commands.put(1.0, THERE, 1.04) == 'of the last episode'
    assert commands.put(1.02, HERE, 1.04) == ''


@pytest.mark.parametrize('lockstep', [True, False])
def test_the_future_is_refused(lockstep):
    commands = CommandBuffer(lockstep=lockstep, timeout=0.2)
    assert commands.put(2.0, THERE, 1.0) == 'from the future'
    assert commands.get(1.0) is None and commands.age(1.0) == float('inf')
