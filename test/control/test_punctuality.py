"""Laws of who is waited for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from il_robot.control.punctuality import Punctuality
from il_robot.types import Source

PATIENCE, DT = 0.008, 0.02
EVERYBODY = (Source.TELEOP, Source.EXPERT, Source.POLICY)


def run(punctual, delays, source=Source.EXPERT):
    """Observations whose answers take so long (None: none comes); whether each was waited for."""
    waits = []
    for i, delay in enumerate(delays):
        now = 100.0 + i * DT
        punctual.observe(i * DT, now)
        waits.append(source in punctual.awaited(EVERYBODY, now))
        assert punctual.awaited(EVERYBODY, now + PATIENCE + 1e-9) == []
        if delay is not None:
            punctual.answer(source, i * DT, now + delay)
            if delay <= PATIENCE:
                assert source not in punctual.awaited(EVERYBODY, now + delay)
    return waits


def test_who_was_quick_four_times_is_waited_for_from_then_on():
    assert run(Punctuality(PATIENCE), [0.004] * 7) == [False] * 4 + [True] * 3


@pytest.mark.parametrize('delay', [None, 0.0081, 0.019])
def test_who_is_slow_is_never_waited_for(delay):
    assert not any(run(Punctuality(PATIENCE), [delay] * 20))


@given(st.lists(st.one_of(st.none(), st.sampled_from([0.001, 0.007, 0.009])), max_size=60))
def test_only_who_answered_the_last_observation_in_time_is_waited_for(delays):
    waits = run(Punctuality(PATIENCE), delays)
    for before, wait in zip(delays, waits[1:]):
        assert not wait or (before is not None and before <= PATIENCE)


def test_who_answers_the_command_and_not_the_observation_costs_next_to_nothing():
    """The answer comes just after the decision: quick where nobody waits, else too late."""
    punctual, waits = Punctuality(PATIENCE), []
    for i in range(5000):
        now = 100.0 + i * DT
        punctual.observe(i * DT, now)
        waits.append(bool(punctual.awaited(EVERYBODY, now)))
        punctual.decided()
        # a timer that is early does not make it punctual
        punctual.answer(Source.POLICY, i * DT, now + (0.7 * PATIENCE if waits[-1] else 0.0005))
    assert sum(waits[:1000]) <= 6 and sum(waits) < 16


def test_a_quick_source_is_forgiven():
    punctual = Punctuality(PATIENCE)
    waits = run(punctual, ([0.002] * 20 + [None]) * 4 + [0.002] * 300 + [None] + [0.002] * 25)
    assert all(waits[84 + 64:384])
    assert all(waits[-5:])  # the record was cleared: waited for again soon


def test_answers_to_other_observations_and_other_sources_do_not_count():
    punctual = Punctuality(PATIENCE)
    punctual.observe(0.0, 0.0)
    punctual.answer(Source.POLICY, -DT, 0.001)
    for i in range(1, 6):
        punctual.answer(Source.TELEOP, (i - 1) * DT, (i - 1) * DT + 0.001)
        punctual.answer(Source.POLICY, (i - 2) * DT, (i - 1) * DT + 0.001)
        punctual.observe(i * DT, i * DT)
    assert punctual.awaited(EVERYBODY, 5 * DT) == [Source.TELEOP]
    assert punctual.awaited((Source.POLICY,), 5 * DT) == []


def test_without_patience_nobody_is_waited_for():
    assert not any(run(Punctuality(0.0), [0.0] * 5))
