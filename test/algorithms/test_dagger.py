import json
from dataclasses import replace

import numpy as np
import pytest
import toy

from il_robot.algorithms.dagger import DATASET, ROUNDS, Surroundings, dagger, read_rounds
from il_robot.algorithms.dagger_config import CONFIG, DaggerConfig, open_dagger, read_dagger
from il_robot.algorithms.recipe import make_recipe
from il_robot.checkpoints import find_checkpoint
from il_robot.config import to_dict
from il_robot.data.dataset import open_dataset
from il_robot.errors import ConfigError
from il_robot.policies.assessor import ASSESSOR
from il_robot.policies.checkpoint import read_description

RECIPE = make_recipe({
    'policy': 'mlp', 'model': {'hidden': [32, 32]},
    'training': {'steps': 60, 'batch_size': 32, 'warmup_steps': 5, 'validation': 0.0,
                 'actions': 'relative', 'threads': 1, 'checkpoint_every': 20}})
CHUNKS = make_recipe({'policy': 'chunk_mlp', 'model': {'chunk_size': 5}})
CONFIG_ = DaggerConfig(rounds=2, demonstrations=2, episodes=3, evaluate_episodes=4, compare=True)
ENV = toy.ToyFactory()


def go_on(output, should_stop=lambda: False, env=ENV, seen=None):
    return dagger(output, Surroundings(
        env, env, should_stop=should_stop, shown=False,
        on_round=(lambda record: None) if seen is None else seen.append))


def start(output, config=CONFIG_, recipe=RECIPE):
    open_dagger(output, config, recipe, {'task': 'reach'})
    return output


def without_times(records):
    return [{k: v for k, v in r.items() if not k.endswith('wall_seconds')} for r in records]


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    output, seen = start(tmp_path_factory.mktemp('dagger') / 'whole'), []
    assert go_on(output, seen=seen)
    assert read_rounds(output) == seen
    return output


def test_every_round_adds_labels_and_is_evaluated(whole):
    records = read_rounds(whole)
    assert [(r['method'], r['round']) for r in records] == [
        ('beta', 0), ('beta', 1), ('bc', 1), ('beta', 2), ('bc', 2)]
    beta = [r for r in records if r['method'] == 'beta']
    assert [r['episodes'] for r in beta] == [2, 5, 8]
    assert all(a['labels'] < b['labels'] == b['rows'] for a, b in zip(beta, beta[1:]))
    assert all(r['evaluated'] == 4 and 0 <= r['success_rate'] <= 1 for r in records)
    dataset = open_dataset(whole / DATASET)
    assert [e.round for e in dataset.episodes] == [0, 0, 1, 1, 1, 2, 2, 2]
    assert {e.checkpoint for e in dataset.episodes if e.round == 1} != {''}


def test_demonstrations_alone_are_as_many_as_there_are_labels(whole):
    records = {(r['method'], r['round']): r for r in read_rounds(whole)}
    longest = max(len(e) for e in open_dataset(whole / 'bc' / DATASET).episodes)
    for number in (1, 2):
        labels, rows = (records[m, number]['labels'] for m in ('beta', 'bc'))
        assert labels <= rows < labels + longest
    # and they begin with the same ones
    ours, theirs = (open_dataset(p / DATASET) for p in (whole, whole / 'bc'))
    assert [e.seed for e in ours.episodes[:2]] == [e.seed for e in theirs.episodes[:2]]


@pytest.mark.parametrize('stops', [[1, 2, 5, 9, 30], [3] * 12, [70, 45, 61]])
def test_a_run_that_is_stopped_anywhere_ends_as_if_it_had_not_been(whole, tmp_path, stops):
    output = start(tmp_path / 'run')
    for stop in [*stops, 10**9]:
        left = [stop]

        def should_stop(left=left):
            left[0] -= 1
            return left[0] < 0

        if go_on(output, should_stop):
            break
    assert stop == 10**9, 'it was stopped every time'
    assert without_times(read_rounds(output)) == without_times(read_rounds(whole))


def test_a_broken_episode_costs_no_more_than_itself(whole, tmp_path):
    output, broken = start(tmp_path / 'run'), CONFIG_.first_seed(2) + 1
    with pytest.raises(Exception, match=f'seed {broken} broke'):
        go_on(output, env=toy.ToyFactory({'raise_seeds': (broken,)}))
    assert go_on(output)
    assert without_times(read_rounds(output)) == without_times(read_rounds(whole))


@pytest.mark.parametrize('gate', ['ensemble', 'safe', 'lazy', 'thrifty'])
def test_the_robot_asks_for_help_and_only_then_the_expert_labels(tmp_path, gate):
    recipe = make_recipe({
        'policy': 'ensemble', 'model': {'policy': 'mlp', 'model': {'hidden': [16]}, 'size': 2},
        'training': to_dict(RECIPE.training)})
    output = start(tmp_path / 'run', replace(
        CONFIG_, gate=gate, relabel=False, budget=0.3, alone=4, rounds=1, compare=False), recipe)
    assert go_on(output)
    first, second = read_rounds(output)
    assert second['episodes'] == first['episodes'] + 4 + 3
    dataset = open_dataset(output / DATASET)
    alone = [e for e in dataset.episodes if e.seed in range(
        CONFIG_.first_seed(1), CONFIG_.first_seed(1) + 4)]
    assert len(alone) == 4 and not any(
        np.isfinite(dataset.expert[e.start:e.stop]).any() for e in alone), 'nobody labels them'
    asked = second['labels'] - first['labels']
    assert 0 <= asked <= second['rows'] - first['rows']
    # the label that made him give back is one more
    beyond = second['labels'] - round(50 * second['expert_seconds'])
    assert 0 <= beyond <= second['switches']
    assert (find_checkpoint(output / 'rounds' / '00' / 'run') / ASSESSOR).exists()


