import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from il_robot.control.gates import (
    GATES,
    Gate,
    Move,
    Signals,
    make_gate,
)
from il_robot.errors import ConfigError

NUMBER = st.floats(0, 1) | st.just(math.nan)
STREAM = st.lists(st.fixed_dictionaries({
    'novelty': NUMBER, 'doubt': NUMBER, 'risk': NUMBER, 'discrepancy': NUMBER,
    'stage': st.integers(0, 4)}), min_size=1, max_size=60)


def drive(gate, stream, seed=0):
    """The verdicts of a gate that is always obeyed."""
    gate.reset(np.random.default_rng(seed))
    correcting, verdicts = False, []
    for tick, values in enumerate(stream):
        verdict = gate.update(Signals(0.02 * tick, correcting, **values))
        correcting = {Move.KEEP: correcting, Move.TAKE: True, Move.GIVE: False}[verdict.move]
        verdicts.append(verdict)
    return verdicts


@pytest.mark.parametrize('name', GATES)
@given(stream=STREAM)
def test_laws_of_every_gate(name, stream):
    gate = make_gate(name)
    assert isinstance(gate, Gate)
    verdicts = drive(gate, stream)
    correcting = False
    for verdict in verdicts:
        # nobody takes what he has, nor gives what he has not
        assert verdict.move is not (Move.TAKE if correcting else Move.GIVE)
        assert bool(verdict.reason) is (verdict.move is not Move.KEEP)
        correcting = {Move.KEEP: correcting, Move.TAKE: True, Move.GIVE: False}[verdict.move]
    # nothing is left of an episode in the next one
    assert repr(drive(gate, stream)) == repr(verdicts) == repr(drive(make_gate(name), stream))


@pytest.mark.parametrize('name', sorted({*GATES} - {'never', 'beta'}))
def test_what_is_not_known_changes_nothing(name):
    for correcting in (False, True):
        gate = make_gate(name)
        gate.reset(np.random.default_rng(0))
        assert gate.update(Signals(0.0, correcting)).move is Move.KEEP


def test_beta_is_the_experts_share_of_the_time():
    gate = make_gate('beta', {'beta': 0.3})
    gate.reset(np.random.default_rng(1))
    driven, correcting = [], False
    for tick in range(4000):
        move = gate.update(Signals(0.02 * tick, correcting)).move
        correcting = {Move.KEEP: correcting, Move.TAKE: True, Move.GIVE: False}[move]
        driven.append(correcting)
    assert np.mean(driven) == pytest.approx(0.3, abs=0.03)
    one, nothing = make_gate('beta', {'beta': 1.0}), make_gate('beta', {'beta': 0.0})
    assert one.update(Signals(0.0, False)).move is Move.TAKE
    assert nothing.update(Signals(0.0, False)).move is Move.KEEP


def test_a_draw_of_beta_lasts_for_its_period():
    verdicts = drive(make_gate('beta', {'period': 0.5}), [{}] * 1000)
    values = np.array([v.value for v in verdicts])
    changes = np.flatnonzero(np.diff(values))
    assert len(changes) > 30 and np.all(np.diff(changes) % 25 == 0)


def test_a_persons_wish_counts_at_once_whatever_the_rule_says():
    gate = make_gate('human')
    gate.reset(np.random.default_rng(0))
    took = gate.update(Signals(0.0, False, discrepancy=0.0, wish='take'))
    assert took.move is Move.TAKE and took.reason == 'the operator took over'
    assert gate.update(Signals(0.02, True, discrepancy=9.0, wish='give')).move is Move.GIVE
    only = make_gate('human', {'rule': None})
    assert {v.move for v in drive(only, [{'discrepancy': 9.0}] * 300)} == {Move.KEEP}


def test_the_rule_stands_in_for_a_person():
    apart = [{'discrepancy': 0.5}] * 50 + [{'discrepancy': 0.0}] * 50
    moves = [v.move for v in drive(make_gate('human'), apart)]
    assert moves.count(Move.TAKE) == moves.count(Move.GIVE) == 1
    assert moves.index(Move.TAKE) < 50 < moves.index(Move.GIVE)


def test_ensemble_looks_at_novelty_and_where_asked_at_the_discrepancy():
    gate = make_gate('ensemble', {'novelty': 0.2})
    moves = [v.move for v in drive(gate, [{'novelty': n} for n in (0.1, 0.3, 0.3, 0.1)])]
    assert moves == [Move.KEEP, Move.TAKE, Move.KEEP, Move.GIVE]
    assert gate.needs == {'novelty'}
    both = make_gate('ensemble', {'novelty': 0.2, 'discrepancy': 0.05})
    (verdict,) = drive(both, [{'novelty': 0.1, 'discrepancy': 0.06}])
    assert verdict.move is Move.TAKE and 'off the expert' in verdict.reason
    assert both.needs == {'novelty', 'discrepancy'}


def test_hysteresis_switches_less_than_the_plain_classifier():
    rng = np.random.default_rng(3)
    stream = [{'doubt': float(d), 'discrepancy': float(abs(x))} for d, x in zip(
        np.clip(0.5 + 0.1 * rng.standard_normal(500), 0, 1), 0.06 * rng.standard_normal(500))]
    switches = {name: sum(v.move is Move.TAKE for v in drive(make_gate(name), stream))
                for name in ('safe', 'lazy')}
    assert 0 < switches['lazy'] < switches['safe']


def test_thrifty_takes_over_by_novelty_or_risk_and_gives_back_when_both_are_fine():
    gate = make_gate('thrifty')
    calm = {'novelty': 0.1, 'risk': 0.1, 'discrepancy': 0.0}
    for alarm in ({'novelty': 0.4}, {'risk': 0.6}):
        verdicts = drive(gate, [
            calm, {**calm, **alarm}, {**calm, 'discrepancy': 0.1}, {**calm, 'risk': 0.4}, calm])
        assert [v.move for v in verdicts] == [
            Move.KEEP, Move.TAKE, Move.KEEP, Move.KEEP, Move.GIVE]


@pytest.mark.parametrize(('name', 'options', 'words'), [
    ('betta', {}, 'did you mean'), ('beta', {'beta': 1.5}, 'from 0 to 1'),
    ('beta', {'period': -1.0}, 'period must be'), ('ensemble', {'novelty': 0.0}, 'must be > 0'),
    ('lazy', {'doubts': 0.5}, 'doubt'),
    ('thrifty', {'risk': 0.2, 'low_risk': 0.5}, 'at most risk')])
def test_bad_gates_are_told(name, options, words):
    with pytest.raises(ConfigError, match=words):
        make_gate(name, options)
