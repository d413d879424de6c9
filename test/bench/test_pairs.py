import numpy as np
import pytest
from cells import cell, ends, made

from il_robot.bench import measures, pairs
from il_robot.bench.intervals import Estimate


def test_of_many_equal_methods_hardly_one_is_called_better():
    rng, wrong, runs = np.random.default_rng(1), 0, 60
    for _ in range(runs):
        methods = [made(str(k), {'x': rng.normal(0.5, 0.1, 3), 'y': rng.normal(0.5, 0.1, 3)})
                   for k in range(5)]
        found = [pairs.difference(a, b) for i, a in enumerate(methods) for b in methods[i + 1:]]
        wrong += any(pairs.verdict(e, p) != 'no difference shown'
                     for e, p in zip(found, pairs.holm(found)))
    assert wrong <= 0.15 * runs


def test_a_difference_that_is_there_is_shown():
    ours = made('a', {'x': [0.9, 0.92, 0.94], 'y': [0.8, 0.82, 0.84]})
    theirs = made('b', {'x': [0.5, 0.55, 0.5], 'y': [0.4, 0.42, 0.39]})
    found = pairs.difference(ours, theirs)
    assert pairs.verdict(found, *pairs.holm([found])) == 'better'
    back = pairs.difference(theirs, ours)
    assert pairs.verdict(back, *pairs.holm([back])) == 'worse'
    assert pairs.difference(ours, made('c', {'z': [0.5, 0.5]})) is None


def test_differences_are_paired():
    values = [0.1, 0.5, 0.9]
    found = pairs.difference(
        made('a', {'x': values}), made('b', {'x': [v - 0.05 for v in values]}))
    unpaired = measures.over_seeds(made('a', {'x': values}))
    assert found.value == pytest.approx(0.05)
    assert found.high - found.low < 0.01 * (unpaired.high - unpaired.low)


def test_holm_is_that_of_the_book():
    p = [0.01, 0.04, 0.03, 0.005, float('nan')]
    found = pairs.holm([Estimate(0.1, 0.0, 0.2, v) for v in p])
    assert found[:4] == pytest.approx([0.03, 0.06, 0.06, 0.02]) and np.isnan(found[4])


def test_an_environment_with_one_seed_does_not_silence_the_others():
    ours, theirs = made('a', {'x': [0.9, 0.9, 0.8], 'y': [0.1]}), made(
        'b', {'x': [0.5, 0.5, 0.5], 'y': [0.9]})
    found = pairs.difference(ours, theirs)
    assert found.over == (1, 3) and found.low > 0


def long(method, labels, *scores, more=False, environment='x'):
    """Curves of two seeds whose points took these labels, and perhaps more than cloning."""
    cells = [cell(environment, method, seed, *scores) for seed in range(2)]
    for one in cells:
        for point, took in zip(one['points'], labels, strict=True):
            point |= {'labels': took, 'steps': took} | ({} if more else {'switches': 0})
    return measures.curves([*ends(environment), *cells])


def test_at_equal_labels_both_are_read_where_they_had_taken_as_many():
    much, little = long('a', (10, 20, 60), 0.2, 0.3, 0.9), long('b', (10, 21), 0.1, 0.5)
    assert pairs.difference(much, little).value == pytest.approx(0.4)
    assert pairs.difference(much, little, equal_labels=True).value == pytest.approx(-0.2)
    assert not pairs.as_many_labels(much, little) and pairs.as_many_labels(much, much)
    # what it was like with 40 is not known of one that was evaluated with 20 and with 60
    for other in (long('c', (10, 40), 0.1, 0.8), long('d', (0, 0), 0.1, 0.5),
                  long('e', (35, 45), 0.1, 0.5)):
        assert pairs.difference(much, other, equal_labels=True) is None


def test_a_clone_that_a_method_begins_with_is_not_the_method():
    much, first = long('a', (10, 20, 60), 0.2, 0.3, 0.9), long('b', (20, 30), 0.3, 0.5, more=True)
    assert pairs.difference(much, first, equal_labels=True) is None
    later = long('b', (10, 20), 0.2, 0.5, more=True)
    assert pairs.difference(much, later, equal_labels=True).value == pytest.approx(-0.2)


def test_an_environment_counts_at_equal_labels_where_all_seeds_do():
    ours = [*long('a', (10, 20), 0.2, 0.3), *long('a', (10, 20), 0.2, 0.6, environment='y')]
    theirs = [*long('b', (10, 20), 0.2, 0.4), *long('b', (10, 20), 0.2, 0.1, environment='y')]
    assert pairs.places(ours, theirs, equal_labels=True).keys() == {'x', 'y'}
    theirs[-1].labels[:] = 4, 40
    assert pairs.places(ours, theirs, equal_labels=True).keys() == {'x'}
    assert pairs.places(ours, theirs).keys() == {'x', 'y'}


def test_small_probabilities_are_as_rare_as_they_say():
    """Also with few seeds, of which one environment has two, and many episodes."""
    rng, runs, small = np.random.default_rng(2), 400, 0
    for _ in range(runs):
        ours, theirs = ([c for k, seeds in enumerate((2, 3, 3))
                         for c in noisy(rng, f'e{k}', method, seeds)] for method in 'ab')
        small += pairs.difference(ours, theirs).p < 0.01
    assert small <= 0.01 * runs  # six of 400, with the episodes' freedom


def noisy(rng, environment, method, seeds):
    """Runs of luck: their own, and that of a method with 100 episodes."""
    luck = rng.normal(0, 1, 100)
    cells = [cell(environment, method, seed, 0.0) for seed in range(seeds)]
    for one in cells:
        one['points'][-1]['scores'] = (
            rng.normal(0, 0.3) + luck + rng.normal(0, 0.3, 100)).tolist()
    return measures.curves([*ends(environment, -10.0, 10.0), *cells])
