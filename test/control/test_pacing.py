import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from il_robot.control.pacing import Pacer, Restraint


@given(st.lists(st.floats(0.0, 0.05), min_size=1, max_size=100), st.floats(0.005, 0.1))
def test_jitter_never_becomes_drift(gaps, period):
    """However irregular the calls: what was run and what was lost add up to the time passed."""
    pacer, now, done = Pacer(period, 10.0, most=3), 10.0, 0
    for gap in gaps:
        now += gap
        due = pacer.due(now)
        assert 0 <= due <= 3
        done += due
    assert abs(done + pacer.lost - (now - 10.0) / period) <= 1.0 + 1e-6


def test_a_late_call_makes_up_for_a_little_and_gives_up_the_rest():
    pacer = Pacer(0.02, 0.0, most=3)
    assert pacer.due(0.021) == 1 and pacer.due(0.03) == 0
    assert pacer.due(0.0801) == 3 and pacer.lost == 0
    assert pacer.due(10.001) == 3
    assert pacer.lost == 493
    assert pacer.due(10.021) == 1  # at pace again


def test_restart_counts_from_now_on():
    pacer = Pacer(0.02, 0.0)
    pacer.restart(0.01, 5.0)
    assert pacer.due(5.005) == 0 and pacer.due(5.0101) == 1


@pytest.mark.parametrize('arguments', [(0.0, 1.0, 3), (-1.0, 1.0, 3), (1.0, 1.0, 0)])
def test_nonsense_is_refused(arguments):
    with pytest.raises(ValueError, match='must be'):
        Pacer(*arguments)


def test_a_world_in_which_nothing_happens_keeps_the_pace_of_the_wall():
    still, moved = np.zeros(3, np.float32), np.array([0.0, 1e-6, 0.0], np.float32)
    restraint = Restraint(0.02, after=3)
    assert [restraint.allows(still, 1.0) for _ in range(6)] == [True] * 3 + [False] * 3
    assert not restraint.allows(still, 1.019)
    assert restraint.allows(still, 1.021) and not restraint.allows(still, 1.022)
    assert all(restraint.allows(command, 1.022) for command in [moved, still] * 20)
    assert [restraint.allows(still, 1.022) for _ in range(5)] == [True] * 2 + [False] * 3


def test_a_command_that_is_changed_in_place_is_a_new_one():
    command = np.zeros(3, np.float32)
    restraint = Restraint(0.02, after=1)
    for i in range(10):
        command[0] = i
        assert restraint.allows(command, 1.0)
