import numpy as np
import pytest

from il_robot.control.commands import CommandBuffer

HERE, THERE = np.zeros(2, np.float32), np.full(2, 0.02, np.float32)
SPEED = np.array([1.0, np.inf], np.float32)  # of an arm's joint and a gripper


def test_lockstep_takes_the_answer_to_the_present_observation_alone():
    commands = CommandBuffer(lockstep=True, timeout=0.2, speed=SPEED)
    commands.begin(1.0)
    assert commands.get(1.0) is None
    assert commands.put(0.98, HERE, 1.0, HERE) == 'of another stamp'
    assert commands.put(1.02, HERE, 1.0, HERE) == 'of another stamp'
    assert commands.put(1.0, THERE, 1.0, HERE) == ''
    assert commands.get(1.0) is THERE
    assert commands.get(1.02) is None  # the next observation has no answer yet


def test_real_time_takes_the_newest_while_it_is_young():
    commands = CommandBuffer(lockstep=False, timeout=0.2, speed=SPEED)
    commands.begin(1.0)
    assert commands.put(1.0, HERE, 1.04, HERE) == ''
    assert commands.put(1.02, THERE, 1.06, HERE) == ''
    assert commands.put(1.0, HERE, 1.06, HERE) == 'out of order'
    assert commands.get(1.2) is THERE and commands.age(1.2) == pytest.approx(0.18)
    assert commands.get(1.23) is None
    assert commands.put(1.1, HERE, 1.31, HERE) == 'too old'
    assert commands.put(1.3, HERE, 1.31, HERE) == '' and commands.get(1.31) is HERE


def test_what_was_meant_for_the_last_episode_moves_nothing():
    commands = CommandBuffer(lockstep=False, timeout=0.2, speed=SPEED)
    commands.put(1.0, THERE, 1.0, HERE)
    commands.begin(1.02)
    assert commands.get(1.02) is None
    assert commands.put(1.0, THERE, 1.04, HERE) == 'of the last episode'
    assert commands.put(1.02, HERE, 1.04, HERE) == ''


@pytest.mark.parametrize('lockstep', [True, False])
def test_the_future_is_refused(lockstep):
    commands = CommandBuffer(lockstep=lockstep, timeout=0.2, speed=SPEED)
    assert commands.put(2.0, THERE, 1.0, HERE) == 'from the future'
    assert commands.get(1.0) is None and commands.age(1.0) == float('inf')


def test_a_command_that_no_joint_can_follow_is_refused():
    """Further from the last one than its speed allows; a gripper's may be anywhere."""
    commands = CommandBuffer(lockstep=False, timeout=0.2, speed=SPEED)
    near, far, wide = (np.array(v, np.float32) for v in ((0.03, 0.0), (0.3, 0.0), (0.0, 5.0)))
    assert commands.put(1.0, HERE, 1.0, HERE) == ''
    assert commands.put(1.02, far, 1.02, HERE) == 'too far away'
    assert commands.get(1.02) is HERE  # the last one goes on
    assert trusted_again(commands, near, 1.02) == 1.06
    assert commands.put(1.08, wide, 1.08, HERE) == ''
    assert commands.put(1.2, far, 1.2, HERE) == 'too far away'
    assert trusted_again(commands, np.array([0.13, 5.0], np.float32), 1.22)


def trusted_again(commands, position, now, measured=HERE):
    """When a command after one that was too far away is obeyed: the third of its kind."""
    for _ in range(2):
        assert commands.put(now, position, now, measured) == 'soon after one too far away'
        now = round(now + 0.02, 6)
    assert commands.put(now, position, now, measured) == ''
    assert commands.get(now) is position
    return now


def test_commands_that_do_not_go_on_from_one_another_are_not_obeyed():
    """Torn ones are near by chance now and then, but seldom three in a row."""
    commands = CommandBuffer(lockstep=False, timeout=0.2, speed=SPEED)
    rng, now, obeyed = np.random.default_rng(0), 1.0, 0
    for _ in range(2000):
        position = rng.uniform(-1, 1, 2).astype(np.float32)  # one of four is near
        obeyed += commands.put(now, position, now, HERE) == ''
        now += 0.02
    assert obeyed <= 2  # with one that is near enough it would be hundreds


def test_the_first_command_and_one_after_a_silence_begin_where_the_robot_is():
    commands = CommandBuffer(lockstep=False, timeout=0.2, speed=SPEED)
    there = np.array([2.0, 0.0], np.float32)
    assert commands.put(1.0, there, 1.0, HERE) == 'too far away'
    now = trusted_again(commands, there, 1.0, there + np.float32(0.2))
    assert commands.put(now + 0.1, HERE, now + 0.1, HERE) == 'too far away'
    assert commands.get(now + 0.21) is None
    trusted_again(commands, HERE, now + 0.21)


def test_in_lockstep_who_answers_may_send_anything():
    commands = CommandBuffer(lockstep=True, timeout=0.2, speed=SPEED)
    assert commands.put(1.0, np.array([9.0, 9.0], np.float32), 1.0, HERE) == ''
