"""Laws of who is waited for."""

from hypothesis import given
from hypothesis import strategies as st

from il_robot.control.punctuality import Punctuality
from il_robot.types import Source

PATIENCE, DT = 0.008, 0.02
EVERYBODY = (Source.TELEOP, Source.EXPERT, Source.POLICY)
delays = st.one_of(st.none(), st.floats(0, 0.03))


def test_nobody_is_waited_for_before_he_was_quick_once():
    punctual = Punctuality(PATIENCE)
    punctual.observe(0.0, 100.0)
    assert punctual.awaited(EVERYBODY, 100.0) == []


@given(st.lists(delays, min_size=1, max_size=20))
def test_who_answered_the_last_observation_in_time_is_waited_for_and_only_so_long(answers):
    punctual = Punctuality(PATIENCE)
    for i, delay in enumerate(answers):
        now = 100.0 + i
        punctual.observe(i * DT, now)
        expected = i > 0 and answers[i - 1] is not None and answers[i - 1] <= PATIENCE - 1e-9
        if i > 0 and answers[i - 1] is not None and abs(answers[i - 1] - PATIENCE) < 1e-6:
            expected = Source.EXPERT in punctual.awaited(EVERYBODY, now)  # on the edge
        assert (Source.EXPERT in punctual.awaited(EVERYBODY, now)) == expected
        assert punctual.awaited(EVERYBODY, now + PATIENCE + 1e-9) == []
        assert punctual.awaited((Source.TELEOP,), now) == []
        if delay is not None:
            punctual.answer(Source.EXPERT, i * DT, now + delay)
            assert punctual.awaited(EVERYBODY, now + delay) == []


def test_an_answer_to_another_observation_is_none():
    punctual = Punctuality(PATIENCE)
    punctual.observe(0.0, 0.0)
    punctual.answer(Source.POLICY, -DT, 0.001)
    punctual.observe(DT, DT)
    assert punctual.awaited(EVERYBODY, DT) == []


def test_without_patience_nobody_is_waited_for():
    punctual = Punctuality(0.0)
    for i in range(3):
        punctual.observe(i * DT, i * DT)
        assert punctual.awaited(EVERYBODY, i * DT) == []
        punctual.answer(Source.POLICY, i * DT, i * DT)
