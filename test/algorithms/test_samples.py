from dataclasses import replace

import numpy as np
import pytest
import torch
import toy

from il_robot.algorithms.recipe import Training
from il_robot.algorithms.samples import dataset_layout, labels_of, make_samples
from il_robot.data.dataset import Dataset
from il_robot.errors import DatasetError
from il_robot.types import Source

CPU = torch.device('cpu')
CONFIG = Training(validation=0.25)


def samples_of(dataset, config=CONFIG, chunk_size=4, n_obs_steps=1):
    layout = dataset_layout(dataset)
    return make_samples(dataset, layout, config, chunk_size, n_obs_steps, CPU)


def with_columns(dataset, **columns):
    names = {'expert': 'proposal.expert', 'source': 'source', 'action': 'action'}
    merged = {**dataset.columns, **{names[k]: v for k, v in columns.items()}}
    return Dataset(dataset.path, dataset.fps, dataset.features, dataset.spec, dataset.episodes,
                   merged)


def test_batches_are_the_rows_of_the_dataset():
    dataset = toy.toy_dataset(4)
    samples = samples_of(dataset, chunk_size=5, n_obs_steps=3)
    windows = np.arange(len(samples.train))[::7]
    batch = samples.batch(samples.train, windows)
    labels, _, _ = labels_of(dataset, 'expert')
    action = samples.normalizer.unnormalize('action', batch['action'].numpy())
    features = samples.normalizer.unnormalize('features', batch['features'].numpy())
    assert batch['features'].shape[1] == 3 and batch['action'].shape[1] == 5
    for b, window in enumerate(windows):
        row = samples.train.anchors[window]
        episode = dataset.episodes[dataset.episode_of_row[row]]
        real = min(5, episode.stop - row)
        np.testing.assert_allclose(action[b, :real], labels[row:row + real], atol=1e-5)
        assert batch['is_pad'][b].tolist() == [False] * real + [True] * (5 - real)
        past = np.maximum(np.arange(row - 2, row + 1), episode.start)
        np.testing.assert_allclose(features[b, :, :4], dataset.state[past], atol=1e-5)


def test_relative_targets_are_relative_to_the_joints_and_normalised_step_by_step():
    dataset = toy.toy_dataset(4)
    layout = dataset_layout(dataset)
    relative = tuple(name for name in layout.joints if 'gripper' not in name)
    samples = make_samples(dataset, layout, CONFIG, 5, 2, CPU, relative=relative)
    entry = samples.normalizer.entries['action']
    assert entry.offset.shape == entry.scale.shape == (5, 4)
    windows = np.arange(len(samples.train))[::3]
    action = samples.batch(samples.train, windows)['action'].numpy()
    labels, _, _ = labels_of(dataset, 'expert')
    mask = np.array(['gripper' not in name for name in layout.joints], np.float32)
    for b, window in enumerate(windows):
        row = samples.train.anchors[window]
        real = min(5, samples.train.stop[window] - row)
        raw = samples.normalizer.unnormalize('action', action)[b] + mask * dataset.state[row]
        np.testing.assert_allclose(raw[:real], labels[row:row + real], atol=1e-5)
    whole = ~samples.train.action_rows(np.arange(len(samples.train)))[1].any(1)
    trained = samples.batch(samples.train, np.flatnonzero(whole))['action'].numpy()
    np.testing.assert_allclose(trained.mean(0), 0, atol=1e-4)
    assert (trained.std(0) < 1.001).all()


def test_chunks_are_learned_where_an_expert_drove_and_end_where_a_policy_takes_over():
    dataset = toy.toy_dataset(4)
    source = dataset.source.copy()
    episode = dataset.episodes[0]
    begin, end = episode.start + 2, episode.stop - 3
    assert end - begin > 5
    source[episode.start:begin] = int(Source.POLICY)  # then the expert takes over
    source[end:episode.stop, 0] = int(Source.POLICY)  # one arm is enough
    corrected = with_columns(dataset, source=source)
    samples = samples_of(corrected, replace(CONFIG, validation=0.0), chunk_size=5)
    first = samples.train.anchors[samples.train.anchors < episode.stop]
    np.testing.assert_array_equal(first, np.arange(begin, end))
    windows = np.flatnonzero(np.isin(samples.train.anchors, np.arange(end - 6, end)))
    padding = samples.batch(samples.train, windows)['is_pad']
    # the first label beside the policy is still the answer to where the expert had come
    assert padding.sum(1).tolist() == [0, 0, 0, 1, 2, 3]
    one_step = samples_of(corrected, replace(CONFIG, validation=0.0), chunk_size=1)
    assert len(one_step.train) == len(dataset)  # a one-step policy learns every label
    executed = samples_of(corrected, replace(CONFIG, validation=0.0, label='executed'), 5)
    assert len(executed.train) == len(dataset)


@pytest.mark.parametrize('seed', range(4))
def test_an_episode_that_teaches_no_chunk_is_not_held_out(seed):
    dataset = toy.toy_dataset(4)
    source = dataset.source.copy()
    driven = dataset.episodes[:2]
    for episode in driven:  # an evaluation with an expert beside it
        source[episode.start:episode.stop] = int(Source.POLICY)
    config = replace(CONFIG, validation=0.5, seed=seed)
    samples = samples_of(with_columns(dataset, source=source), config)
    assert samples.validation is not None
    for part in (samples.train, samples.validation):
        assert len(part) and part.anchors.min() >= driven[-1].stop


