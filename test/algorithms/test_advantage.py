"""Advantages of own tries: exact where values are known, and found where they are not."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from il_robot.algorithms.advantage import Tries, advantages, returns, values, weights


def tries_of(lengths, success, seen=None):
    total = int(np.sum(lengths))
    seen = np.zeros((total, 1), np.float32) if seen is None else seen
    return Tries(seen, np.cumsum(lengths), np.array(success))


def test_returns_are_discounted_by_the_steps_that_are_left():
    found = returns(tries_of([3, 2], [True, False]), 0.5)
    np.testing.assert_allclose(found, [0.25, 0.5, 1.0, 0.0, 0.0])


LENGTHS = st.lists(st.integers(1, 12), min_size=1, max_size=5)


@given(LENGTHS, st.integers(0, 2**32 - 1), st.floats(0, 1), st.floats(0, 1))
def test_advantages_are_sums_of_surprises_and_no_episode_sees_another(lengths, seed, gamma, trace):
    rng = np.random.default_rng(seed)
    tries = tries_of(lengths, rng.random(len(lengths)) < 0.5)
    value = rng.random(len(tries.seen)).astype(np.float32)
    found = advantages(tries, value, gamma, trace)
    for start, stop, success in zip(tries.starts, tries.stops, tries.success):
        for t in range(start, stop):
            following = [*(gamma * value[t + 1:stop]), float(success)]
            expected = sum((gamma * trace) ** k * (after - before) for k, (after, before) in
                           enumerate(zip(following, value[t:stop])))
            assert found[t] == pytest.approx(expected, abs=1e-5)


@given(LENGTHS, st.integers(0, 2**32 - 1), st.floats(0.1, 1))
def test_looking_to_the_end_they_are_what_came_less_what_was_expected(lengths, seed, gamma):
    rng = np.random.default_rng(seed)
    tries = tries_of(lengths, rng.random(len(lengths)) < 0.5)
    value = rng.random(len(tries.seen)).astype(np.float32)
    np.testing.assert_allclose(
        advantages(tries, value, gamma, 1.0), returns(tries, gamma) - value, atol=1e-5)


@given(st.integers(0, 2**32 - 1), st.floats(0.1, 10))
def test_weights_ascend_with_the_advantage_have_mean_one_and_stay_bounded(seed, temperature):
    advantage = np.random.default_rng(seed).standard_normal(500)
    found = weights(advantage, temperature)
    order = np.argsort(advantage)
    assert (np.diff(found[order]) >= 0).all() and (found > 0).all()
    assert found.mean() == pytest.approx(1.0, rel=1e-4)
    assert found.max() <= 20.0 / np.exp(advantage / (temperature * advantage.std())).clip(
        max=20).mean() + 1e-3


def test_where_nothing_surprises_all_count_the_same():
    np.testing.assert_array_equal(weights(np.zeros(5), 1.0), np.ones(5))


def test_what_an_action_is_worth_is_found_among_luck():
    """A coin decides with the action: from the second step on its side is seen."""
    rng = np.random.default_rng(0)
    action = rng.random(2000) < 0.5
    success = rng.random(2000) < np.where(action, 0.8, 0.2)
    scene, side = rng.standard_normal(2000), np.where(action, 1.0, -1.0)
    seen = np.stack([np.stack([scene, np.zeros(2000)], 1), np.stack([scene, side], 1)], 1)
    tries = tries_of([2] * 2000, success, seen.reshape(-1, 2).astype(np.float32))
    value = values(tries, 1.0, 100, seed=0)
    first = value[::2].mean()
    after = [value[1::2][action == way].mean() for way in (False, True)]
    assert first == pytest.approx(0.5, abs=0.1)
    assert after == pytest.approx([0.2, 0.8], abs=0.1)
    found = advantages(tries, value, 1.0, 0.0)[::2]
    assert found[action].mean() > 0.2 and found[~action].mean() < -0.2
    np.testing.assert_array_equal(value, values(tries, 1.0, 100, seed=0))
