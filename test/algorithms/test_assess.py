from dataclasses import replace

import numpy as np
import pytest
import toy

from il_robot.algorithms.assess import (
    AssessTraining,
    row_signals,
    success_targets,
    train_assessor,
)
from il_robot.algorithms.bc import train
from il_robot.algorithms.recipe import make_recipe
from il_robot.algorithms.samples import held_out_episodes
from il_robot.checkpoints import find_checkpoint
from il_robot.control.gate_thresholds import budgeted
from il_robot.data.dataset import Dataset
from il_robot.errors import CheckpointError, ConfigError
from il_robot.policies.assessor import load_assessor, save_assessor
from il_robot.policies.checkpoint import read_description
from il_robot.types import Outcome, Source

TRAINING = {'steps': 150, 'batch_size': 32, 'validation': 0.0, 'actions': 'relative',
            'threads': 1}
MEMBERS = {'policy': 'mlp', 'model': {'hidden': [16]}, 'size': 3}
QUICK = AssessTraining(steps=300, batch_size=64, budget=0.2)


@pytest.fixture(scope='module')
def dataset():
    return toy.toy_dataset(12)


@pytest.fixture(scope='module')
def checkpoint(dataset, tmp_path_factory):
    output = tmp_path_factory.mktemp('assess') / 'run'
    # It has seen balls on one side only, and so has no idea of the other.
    one_side = [i for i, e in enumerate(dataset.episodes)
                if dataset.objects[e.start, 0, 0] < 0]
    rows = np.concatenate([np.arange(dataset.episodes[i].start, dataset.episodes[i].stop)
                           for i in one_side])
    stops = np.cumsum([len(dataset.episodes[i]) for i in one_side])
    episodes = tuple(replace(dataset.episodes[i], start=int(stop) - len(dataset.episodes[i]),
                             stop=int(stop)) for i, stop in zip(one_side, stops))
    part = Dataset(dataset.path, dataset.fps, dataset.features, dataset.spec, episodes,
                   {k: v[rows] for k, v in dataset.columns.items()})
    train(part, make_recipe({'policy': 'ensemble', 'model': MEMBERS, 'training': TRAINING}),
          output)
    return find_checkpoint(output)


def known(dataset):
    return dataset.objects[:, 0, 0] < 0


def driven_by_policy(dataset, outcomes):
    """The same rows, as if the policy had driven them all."""
    source = np.full_like(dataset.source, int(Source.POLICY))
    episodes = tuple(replace(e, outcome=o) for e, o in zip(dataset.episodes, outcomes))
    return Dataset(dataset.path, dataset.fps, dataset.features, dataset.spec, episodes,
                   {**dataset.columns, 'source': source})


def test_where_the_policy_has_not_been_it_is_more_novel_and_further_off(checkpoint, dataset):
    rows = row_signals(checkpoint, dataset)
    seen = known(dataset)
    assert np.median(rows.novelty[~seen]) > 2 * np.median(rows.novelty[seen])
    assert np.median(rows.discrepancy[~seen]) > 2 * np.median(rows.discrepancy[seen])


def test_doubt_is_high_where_the_expert_disagrees_and_thresholds_spend_the_budget(
        checkpoint, dataset):
    assessor = train_assessor(checkpoint, dataset, QUICK)
    rows = row_signals(checkpoint, dataset)
    doubt = assessor.assess(rows.features, rows.action)[:, 0].numpy()
    unsafe = rows.discrepancy > assessor.config.tolerance
    assert 0.1 < unsafe.mean() <= 0.2
    assert np.median(doubt[unsafe]) > 0.6 > 0.4 > np.median(doubt[~unsafe])
    thresholds = assessor.config.thresholds
    assert set(thresholds) == {'novelty', 'doubt', 'risk', 'low_risk', 'discrepancy'}
    assert np.mean(doubt > thresholds['doubt']) <= 0.2
    assert np.mean(rows.novelty > thresholds['novelty']) <= 0.2
    assert thresholds['low_risk'] <= thresholds['risk']


def test_risk_is_high_where_the_policy_failed(checkpoint, dataset):
    outcomes = [Outcome.SUCCESS if dataset.objects[e.start, 0, 0] < 0 else Outcome.FAILURE
                for e in dataset.episodes]
    driven = driven_by_policy(dataset, outcomes)
    assessor = train_assessor(checkpoint, driven, QUICK)
    rows = row_signals(checkpoint, driven)
    risk = assessor.assess(rows.features, rows.action)[:, 1].numpy()
    assert np.median(risk[~known(dataset)]) > 0.7 > 0.3 > np.median(risk[known(dataset)])


