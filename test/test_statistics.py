"""The Wilson interval against published values; percentiles."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from il_robot.statistics import Percentiles, t_quantile, t_tail, wilson


@pytest.mark.parametrize(('successes', 'n', 'low', 'high'), [
    # the last two as published for LeRobot's ACT (75.0 to 85.8 %, 7.8 to 16.7 %)
    (0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (49, 50, 0.8950, 0.9965),
    (162, 200, 0.750, 0.858), (23, 200, 0.078, 0.167),
])
def test_wilson_interval_has_the_known_values(successes, n, low, high):
    assert wilson(successes, n) == pytest.approx((low, high), abs=6e-4)


def test_wilson_interval_contains_the_rate_and_shrinks():
    assert wilson(0, 0) == (0.0, 1.0)
    widths = []
    for n in (10, 100, 1000):
        low, high = wilson(n // 5, n)
        assert low < 0.2 < high
        widths.append(high - low)
    assert widths == sorted(widths, reverse=True)


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


@pytest.mark.parametrize(('df', 't'), [
    (1, 12.7062), (2, 4.30265), (3, 3.18245), (4, 2.77645), (10, 2.22814), (30, 2.04227),
    (1000, 1.96234), (2.5, 3.5749)])
def test_students_t_is_that_of_the_tables(df, t):
    assert t_quantile(df) == pytest.approx(t, rel=1e-3)
    assert t_tail(t, df) == pytest.approx(0.05, rel=2e-3)
    assert t_tail(-t, df) == t_tail(t, df)
    assert t_tail(0.0, df) == pytest.approx(1.0, abs=1e-6) and t_tail(math.inf, df) == 0.0
