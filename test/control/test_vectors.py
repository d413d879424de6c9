"""Compiled questions about all joints are those of numpy."""

from __future__ import annotations

from array import array

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from il_robot.control.vectors import apart, confined, finite, narrowed

FLOATS = st.lists(st.floats(width=32), min_size=1, max_size=20)


@given(FLOATS)
def test_finite_is_numpys(values):
    assert finite(np.array(values, np.float32)) == bool(np.isfinite(np.float32(values)).all())


@given(FLOATS, st.floats(0, 10))
def test_apart_is_numpys(values, most):
    one = np.array(values, np.float32)
    with np.errstate(invalid='ignore', over='ignore'):
        other = one[::-1] * np.float32(0.5)
        wanted = bool((np.abs(one - other) > np.full(len(one), most)).any())
    assert apart(one, other, np.full(len(one), most)) == wanted


@given(st.lists(st.floats(), min_size=1, max_size=20))
def test_narrowed_is_numpys_and_says_what_is_too_large(values):
    with np.errstate(over='ignore'):
        wanted = np.array(values, np.float32)
    for given_values in (values, array('d', values), np.array(values)):
        out, whole = narrowed(given_values)
        np.testing.assert_array_equal(out, wanted)
        assert out.dtype == np.float32 and whole == bool(np.isfinite(wanted).all())


def test_confined_is_within_its_limits():
    values, low, high = np.float32([[-2, 0.5, 3], [-1, 0, 1], [1, 1, 2]])
    np.testing.assert_array_equal(confined(values, low, high), np.float32([-1, 0.5, 2]))


@pytest.mark.parametrize('make', [
    lambda v: v.astype(np.float64), lambda v: np.repeat(v, 2)[::2], lambda v: v.copy()])
def test_any_layout_is_taken_without_compiling_anew(make):
    values = make(np.arange(4, dtype=np.float32))
    values.flags.writeable = False
    assert finite(values) and not apart(values, values, np.zeros(4))
    np.testing.assert_array_equal(confined(values, values, values), values)
    from il_robot.control import vectors
    for function in (vectors._finite, vectors._apart, vectors._confined):
        assert len(function.signatures) == 1