def test_no_two_rounds_of_any_two_runs_share_a_seed():
    first = [replace(CONFIG_, seed=s).first_seed(n) for s in range(3) for n in range(100)]
    assert len(set(first)) == len(first) and min(b - a for a, b in zip(first, first[1:])) >= 1000
    assert min(first) > 900_000 + 10_000  # evaluation and trials lie below


def test_beta_decays_and_other_gates_stay_as_they_are():
    config = replace(CONFIG_, options={'beta': 0.8}, decay=0.25)
    assert [config.gate_of(n, {})['beta'] for n in (1, 2, 3)] == [0.8, 0.2, 0.05]
    human = replace(CONFIG_, gate='human', options={})
    assert human.gate_of(3, {'novelty': 0.4}) == {}
    thrifty = replace(CONFIG_, gate='thrifty', options={'risk': 0.9}, budget=0.1)
    assert thrifty.gate_of(1, {'novelty': 0.4, 'risk': 0.6, 'doubt': 0.5}) == {
        'novelty': 0.4, 'risk': 0.6}


def test_a_run_can_be_read_again(whole):
    config, recipe, environment = read_dagger(whole)
    assert (config, recipe, environment) == (CONFIG_, RECIPE, {'task': 'reach'})


def test_bad_runs_are_told_and_nothing_is_overwritten(whole, tmp_path):
    before = (whole / ROUNDS).read_text()
    with pytest.raises(ConfigError, match='add --resume'):
        start(whole)
    assert (whole / ROUNDS).read_text() == before
    with pytest.raises(ConfigError, match='no run to go on with'):
        read_dagger(tmp_path)
    (tmp_path / CONFIG).write_text(json.dumps({'config': {'rounds': -1}}))
    with pytest.raises(ConfigError, match='rounds must be'):
        read_dagger(tmp_path)
    seeing = replace(RECIPE, observation=replace(RECIPE.observation, cameras=('top',)))
    with pytest.raises(ConfigError, match='cameras'):
        start(tmp_path / 'seeing', recipe=seeing)
    for gate, recipe, words in (
            ('ensemble', RECIPE, 'the policy is mlp'), ('never', CHUNKS, 'predicts chunks'),
            ('beta', CHUNKS, 'period=1.0')):
        with pytest.raises(ConfigError, match=words):
            start(tmp_path / 'run', replace(CONFIG_, gate=gate), recipe)
    assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize(('wrong', 'words'), [
    ({'rounds': 0}, 'rounds must be'), ({'episodes': 1001}, 'at most 1000'),
    ({'decay': 1.5}, 'decay'), ({'seed': -1}, 'seed')])
def test_bad_settings_are_refused(wrong, words):
    with pytest.raises(ValueError, match=words):
        DaggerConfig(**wrong)


def test_rounds_may_go_on_from_the_policy_before(tmp_path):
    config = replace(CONFIG_, warm_steps=20)
    output = start(tmp_path / 'run', config)
    assert go_on(output)
    ours = [read_description(find_checkpoint(output / 'rounds' / f'0{i}' / 'run'))
            for i in range(3)]
    alone = [read_description(find_checkpoint(output / 'bc' / 'rounds' / f'0{i}' / 'run'))
             for i in (1, 2)]
    assert [c.step for c in ours] == [60, 20, 20] and [c.step for c in alone] == [20, 20]
    assert [c.start for c in ours] == ['', ours[0].hash, ours[1].hash]
    assert [c.start for c in alone] == [ours[0].hash, alone[0].hash]


def test_the_first_policy_of_another_run_saves_its_training_and_changes_nothing(whole, tmp_path):
    config = replace(CONFIG_, gate='never', rounds=1, compare=False)
    plain = start(tmp_path / 'plain', config)
    assert go_on(plain)
    shared = tmp_path / 'shared'
    open_dagger(shared, config, RECIPE, {'task': 'reach'}, whole)
    first = find_checkpoint(shared / 'rounds' / '00' / 'run')
    before = first.stat().st_mtime_ns
    assert go_on(shared)
    assert first.stat().st_mtime_ns == before, 'it is not trained again'
    assert without_times(read_rounds(shared)) == without_times(read_rounds(plain))
    for changed, words in ((replace(config, seed=1), 'another seed'),
                           (replace(config, demonstrations=3), 'another demonstrations')):
        with pytest.raises(ConfigError, match=words):
            open_dagger(tmp_path / 'other', changed, RECIPE, {'task': 'reach'}, whole)
    with pytest.raises(ConfigError, match='another task'):
        open_dagger(tmp_path / 'other', config, RECIPE, {'task': 'else'}, whole)
    assert not (tmp_path / 'other').exists()
