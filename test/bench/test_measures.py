import numpy as np
import pytest
from cells import cell, ends
from hypothesis import given
from hypothesis import strategies as st

from il_robot.bench import measures
from il_robot.bench.measures import Estimate

ENDS = ends('a', -10.0, 90.0)


def test_zero_is_chance_and_one_the_expert():
    found = measures.curves([*ENDS, cell('a', 'bc', 0, -10.0, 40.0, 90.0)])
    assert found[0].score.tolist() == [0.0, 0.5, 1.0]
    assert measures.curves([cell('a', 'bc', 0, 1.0)]) == []  # nothing to compare with


@pytest.mark.parametrize(('scores', 'labels'), [
    ((0, 79, 90), 30.0), ((81, 0, 90), 10.0), ((0, 50, 79.9), np.inf)])
def test_convergence_is_the_first_time_near_the_expert(scores, labels):
    curve, = measures.curves([*ENDS, cell('a', 'bc', 0, *scores)])
    assert curve.to_converge('labels') == labels


def test_under_a_disturbance_scores_are_on_the_same_scale():
    curve, = measures.curves([*ENDS, cell('a', 'bc', 0, 90.0, robustness={
        'shoves': [(1, [90.0, 40.0]), (2, [-10.0, -10.0])]})])
    assert measures.under(curve, 'shoves') == [(0.0, 1.0), (1, pytest.approx(0.75)), (2, 0.0)]
    assert measures.under(curve, 'delay') == []
    assert measures.disturbances([curve], 'a') == ['shoves']


@given(st.lists(st.floats(-5, 5), min_size=4, max_size=24))
def test_the_interquartile_mean_is_scipys(values):
    stats = pytest.importorskip('scipy.stats')
    if len(values) % 4 == 0:
        assert measures.interquartile_mean(np.array(values)) == pytest.approx(
            float(stats.trim_mean(values, 0.25)), abs=1e-9)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_an_interval_holds_its_value(values):
    for found in (measures.over_seeds(values), measures.over_environments({'a': values})):
        assert found.low - 1e-9 <= found.value <= found.high + 1e-9
        assert min(values) - 1e-9 <= found.low <= found.high <= max(values) + 1e-9


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    rng, hits = np.random.default_rng(0), 0
    for k in range(200):
        found = measures.over_seeds(rng.normal(0.5, 0.1, 20), seed=k)
        hits += found.low <= 0.5 <= found.high
    assert 175 <= hits <= 198  # 95 %, a little less with a bootstrap of 20


def test_differences_are_paired():
    ours = {('a', s): 0.5 + 0.1 * s for s in range(5)}
    theirs = {key: value - 0.05 for key, value in ours.items()}
    found = measures.difference(ours, theirs)
    assert found.low == pytest.approx(0.05) and found.high == pytest.approx(0.05)
    assert measures.difference(ours, {('b', 0): 1.0}) is None


@pytest.mark.parametrize(('found', 'word'), [
    (Estimate(0.2, 0.1, 0.3), 'better'), (Estimate(-0.2, -0.3, -0.1), 'worse'),
    (Estimate(0.1, -0.1, 0.3), 'no difference shown'), (None, 'not compared')])
def test_a_verdict_says_no_more_than_the_interval(found, word):
    assert measures.verdict(found) == word
