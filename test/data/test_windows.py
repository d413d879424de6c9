import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from il_robot.data.windows import gather, window_index
from il_robot.errors import DatasetError

lengths = st.lists(st.integers(1, 12), min_size=1, max_size=6)


def bounds(lengths):
    stops = np.cumsum(lengths)
    return stops - lengths, stops


@settings(max_examples=60, deadline=None)
@given(lengths, st.integers(1, 8), st.integers(1, 4))
def test_agrees_with_a_plain_loop(lengths, chunk_size, n_obs_steps):
    starts, stops = bounds(lengths)
    index = window_index(starts, stops, chunk_size, n_obs_steps)
    assert len(index) == sum(lengths)
    every = np.arange(len(index))
    rows, padding = index.action_rows(every)
    seen, before = index.observation_rows(every)
    for window, anchor in enumerate(range(sum(lengths))):
        episode = np.searchsorted(stops, anchor, side='right')
        start, stop = starts[episode], stops[episode]
        for t in range(chunk_size):
            assert rows[window, t] == min(anchor + t, stop - 1)
            assert padding[window, t] == (anchor + t >= stop)
        for k in range(n_obs_steps):
            at = anchor + k - (n_obs_steps - 1)
            assert seen[window, k] == max(at, start)
            assert before[window, k] == (at < start)


@settings(max_examples=30, deadline=None)
@given(lengths, st.integers(0, 2**32 - 1))
def test_filtered_rows_anchor_and_unusable_rows_pad(lengths, seed):
    rng = np.random.default_rng(seed)
    starts, stops = bounds(lengths)
    total = sum(lengths)
    allowed, usable = rng.random(total) < 0.7, rng.random(total) < 0.7
    if not (allowed & usable).any():
        with pytest.raises(DatasetError, match='none passes'):
            window_index(starts, stops, 4, rows=allowed, usable=usable)
        return
    index = window_index(starts, stops, 4, rows=allowed, usable=usable)
    assert np.array_equal(index.anchors, np.flatnonzero(allowed & usable))
    rows, padding = index.action_rows(np.arange(len(index)))
    assert usable[rows[~padding]].all()
    assert not padding[:, 0].any()


def test_episodes_may_be_any_subset():
    starts, stops = bounds([5, 7, 6])
    index = window_index(starts[[0, 2]], stops[[0, 2]], 3)
    assert index.anchors.tolist() == [*range(5), *range(12, 18)]


def test_gather_shape_and_values():
    values = np.arange(24.0).reshape(12, 2)
    rows, _ = window_index(np.array([0]), np.array([12]), 5).action_rows(np.array([0, 10]))
    assert np.array_equal(gather(values, rows), values[[[0, 1, 2, 3, 4], [10, 11, 11, 11, 11]]])


@pytest.mark.parametrize('sizes', [(0, 1), (1, 0)])
def test_sizes_below_one_are_refused(sizes):
    with pytest.raises(DatasetError, match='>= 1'):
        window_index(np.array([0]), np.array([5]), *sizes)
