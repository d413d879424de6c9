import numpy as np
import pytest
from cells import cell, ends, made
from hypothesis import given
from hypothesis import strategies as st

from il_robot.bench import measures, pairs

ENDS = ends('a', -10.0, 90.0)


def test_zero_is_chance_and_one_the_expert():
    found = measures.curves([*ENDS, cell('a', 'bc', 0, -10.0, 40.0, 90.0)])
    assert found[0].score.tolist() == [0.0, 0.5, 1.0]
    assert measures.curves([cell('a', 'bc', 0, 1.0)]) == []  # nothing to compare with


@pytest.mark.parametrize(('scores', 'labels'), [
    ((0, 79, 90), 30.0), ((81, 0, 90), 30.0), ((0, 50, 79.9), np.inf), ((0, 85, 86), 20.0),
    ((85, 86, 0), 10.0), ((85, 0, 70), np.inf)])
def test_convergence_is_where_it_is_near_the_expert_twice(scores, labels):
    curve, = measures.curves([*ENDS, cell('a', 'bc', 0, *scores)])
    assert curve.to_converge('labels') == labels


def test_what_a_first_point_took_is_at_most_what_was_needed():
    def found(*runs):
        return measures.to_converge(measures.curves([*ENDS, *(
            cell('a', 'bc', seed, *scores) for seed, scores in enumerate(runs))]), 'labels')
    assert found((90.0,)) == (10.0, True) and found((90.0, 90.0)) == (10.0, True)
    assert found((0.0, 90.0)) == (20.0, False) and found((0.0,)) == (np.inf, False)
    # the median does not change with the one that might have needed less
    assert found((90.0, 90.0), (0.0, 90.0), (0.0, 90.0)) == (20.0, False)


def test_under_a_disturbance_scores_are_on_the_same_scale():
    curve, = measures.curves([*ENDS, cell('a', 'bc', 0, 90.0, robustness={
        'shoves': [(1, [90.0, 40.0]), (2, [-10.0, -10.0])]})])
    assert measures.under(curve, 'shoves') == [
        (1, pytest.approx(0.75), [90.0, 40.0]), (2, 0.0, [-10.0, -10.0])]
    assert measures.under(curve, 'delay') == []
    assert measures.disturbances([curve], 'a') == ['shoves']


@given(st.lists(st.floats(-5, 5), min_size=4, max_size=24))
def test_the_interquartile_mean_is_scipys(values):
    stats = pytest.importorskip('scipy.stats')
    if len(values) % 4 == 0:
        assert measures.interquartile_mean(np.array(values)) == pytest.approx(
            float(stats.trim_mean(values, 0.25)), abs=1e-9)


def test_one_seed_has_no_interval_and_no_verdict():
    ours, theirs = made('a', {'x': [0.5]}), made('b', {'x': [0.49]})
    for found in (measures.over_seeds(ours), measures.over_environments({'x': ours})):
        assert found.value == 0.5 and np.isnan([found.low, found.high]).all()
    found = pairs.difference(ours, theirs)
    assert pairs.verdict(found, *pairs.holm([found])) == 'one seed: not compared'


@given(st.lists(st.floats(0, 1), min_size=2, max_size=6))
def test_an_interval_holds_its_value(values):
    curves = made('a', {'x': values})
    for found in (measures.over_seeds(curves), measures.over_environments({'x': curves})):
        assert found.low - 1e-9 <= found.value <= found.high + 1e-9


@pytest.mark.parametrize('seeds', [3, 5])
@pytest.mark.parametrize('deviations', [[0.1], [0.1] * 4, [0.02, 0.02, 0.02, 0.2]])
def test_intervals_hold_the_truth_as_often_as_they_say(seeds, deviations):
    """Also where one environment alone varies."""
    rng, runs = np.random.default_rng(0), 300
    hits = {'seeds': 0, 'environments': 0, 'difference': 0}
    for _ in range(runs):
        ours, theirs = (
            made(name, {f'e{k}': rng.normal(0.5, d, seeds) for k, d in enumerate(deviations)})
            for name in 'ab')
        by = {}
        for c in ours:
            by.setdefault(c.environment, []).append(c)
        for name, found, truth in (
                ('seeds', measures.over_seeds(by['e0']), 0.5),
                ('environments', measures.over_environments(by), 0.5),
                ('difference', pairs.difference(ours, theirs), 0.0)):
            hits[name] += found.low <= truth <= found.high
    for name, count in hits.items():
        assert count >= 0.92 * runs, (name, count)  # 95 %, less three deviations of the counting


def by_episodes(method, environment, scores):
    """Curves of one point with these scores: ``(S, E)``."""
    cells = [cell(environment, method, seed, 0.0) for seed in range(len(scores))]
    for one, row in zip(cells, scores):
        one['points'][-1]['scores'] = row.tolist()
    return measures.curves([*ends(environment), *cells])


def test_the_luck_of_episodes_that_all_seeds_share_is_in_an_interval():
    """Ten episodes that differ and three seeds that do not: the mean is as sure as ten are."""
    rng, runs = np.random.default_rng(0), 300
    hits = {'seeds': 0, 'environments': 0, 'difference': 0}
    for _ in range(runs):
        luck = rng.normal(0.5, 0.2, 10)
        ours, theirs = (by_episodes(m, 'x', luck + rng.normal(0, 0.02, (3, 1))
                                    + rng.normal(0, 0.05, (3, 10))) for m in 'ab')
        for name, found, truth in (
                ('seeds', measures.over_seeds(ours), 0.5),
                ('environments', measures.over_environments({'x': ours}), 0.5),
                ('difference', pairs.difference(ours, theirs), 0.0)):
            hits[name] += found.low <= truth <= found.high
    for name, count in hits.items():
        assert count >= 0.92 * runs, (name, count)
    # both met the same episodes: their luck is not in the difference
    alone, between = measures.over_seeds(ours), pairs.difference(ours, theirs)
    assert between.high - between.low < 0.7 * (alone.high - alone.low)


def test_seeds_that_agree_by_chance_are_not_believed_more_than_their_episodes():
    """Three seeds that all solve 95 of 100 do not make an interval of no width."""
    def run(seed):
        one = cell('x', 'a', seed, 0.0)
        one['points'][-1]['scores'] = [1.0] * 95 + [0.0] * 5
        return one
    curves = measures.curves([*ends('x'), *map(run, range(3))])
    found = measures.over_seeds(curves)
    assert 0.03 < found.high - found.low < 0.3


def test_an_environment_without_a_scale_is_left_out_and_said():
    cells = [cell('a', 'bc', 0, 0.5), *ends('b', 0.5, 0.4), cell('b', 'bc', 0, 0.5), *ends('c'),
             cell('c', 'bc', 0, 0.5)]
    assert {c.environment for c in measures.curves(cells)} == {'c'}
    said = measures.without_scale(cells)
    assert 'no result of expert and random' in said['a']
    assert 'not better than acting at random' in said['b'] and said.keys() == {'a', 'b'}
