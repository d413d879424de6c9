from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from il_robot.control.rounds import Facts, Rounds, RoundsConfig, Score, Stage, is_worse

CONFIG = RoundsConfig(rounds=2, episodes=3, evaluate_episodes=10)
GOOD, BETTER, BAD = Score(8, 10), Score(9, 10), Score(2, 10)


def collected(rounds):
    """Through the collection of a round into its training."""
    assert rounds.step(Facts()) == 'collect'
    assert rounds.step(Facts(episodes=3)) == 'stop collecting'
    assert rounds.step(Facts(episodes=3, corrections=2, saved=True)) == ''
    assert rounds.stage is Stage.TRAIN
    assert rounds.step(Facts()) == 'train'


def trained(rounds):
    collected(rounds)
    assert rounds.step(Facts(child='running')) == ''
    assert rounds.step(Facts(child='done')) == ''


def evaluated(rounds, score):
    trained(rounds)
    assert rounds.step(Facts()) == 'evaluate'
    assert rounds.step(Facts(child='done', score=score)) == ''


def test_a_round_from_the_first_episode_to_the_new_policy():
    rounds = Rounds(CONFIG, baseline=GOOD)
    evaluated(rounds, BETTER)
    assert rounds.step(Facts()) == 'hold'
    assert rounds.step(Facts(holding=True)) == 'swap'
    assert rounds.step(Facts(holding=True, swap='asked')) == ''
    assert rounds.step(Facts(swap='done')) == ''
    (past,) = rounds.past
    assert (past.number, past.episodes, past.corrections, past.taken) == (1, 3, 2, True)
    assert rounds.baseline == BETTER
    assert (rounds.number, rounds.stage) == (2, Stage.COLLECT)


def test_the_first_policy_is_evaluated_where_nobody_knows_how_good_it_is():
    rounds = Rounds(CONFIG)
    assert (rounds.number, rounds.step(Facts())) == (0, 'evaluate')
    rounds.step(Facts(child='done', score=GOOD))
    assert rounds.baseline == GOOD and rounds.stage is Stage.COLLECT
    blind = Rounds(replace(CONFIG, evaluate_episodes=0))
    assert blind.stage is Stage.COLLECT
    trained(blind)
    assert blind.stage is Stage.SWAP


def test_a_policy_put_aside_by_request_leaves_the_measure_to_the_one_before():
    rounds = Rounds(CONFIG)
    rounds.step(Facts(child='done', score=GOOD))
    evaluated(rounds, BETTER)
    rounds.step(Facts(swap='done'))
    rounds.roll_back()
    assert rounds.baseline == GOOD and [p.taken for p in rounds.past] == [True, False]
    rounds.roll_back()
    assert rounds.baseline == GOOD


def test_a_worse_policy_is_not_taken_and_the_old_one_stays_the_measure():
    rounds = Rounds(CONFIG, baseline=GOOD)
    evaluated(rounds, BAD)
    assert rounds.stage is Stage.COLLECT and rounds.number == 2
    assert not rounds.past[0].taken and 'is worse' in rounds.past[0].reason
    assert rounds.baseline == GOOD


@pytest.mark.parametrize(('stage', 'facts'), [
    (collected, Facts(child='failed', trouble='no space left')),
    (trained, Facts(child='failed', trouble='no space left')),
    (lambda r: evaluated(r, BETTER), Facts(swap='failed', trouble='no space left'))])
def test_whatever_fails_the_old_policy_goes_on_and_the_next_round_comes(stage, facts):
    rounds = Rounds(CONFIG, baseline=GOOD)
    stage(rounds)
    rounds.step(facts)
    assert (rounds.number, rounds.stage) == (2, Stage.COLLECT)
    assert not rounds.past[0].taken and 'no space left' in rounds.past[0].reason
    assert 'old' in rounds.past[0].reason and rounds.baseline == GOOD


def test_enough_corrections_or_a_word_end_a_round_early():
    few = Rounds(replace(CONFIG, corrections=4), baseline=GOOD)
    assert few.step(Facts(episodes=1, corrections=3)) == 'collect'
    assert few.step(Facts(episodes=1, corrections=4)) == 'stop collecting'
    asked = Rounds(CONFIG, baseline=GOOD)
    assert asked.step(Facts(episodes=1, skip=True, saved=True)) == ''
    assert asked.stage is Stage.TRAIN


FACTS = st.builds(
    Facts, episodes=st.integers(0, 4), corrections=st.integers(0, 4), saved=st.booleans(),
    holding=st.booleans(), child=st.sampled_from(['none', 'running', 'done', 'failed']),
    trouble=st.just('trouble'), score=st.none() | st.sampled_from([GOOD, BETTER, BAD]),
    swap=st.sampled_from(['none', 'asked', 'done', 'failed']), skip=st.booleans())


@given(st.lists(FACTS, max_size=80), st.sampled_from([None, GOOD]))
def test_whatever_happens_rounds_are_counted_and_orders_fit_the_stage(stream, baseline):
    allowed = {
        Stage.COLLECT: {'collect', 'stop collecting'}, Stage.TRAIN: {'train', ''},
        Stage.EVALUATE: {'evaluate', ''}, Stage.SWAP: {'swap', 'hold', ''}, Stage.DONE: {''}}
    rounds = Rounds(CONFIG, baseline=baseline)
    for facts in stream:
        order = rounds.step(facts)
        assert not order or order in allowed[rounds.stage]
        if order == 'swap':
            assert facts.holding
        numbers = [past.number for past in rounds.past]
        assert numbers == sorted(set(numbers)) and len(numbers) <= CONFIG.rounds + 1
        assert all(past.reason for past in rounds.past)
        assert 0 <= rounds.number <= CONFIG.rounds
    for past in rounds.past:
        if past.number and past.taken:
            assert past.score is not None, 'nothing is taken that was not evaluated'


@pytest.mark.parametrize(('rule', 'new', 'worse'), [
    ('worse', Score(7, 10), True), ('worse', Score(76, 100), False),
    ('surely', Score(7, 10), False), ('surely', Score(3, 10), True),
    ('never', Score(0, 10), False), ('worse', Score(0, 0), False)])
def test_when_a_policy_is_worse(rule, new, worse):
    assert is_worse(new, Score(8, 10), replace(CONFIG, keep_old=rule)) is worse


@pytest.mark.parametrize(('wrong', 'words'), [
    ({'rounds': 0}, 'rounds'), ({'episodes': 0}, 'needs an end'), ({'episodes': -1}, '>= 0'),
    ({'margin': 1.0}, 'margin')])
def test_bad_settings_are_refused(wrong, words):
    with pytest.raises(ValueError, match=words):
        RoundsConfig(**wrong)