def test_thresholds_are_those_of_states_that_the_policy_visits_itself(checkpoint, dataset):
    """Best those in which it drove itself, then those in which another one did."""
    rows, hash_ = row_signals(checkpoint, dataset), read_description(checkpoint).hash
    theirs = driven_by_policy(dataset, [Outcome.SUCCESS] * len(dataset.episodes))
    own = np.zeros(len(dataset), dtype=bool)
    for episode in dataset.episodes[-3:]:
        own[episode.start:episode.stop] = True
    ours = replace(theirs, episodes=(*theirs.episodes[:-3], *(
        replace(e, checkpoint=hash_) for e in theirs.episodes[-3:])))
    for data, seen in ((ours, own), (theirs, np.ones_like(own))):
        found = train_assessor(checkpoint, data, QUICK).config.thresholds['novelty']
        assert found == budgeted(rows.novelty[seen], QUICK.budget)


def test_thresholds_are_not_those_of_episodes_it_has_learned(dataset, tmp_path):
    recipe = make_recipe({'policy': 'ensemble', 'model': MEMBERS,
                          'training': {**TRAINING, 'validation': 0.25}})
    run = tmp_path / 'run'
    train(dataset, recipe, run)
    checkpoint = find_checkpoint(run)
    held_out = np.zeros(len(dataset), dtype=bool)
    for i in held_out_episodes(dataset, recipe.training, 1):
        held_out[dataset.starts[i]:dataset.stops[i]] = True
    assert 0 < held_out.mean() < 0.5
    rows = row_signals(checkpoint, dataset)
    config = train_assessor(checkpoint, dataset, QUICK).config
    assert config.tolerance == budgeted(rows.discrepancy[held_out], QUICK.budget)
    assert config.thresholds['novelty'] == budgeted(rows.novelty[held_out], QUICK.budget)
    assert config.thresholds['discrepancy'] == np.mean(rows.discrepancy[held_out])
    # it has driven since: what it was not trained with does not move the split
    later = replace(dataset.episodes[-1], checkpoint=read_description(checkpoint).hash)
    driven = replace(dataset, episodes=(*dataset.episodes[:-1], later))
    known = dataset.first_episodes(len(dataset.episodes) - 1)
    mask = np.zeros(len(dataset), dtype=bool)
    for i in held_out_episodes(known, recipe.training, 1):
        mask[dataset.starts[i]:dataset.stops[i]] = True
    assert train_assessor(checkpoint, driven, QUICK).config.tolerance == budgeted(
        rows.discrepancy[mask], QUICK.budget)


def test_who_had_to_be_helped_had_failed():
    dataset = toy.toy_dataset(20)
    longest = max(dataset.episodes, key=len)
    assert len(longest) > 8
    driven = driven_by_policy(dataset, [Outcome.SUCCESS] * 20)
    intervention = np.zeros(len(dataset), dtype=bool)
    intervention[longest.start + 3:longest.start + 6] = True
    source = driven.source.copy()
    source[intervention] = int(Source.EXPERT)
    corrected = Dataset(dataset.path, dataset.fps, dataset.features, dataset.spec,
                        driven.episodes,
                        {**driven.columns, 'source': source, 'intervention': intervention})
    solved, is_known = success_targets(corrected)
    part = slice(longest.start, longest.stop)
    np.testing.assert_array_equal(is_known, ~intervention)
    np.testing.assert_array_equal(solved[part], [0] * 6 + [1] * (len(longest) - 6))
    others = np.ones(len(dataset), dtype=bool)
    others[part] = False
    assert solved[others].all()
    unknown = driven_by_policy(dataset, [Outcome.UNKNOWN] * 20)
    assert not success_targets(unknown)[1].any()


def test_an_assessor_is_of_one_checkpoint_and_survives_its_file(checkpoint, dataset, tmp_path):
    assessor, path = train_assessor(checkpoint, dataset, QUICK), tmp_path / 'a.safetensors'
    save_assessor(path, assessor)
    described = read_description(checkpoint)
    again = load_assessor(path, described.hash)
    assert again.config == assessor.config
    rows = row_signals(checkpoint, dataset)
    np.testing.assert_array_equal(again.assess(rows.features, rows.action),
                                  assessor.assess(rows.features, rows.action))
    repeated = train_assessor(checkpoint, dataset, QUICK)
    np.testing.assert_array_equal(repeated.assess(rows.features, rows.action),
                                  assessor.assess(rows.features, rows.action))
    with pytest.raises(CheckpointError, match='trained again'):
        load_assessor(path, 'another')
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(CheckpointError, match='cannot read'):
        load_assessor(path, described.hash)
    with pytest.raises(CheckpointError, match='cannot read'):
        load_assessor(tmp_path / 'none', described.hash)


def test_nothing_labelled_and_bad_settings_are_told(checkpoint, dataset):
    silent = Dataset(dataset.path, dataset.fps, dataset.features, dataset.spec, dataset.episodes,
                     {**dataset.columns, 'proposal.expert': np.full_like(dataset.expert, np.nan)})
    with pytest.raises(ConfigError, match='no values'):
        train_assessor(checkpoint, silent, QUICK)
    for wrong in ({'steps': 0}, {'budget': 0.0}, {'budget': 1.0}):
        with pytest.raises(ValueError, match='must be'):
            AssessTraining(**wrong)
