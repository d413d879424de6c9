import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from il_robot.data import keys, stats


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.lists(st.integers(1, 40), min_size=1, max_size=6))
def test_merging_episodes_equals_statistics_of_all_rows(seed, lengths):
    values = np.random.default_rng(seed).normal(2, 5, (sum(lengths), 3)).astype(np.float32)
    merged: stats.Stats = {}
    for part in np.split(values, np.cumsum(lengths)[:-1]):
        merged = stats.merge(merged, stats.table_stats({'a': part}))
    whole = stats.table_stats({'a': values})['a']
    for name in ('min', 'max', 'mean', 'std', 'count'):
        np.testing.assert_allclose(merged['a'][name], whole[name], atol=1e-9)
    # quantiles are averages (as in LeRobot): between those of the episodes, in order
    order = [merged['a'][name] for name in stats.QUANTILES]
    assert all((low <= high + 1e-12).all() for low, high in zip(order[:-1], order[1:]))


def test_merge_changes_neither_argument():
    one, two = (stats.table_stats({'a': np.full((4, 2), v)}) for v in (1.0, 3.0))
    before = stats.to_json(one)
    stats.merge(one, two)
    assert stats.to_json(one) == before


def test_scalar_bool_and_int_columns_have_shape_one():
    got = stats.table_stats({'a': np.array([True, False, False, False]), 'b': np.arange(4)})
    assert got['a']['mean'].tolist() == [0.25] and got['b']['max'].tolist() == [3.0]
    assert got['a']['count'].tolist() == [4]


def test_columns_where_nan_has_meaning_are_left_out():
    assert set(stats.table_stats({k: np.ones((3, 2)) for k in (*keys.MAY_BE_NAN, 'a')})) == {'a'}


@pytest.mark.parametrize('seed', range(3))
def test_image_statistics_equal_those_of_the_pixels(seed):
    rng = np.random.default_rng(seed)
    pictures = rng.integers(10 * seed, 200, (5, 16, 12, 3), dtype=np.uint8)
    histogram = np.stack([np.bincount(pictures[..., c].ravel(), minlength=256) for c in range(3)])
    got = stats.image_stats(histogram, 5)
    pixels = pictures.reshape(-1, 3) / 255.0
    assert all(got[name].shape == (3, 1, 1) for name in ('min', 'max', 'mean', 'std', 'q50'))
    for name in ('min', 'max', 'mean', 'std'):
        np.testing.assert_allclose(got[name].ravel(), getattr(pixels, name)(axis=0), atol=1e-9)
    median = np.quantile(pixels, 0.5, axis=0)
    np.testing.assert_allclose(got['q50'].ravel(), median, atol=1 / 255)
    assert got['count'].tolist() == [5]


def test_round_trips():
    got = stats.table_stats({'a': np.random.default_rng(0).normal(size=(9, 2)), 'b': np.arange(9)})
    for again in (stats.from_json(json.loads(json.dumps(stats.to_json(got)))),
                  stats.from_row({'length': 9, **stats.to_row(got)})):
        assert stats.to_json(again) == stats.to_json(got)


def test_a_row_without_complete_statistics_gives_none():
    assert stats.from_row({'stats/a/mean': [1.0], 'stats/b/min': None, 'length': 3}) == {}
