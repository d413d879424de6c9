import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from il_robot.control.stats import Percentiles, Rate


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=50))
def test_percentiles_are_those_of_the_newest_values(values):
    percentiles = Percentiles(size=20)
    for value in values:
        percentiles.add(value)
    newest = values[-20:]
    found = percentiles.values()
    assert found['p50'] == pytest.approx(np.median(newest))
    assert found['max'] == max(newest)
    assert found['p50'] <= found['p95'] <= found['p99'] <= found['max']


def test_no_values_no_percentiles():
    assert Percentiles().values() == {}


def test_a_steady_rate_is_found_and_silence_ends_it():
    rate = Rate(window=2.0)
    assert rate.hertz(0.0) == 0.0
    for k in range(500):
        rate.tick(100.0 + 0.02 * k)
    now = 100.0 + 0.02 * 499
    assert rate.hertz(now) == pytest.approx(50.0, rel=0.02)
    assert rate.hertz(now + 1.0) == pytest.approx(25.0, rel=0.04)
    assert rate.hertz(now + 2.5) == 0.0


def test_the_start_does_not_count_as_silence():
    rate = Rate(window=2.0)
    for k in range(11):
        rate.tick(0.02 * k)
    assert rate.hertz(0.2) == pytest.approx(55.0)