def test_nothing_to_learn_is_told_with_what_to_do():
    dataset = toy.toy_dataset(3)
    nothing = with_columns(
        dataset, expert=np.full_like(dataset.expert, np.nan),
        source=np.full_like(dataset.source, int(Source.POLICY)))
    with pytest.raises(DatasetError, match='set training.label=executed'):
        samples_of(nothing)


def test_recombining_needs_to_know_where_the_hands_are():
    with pytest.raises(DatasetError, match='kinematics of this robot is not known'):
        samples_of(toy.toy_dataset(4), replace(CONFIG, recombine=1.0))


def test_the_split_is_by_episode_and_the_normalizer_of_the_training_part():
    dataset = toy.toy_dataset(8)
    samples = samples_of(dataset)
    parts = [set(dataset.episode_of_row[i.anchors]) for i in (samples.train, samples.validation)]
    assert len(parts[0]) == 6 and len(parts[1]) == 2 and not parts[0] & parts[1]
    trained = samples.features.numpy()[samples.train.anchors]
    np.testing.assert_allclose(trained.mean(0), 0, atol=1e-4)
    again = samples_of(dataset)
    np.testing.assert_array_equal(again.train.anchors, samples.train.anchors)
    assert samples_of(dataset, replace(CONFIG, validation=0.0)).validation is None
    with pytest.raises(DatasetError, match='one usable episode.*set it to 0'):
        samples_of(toy.toy_dataset(1))


@pytest.mark.parametrize('label', ['expert', 'executed'])
def test_discarded_corrections_teach_nothing(label):
    dataset = toy.toy_dataset(4)
    first, *others = dataset.episodes
    dataset = replace(dataset, episodes=(replace(first, discarded=((5, 9),)), *others))
    labels, usable, followed = labels_of(dataset, label)
    bad = np.flatnonzero(dataset.discarded)
    assert bad.tolist() == [5, 6, 7, 8] and np.isfinite(dataset.expert[bad]).all()
    assert not usable[bad].any() and not followed[bad].any() and usable.sum() == len(dataset) - 4
    assert (labels[bad] == 0).all()
    samples = samples_of(dataset, replace(CONFIG, label=label, validation=0.0), chunk_size=4)
    rows, padding = samples.train.action_rows(np.arange(len(samples.train)))
    assert not np.isin(rows[~padding], bad).any()


def test_labels_are_the_experts_where_there_are_any():
    dataset = toy.toy_dataset(2)
    expert, source = dataset.expert.copy(), dataset.source.copy()
    expert[3:6] = np.nan  # teleoperated rows without an expert
    source[3:6] = 1
    expert[6:9] = np.nan  # the policy drove and nobody labelled
    source[6:9, 1] = 2
    dataset = with_columns(dataset, expert=expert, source=source)
    labels, usable, _ = labels_of(dataset, 'expert')
    np.testing.assert_array_equal(labels[:3], expert[:3])
    np.testing.assert_array_equal(labels[3:6], dataset.action[3:6])
    assert not usable[6:9].any() and usable.sum() == len(dataset) - 3
    assert not labels[6:9].any()
    executed, everything, _ = labels_of(dataset, 'executed')
    np.testing.assert_array_equal(executed, dataset.action)
    assert everything.all()

    samples = samples_of(dataset, replace(CONFIG, validation=0.0))
    assert not set(range(6, 9)) & set(samples.train.anchors.tolist())
    window = samples.train.anchors.tolist().index(5)
    batch = samples.batch(samples.train, np.array([window]))
    assert batch['is_pad'].tolist() == [[False, True, True, True]]
    assert torch.isfinite(batch['action']).all()


def test_outcomes_choose_the_episodes():
    dataset = toy.toy_dataset(3, outcomes=['failure', 'success', 'failure'])
    samples = samples_of(dataset, replace(CONFIG, outcomes=('success',), validation=0.0))
    assert set(dataset.episode_of_row[samples.train.anchors]) == {1}
    with pytest.raises(DatasetError, match='no episode with outcome unknown; it has: failure, s'):
        samples_of(dataset, replace(CONFIG, outcomes=('unknown',)))


@pytest.mark.parametrize(('last', 'expected'), [
    (0, {0, 1, 2, 3, 4}), (1, {0, 4}), (2, {0, 2, 3, 4}), (9, {0, 1, 2, 3, 4})])
def test_of_the_rounds_the_newest_may_be_chosen_beside_the_demonstrations(last, expected):
    dataset = toy.toy_dataset(5, outcomes=['success'] * 5)
    dataset = replace(dataset, episodes=tuple(
        replace(e, round=r) for e, r in zip(dataset.episodes, (0, 1, 3, 3, 5))))
    samples = samples_of(dataset, replace(CONFIG, last_rounds=last, validation=0.0))
    assert set(dataset.episode_of_row[samples.train.anchors]) == expected


def test_values_that_are_not_finite_are_told():
    dataset = toy.toy_dataset(2)
    action = dataset.action.copy()
    action[5, 1] = np.nan
    with pytest.raises(DatasetError, match='labels of 1 rows have NaN or infinity, first row 5'):
        samples_of(with_columns(dataset, action=action), replace(CONFIG, label='executed'))


@pytest.mark.parametrize(('names', 'expected'), [
    ({'motors': ['a', 'b', 'c', 'd']}, ('a', 'b', 'c', 'd')),
    (None, ('state_0', 'state_1', 'state_2', 'state_3')),
])
def test_lerobots_ways_of_naming_are_understood(names, expected):
    dataset = toy.toy_dataset(1)
    features = {**dataset.features}
    features['observation.state'] = {**features['observation.state'], 'names': names}
    assert dataset_layout(replace(dataset, features=features)).joints == expected
