import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from il_robot.control.gate_thresholds import budgeted, with_thresholds
from il_robot.control.gates import GATES, make_gate
from il_robot.errors import ConfigError

LEARNED = {'novelty': 0.11, 'doubt': 0.12, 'risk': 0.13, 'low_risk': 0.04, 'discrepancy': 0.015}


@given(st.lists(st.floats(0.01, 10), min_size=1, max_size=200), st.floats(0, 1))
def test_a_budgeted_threshold_is_passed_by_that_share(values, budget):
    threshold = budgeted([*values, math.nan], budget)
    assert np.mean(np.array(values) > threshold) <= budget + 1e-9
    assert budgeted(values, 0.0) == max(values)


@pytest.mark.parametrize('name', GATES)
def test_learned_thresholds_change_no_gate_into_one_that_asks_for_more(name):
    plain = make_gate(name)
    gate = make_gate(name, with_thresholds(name, {}, LEARNED))
    assert gate.needs == plain.needs
    for key, value in LEARNED.items():
        if math.isfinite(getattr(plain, key, math.inf)):
            assert getattr(gate, key) == value


def test_other_options_stay_and_unknown_gates_have_none():
    options = with_thresholds('lazy', {'doubt': 0.9, 'discrepancy': 0.5}, {'doubt': 0.3})
    assert options == {'doubt': 0.3, 'discrepancy': 0.5}
    assert with_thresholds('rule', {}, LEARNED) == {}


@pytest.mark.parametrize(('values', 'budget', 'words'), [
    ([], 0.1, 'no values'), ([math.nan], 0.1, 'no values'), ([1.0], 1.1, 'from 0 to 1')])
def test_bad_budgets_are_told(values, budget, words):
    with pytest.raises(ConfigError, match=words):
        budgeted(values, budget)
