import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from il_robot.data.normalizer import Normalizer, fit_normalizer
from il_robot.errors import DatasetError

rows = st.integers(0, 2**32 - 1).map(
    lambda seed: (np.random.default_rng(seed).normal(0.5, 3.0, (40, 4))).astype(np.float32))
modes = st.sampled_from(['mean_std', 'min_max', 'identity'])


@settings(max_examples=30, deadline=None)
@given(rows, modes)
def test_unnormalize_inverts_normalize_in_any_batch_shape(values, mode):
    normalizer = fit_normalizer({'a': values}, mode)
    for shape in ((40, 4), (5, 8, 4), (2, 4, 5, 4)):
        batch = values.reshape(shape)
        there = normalizer.normalize('a', batch)
        assert there.dtype == np.float32 and there.shape == shape
        np.testing.assert_allclose(normalizer.unnormalize('a', there), batch, atol=1e-5)


@settings(max_examples=30, deadline=None)
@given(rows)
def test_mean_std_gives_moments_zero_and_one(values):
    there = fit_normalizer({'a': values}).normalize('a', values)
    np.testing.assert_allclose(there.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(there.std(axis=0), 1, atol=1e-4)


@settings(max_examples=30, deadline=None)
@given(rows)
def test_min_max_maps_onto_minus_one_to_one(values):
    there = fit_normalizer({'a': values}, 'min_max').normalize('a', values)
    np.testing.assert_allclose(there.min(axis=0), -1, atol=1e-5)
    np.testing.assert_allclose(there.max(axis=0), 1, atol=1e-5)


@settings(max_examples=30, deadline=None)
@given(rows, modes)
def test_round_trip_through_json_is_exact(values, mode):
    normalizer = fit_normalizer({'a': values, 'b': values[:, :1]}, mode)
    again = Normalizer.from_dict(json.loads(json.dumps(normalizer.to_dict())))
    for key in ('a', 'b'):
        assert again.entries[key].mode == mode
        assert np.array_equal(again.entries[key].offset, normalizer.entries[key].offset)
        assert np.array_equal(again.entries[key].scale, normalizer.entries[key].scale)


@pytest.mark.parametrize('mode', ['mean_std', 'min_max'])
@pytest.mark.parametrize('value', [0.0, 0.3, -700.0])
def test_constant_column_is_only_shifted(mode, value):
    values = np.full((50, 2), value, dtype=np.float32)
    values[:, 1] += np.random.default_rng(0).choice([0, 1e-7 * abs(value)], 50)
    normalizer = fit_normalizer({'a': values}, mode)
    assert np.array_equal(normalizer.entries['a'].scale, [1, 1])
    assert np.abs(normalizer.normalize('a', values)).max() < 1e-3


def test_rows_with_nan_are_left_out_of_the_fit():
    values = np.random.default_rng(0).normal(size=(30, 3)).astype(np.float32)
    holes = values.copy()
    holes[::3] = np.nan
    kept = values[np.arange(30) % 3 != 0]
    assert np.array_equal(fit_normalizer({'a': holes}).entries['a'].offset,
                          fit_normalizer({'a': kept}).entries['a'].offset)


def test_a_floor_and_a_clip_bound_what_is_seen():
    values = np.random.default_rng(0).normal(size=(200, 2)) * [1.0, 1e-3]
    normalizer = fit_normalizer({'a': values}, least={'a': 0.1}, clip={'a': 2.0})
    scale = normalizer.entries['a'].scale
    assert scale[1] == np.float32(0.1) and scale[0] == pytest.approx(1.0, rel=0.2)
    far = normalizer.normalize('a', np.array([[50.0, -50.0], [0.5, 0.0]]))
    np.testing.assert_array_equal(far[0], [2, -2])
    assert (np.abs(far[1]) < 1).all()
    again = Normalizer.from_dict(normalizer.to_dict())
    assert again.entries['a'].clip == 2.0 and 'clip' in normalizer.to_dict()['a']


def test_statistics_by_step():
    values = np.random.default_rng(0).normal(size=(100, 3, 2)) * [[[1], [10], [100]]]
    normalizer = fit_normalizer({'a': values}, by_step=('a',))
    assert normalizer.entries['a'].scale.shape == (3, 2)
    normalised = normalizer.normalize('a', values)
    np.testing.assert_allclose(normalised.std(0), 1, atol=1e-3)
    np.testing.assert_allclose(normalizer.unnormalize('a', normalised), values, rtol=1e-4)
    with pytest.raises(DatasetError, match='last dimensions are'):
        normalizer.normalize('a', values[:, :2])


def test_modes_per_key():
    values = np.random.default_rng(0).normal(size=(30, 3))
    normalizer = fit_normalizer({'a': values, 'b': values}, {'a': 'identity', 'b': 'min_max'})
    assert np.array_equal(normalizer.normalize('a', values), values.astype(np.float32))
    assert normalizer.entries['b'].mode == 'min_max'


def test_entries_are_read_only():
    normalizer = fit_normalizer({'a': np.ones((3, 2))})
    with pytest.raises(TypeError):
        normalizer.entries['b'] = normalizer.entries['a']


def test_errors_name_key_and_valid_values():
    values = np.ones((3, 2), dtype=np.float32)
    normalizer = fit_normalizer({'action': values})
    with pytest.raises(DatasetError, match="did you mean 'action'"):
        normalizer.normalize('acton', values)
    with pytest.raises(DatasetError, match='last dimension'):
        normalizer.normalize('action', np.ones((3, 5)))
    with pytest.raises(DatasetError, match='no finite row'):
        fit_normalizer({'action': np.full((3, 2), np.nan)})
    with pytest.raises(DatasetError, match='mean_std'):
        fit_normalizer({'action': values}, 'meanstd')
    with pytest.raises(DatasetError, match='mode'):
        fit_normalizer({'action': values}, {'state': 'mean_std'})
    good = normalizer.to_dict()['action']
    for bad in ({'mode': 'mean_std'}, {**good, 'mode': 'x'}, {**good, 'scale': [1.0]},
                {**good, 'offset': ['a', 'b']}):
        with pytest.raises(DatasetError, match='action'):
            Normalizer.from_dict({'action': bad})
