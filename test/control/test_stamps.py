"""Which stamps of a robot's state are believed."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from il_robot.control.stamps import Stamps


def judged(stamps, **options):
    judge = Stamps(**options)
    return [judge.judge(s) for s in stamps]


def test_time_that_goes_on_is_taken():
    assert judged([5.0, 5.02, 5.04, 5.9]) == ['next'] * 4


def test_what_is_late_is_old():
    assert judged([5.0, 5.04, 5.02, 5.06]) == ['next', 'next', 'old', 'next']


@pytest.mark.parametrize('wrong', [1e9, -3.0, 0.0])
def test_one_wrong_stamp_changes_nothing(wrong):
    assert judged([5.0, 5.02, wrong, 5.04, 5.06]) == ['next', 'next', 'suspect', 'next', 'next']


def test_a_clock_that_really_went_on_or_back_is_believed_after_a_while():
    forward, back = (
        judged([5.0, *(begin + 0.02 * i for i in range(8))]) for begin in (90.0, 0.02))
    assert forward == ['next', *['suspect'] * 5, 'next', 'next', 'next']
    assert back == ['next', *['suspect'] * 5, 'restart', 'next', 'next']


def test_a_slow_clock_is_believed_at_its_second_message():
    assert judged([5.0, 90.0, 90.2, 90.4]) == ['next', 'suspect', 'next', 'next']


@pytest.mark.parametrize('share', [0.1, 0.5])
def test_random_wrong_stamps_are_never_believed(share):
    rng = np.random.default_rng(0)
    judge, now = Stamps(), 5.0
    judge.judge(now)
    for _ in range(5000):
        now += 0.02
        wrong = rng.random() < share
        stamp = float(rng.choice([0.0, 2.0**31 - 1])) + now % 1.0 if wrong else now
        assert judge.judge(stamp) == ('suspect' if wrong else 'next')


def test_two_clocks_do_not_take_turns():
    mixed = [t for i in range(20) for t in (5 + 0.02 * i, 700 + 0.02 * i)]
    assert set(judged(mixed)[1::2]) == {'suspect'} and set(judged(mixed)[0::2]) == {'next'}


def test_in_lockstep_a_jump_needs_no_confirmation():
    assert judged([5.0, 90.0, 0.02, 0.04], trusting=True) == ['next', 'next', 'restart', 'next']


@given(st.lists(st.floats(-1e6, 1e12), max_size=50), st.floats(0, 100))
def test_after_anything_whatever_a_good_clock_is_back_soon(noise, begin):
    judge = Stamps()
    for stamp in noise:
        judge.judge(stamp)
    verdicts = [judge.judge(begin + 0.02 * i) for i in range(60)]
    taken = [i for i, v in enumerate(verdicts) if v in ('next', 'restart')]
    # Close behind the last believed one it is late for as long as it takes to catch up.
    assert taken and taken[0] <= 55 and taken == list(range(taken[0], 60))


def test_a_jump_of_nothing_is_refused():
    with pytest.raises(ValueError, match='jump'):
        Stamps(0.0)
