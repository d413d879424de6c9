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
    ((0, 79, 90), 30.0), ((81, 0, 90), 30.0), ((0, 50, 79.9), np.inf), ((0, 85, 86), 20.0)])
def test_convergence_is_where_it_stays_near_the_expert(scores, labels):
    curve, = measures.curves([*ENDS, cell('a', 'bc', 0, *scores)])
    assert curve.to_converge('labels') == labels


def test_a_single_point_does_not_say_when():
    curve, = measures.curves([*ENDS, cell('a', 'bc', 0, 90.0)])
    assert np.isnan(curve.to_converge('labels'))


def test_under_a_disturbance_scores_are_on_the_same_scale():
    curve, = measures.curves([*ENDS, cell('a', 'bc', 0, 90.0, robustness={
        'shoves': [(1, [90.0, 40.0]), (2, [-10.0, -10.0])]})])
    assert [found[:2] for found in measures.under(curve, 'shoves')] == [
        (1, pytest.approx(0.75)), (2, 0.0)]
    assert measures.under(curve, 'shoves')[0][2] == pytest.approx(0.25 / np.sqrt(2))
    assert measures.under(curve, 'delay') == []
    assert measures.disturbances([curve], 'a') == ['shoves']


@given(st.lists(st.floats(-5, 5), min_size=4, max_size=24))
def test_the_interquartile_mean_is_scipys(values):
    stats = pytest.importorskip('scipy.stats')
    if len(values) % 4 == 0:
        assert measures.interquartile_mean(np.array(values)) == pytest.approx(
            float(stats.trim_mean(values, 0.25)), abs=1e-9)


def made(method, by_environment, seeds=None):
    """Curves of one point each."""
    cells = [cell(e, method, s, v) for e, values in by_environment.items()
             for s, v in enumerate(values)]
    return measures.curves([c for e in by_environment for c in ends(e)] + cells)


def test_one_seed_has_no_interval_and_no_verdict():
    ours, theirs = made('a', {'x': [0.5]}), made('b', {'x': [0.49]})
    for found in (measures.over_seeds(ours), measures.over_environments({'x': ours})):
        assert found.value == 0.5 and np.isnan([found.low, found.high]).all()
    found = measures.difference(ours, theirs)
    assert measures.verdict(found, *measures.holm([found])) == 'one seed: not compared'


@given(st.lists(st.floats(0, 1), min_size=2, max_size=6))
def test_an_interval_holds_its_value(values):
    curves = made('a', {'x': values})
    for found in (measures.over_seeds(curves), measures.over_environments({'x': curves})):
        assert found.low - 1e-9 <= found.value <= found.high + 1e-9


@pytest.mark.parametrize('seeds', [3, 5])
@pytest.mark.parametrize('environments', [1, 4])
def test_intervals_hold_the_truth_as_often_as_they_say(seeds, environments):
    rng, runs = np.random.default_rng(0), 300
    hits = {'seeds': 0, 'environments': 0, 'difference': 0}
    for _ in range(runs):
        ours, theirs = (
            made(name, {f'e{k}': rng.normal(0.5, 0.1, seeds) for k in range(environments)})
            for name in 'ab')
        by = {}
        for c in ours:
            by.setdefault(c.environment, []).append(c)
        for name, found, truth in (
                ('seeds', measures.over_seeds(by['e0']), 0.5),
                ('environments', measures.over_environments(by), 0.5),
                ('difference', measures.difference(ours, theirs), 0.0)):
            hits[name] += found.low <= truth <= found.high
    for name, count in hits.items():
        assert count >= 0.92 * runs, (name, count)  # 95 %, less three deviations of the counting


def test_of_many_equal_methods_hardly_one_is_called_better():
    rng, wrong, runs = np.random.default_rng(1), 0, 60
    for _ in range(runs):
        methods = [made(str(k), {'x': rng.normal(0.5, 0.1, 3), 'y': rng.normal(0.5, 0.1, 3)})
                   for k in range(5)]
        pairs = [measures.difference(a, b) for i, a in enumerate(methods) for b in methods[i + 1:]]
        wrong += any(measures.verdict(e, p) != 'no difference shown'
                     for e, p in zip(pairs, measures.holm(pairs)))
    assert wrong <= 0.15 * runs


def test_a_difference_that_is_there_is_shown():
    ours = made('a', {'x': [0.9, 0.92, 0.94], 'y': [0.8, 0.82, 0.84]})
    theirs = made('b', {'x': [0.5, 0.55, 0.5], 'y': [0.4, 0.42, 0.39]})
    found = measures.difference(ours, theirs)
    assert measures.verdict(found, *measures.holm([found])) == 'better'
    back = measures.difference(theirs, ours)
    assert measures.verdict(back, *measures.holm([back])) == 'worse'
    assert measures.difference(ours, made('c', {'z': [0.5, 0.5]})) is None


def test_differences_are_paired():
    values = [0.1, 0.5, 0.9]
    found = measures.difference(
        made('a', {'x': values}), made('b', {'x': [v - 0.05 for v in values]}))
    unpaired = measures.over_seeds(made('a', {'x': values}))
    assert found.value == pytest.approx(0.05)
    assert found.high - found.low < 0.01 * (unpaired.high - unpaired.low)


def test_seeds_that_agree_by_chance_are_not_believed_more_than_their_episodes():
    """Three seeds that all solve 95 of 100 do not make an interval of no width."""
    def run(seed):
        one = cell('x', 'a', seed, 0.0)
        one['points'][-1]['scores'] = [1.0] * 95 + [0.0] * 5
        return one
    curves = measures.curves([*ends('x'), *map(run, range(3))])
    found = measures.over_seeds(curves)
    assert 0.03 < found.high - found.low < 0.3


def test_holm_is_that_of_the_book():
    p = [0.01, 0.04, 0.03, 0.005, float('nan')]
    found = measures.holm([Estimate(0.1, 0.0, 0.2, v) for v in p])
    assert found[:4] == pytest.approx([0.03, 0.06, 0.06, 0.02]) and np.isnan(found[4])


def test_an_environment_without_a_scale_is_left_out_and_said():
    cells = [cell('a', 'bc', 0, 0.5), *ends('b', 0.5, 0.4), cell('b', 'bc', 0, 0.5), *ends('c'),
             cell('c', 'bc', 0, 0.5)]
    assert {c.environment for c in measures.curves(cells)} == {'c'}
    said = measures.without_scale(cells)
    assert 'no result of expert and random' in said['a']
    assert 'not better than acting at random' in said['b'] and said.keys() == {'a', 'b'}
