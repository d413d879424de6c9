import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from il_robot.errors import ActionError, DatasetError
from il_robot.types import Action, ActionChunk, EpisodeInfo, Observation, Outcome, as_float32

finite = hnp.arrays(np.float32, st.integers(1, 20), elements=st.floats(-9, 9, width=32))


@given(finite)
def test_as_float32_keeps_values_and_is_read_only(values):
    array = as_float32(values.tolist(), values.shape, 'x')
    assert array.dtype == np.float32
    np.testing.assert_array_equal(array, values)
    with pytest.raises(ValueError, match='read-only'):
        array[0] = 1.0


@given(finite)
def test_as_float32_never_shares_memory(values):
    assert not np.shares_memory(as_float32(values, values.shape, 'x'), values)
    assert values.flags.writeable


@pytest.mark.parametrize('value', [[1.0, 2.0], [[1.0]], 1.0, 'abc', [None], [1.0, 'x', 2.0], {}])
def test_as_float32_refuses_another_shape_and_what_is_no_number(value):
    with pytest.raises(ActionError, match='joints'):
        as_float32(value, (3,), 'joints')


@given(finite)
def test_action_accepts_what_is_finite(values):
    assert Action(values).position is values


@given(finite, st.data(), st.sampled_from([np.nan, np.inf, -np.inf]))
def test_action_names_the_entries_that_are_not_numbers(values, data, bad):
    index = data.draw(st.integers(0, len(values) - 1))
    values[index] = bad
    with pytest.raises(ActionError, match=rf'\[{index}\]'):
        Action(values)


@pytest.mark.parametrize('position', [
    np.zeros((2, 7), np.float32), np.float32(1), np.zeros(14), np.zeros(14, int),
])
def test_action_refuses_another_shape_or_dtype(position):
    with pytest.raises(ActionError, match='float32 of one dimension'):
        Action(position)


def observation(**changes):
    fields = {
        'stamp': 0.0,
        'state': np.zeros(14, np.float32),
        'objects': {'cube': np.zeros(7, np.float32)},
        'images': {'front': np.zeros((4, 6, 3), np.uint8)},
    }
    return Observation(**{**fields, **changes})


def test_observation_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        observation().stamp = 1.0


@pytest.mark.parametrize(('changes', 'said'), [
    ({'state': np.zeros(14)}, 'state'),
    ({'state': np.zeros((1, 14), np.float32)}, 'state'),
    ({'objects': {'peg': np.zeros(6, np.float32)}}, "'peg'"),
    ({'objects': {'peg': np.zeros(7)}}, "'peg'"),
    ({'images': {'wrist': np.zeros((4, 6), np.uint8)}}, "'wrist'"),
    ({'images': {'wrist': np.zeros((4, 6, 4), np.uint8)}}, "'wrist'"),
    ({'images': {'wrist': np.zeros((3, 4, 6), np.uint8)}}, "'wrist'"),
    ({'images': {'wrist': np.zeros((4, 6, 3), np.float32)}}, "'wrist'"),
])
def test_observation_checks_what_it_promises(changes, said):
    observation()
    with pytest.raises(ActionError, match=said):
        observation(**changes)


@pytest.mark.parametrize(('times', 'positions', 'said'), [
    (np.arange(3.0), np.zeros((4, 14), np.float32), r'\(T, D\)'),
    (np.arange(3.0), np.zeros(3, np.float32), r'\(T, D\)'),
    (np.zeros((3, 1)), np.zeros((3, 14), np.float32), r'\(T, D\)'),
    (np.array([0.0, 0.0]), np.zeros((2, 14), np.float32), 'increase'),
    (np.array([0.0, np.nan]), np.zeros((2, 14), np.float32), 'increase'),
    (np.arange(2.0), np.full((2, 14), np.nan, np.float32), 'NaN'),
])
def test_action_chunk_checks_what_it_promises(times, positions, said):
    ActionChunk(0.0, np.arange(3.0), np.zeros((3, 14), np.float32))
    with pytest.raises(ActionError, match=said):
        ActionChunk(0.0, times, positions)


def test_an_episode_needs_its_instruction():
    assert EpisodeInfo('lift_tray', 'lift the tray').outcome is Outcome.UNKNOWN
    with pytest.raises(DatasetError, match='instruction'):
        EpisodeInfo('lift_tray', '')
