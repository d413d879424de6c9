import numpy as np
import pytest

from il_robot.data.dataset import open_dataset
from il_robot.data.filters import episode_mask, mask_of, row_mask, split_episodes
from il_robot.errors import DatasetError
from il_robot.types import Outcome, Source


@pytest.fixture
def dataset(record):
    return open_dataset(record(
        lengths=(12, 15, 9, 18), task=lambda e: ('transfer_cube', 'lift_tray')[e % 2],
        outcome=lambda e: (Outcome.SUCCESS, Outcome.FAILURE)[e // 3], round=lambda e: e // 2))


def test_episode_mask_by_each_property(dataset):
    assert episode_mask(dataset).all()
    assert episode_mask(dataset, outcomes=['success']).tolist() == [1, 1, 1, 0]
    assert episode_mask(dataset, outcomes=[Outcome.FAILURE]).tolist() == [0, 0, 0, 1]
    assert episode_mask(dataset, rounds=[1]).tolist() == [0, 0, 1, 1]
    assert episode_mask(dataset, tasks=['lift_tray']).tolist() == [0, 1, 0, 1]
    assert episode_mask(dataset, tasks=['do transfer cube']).tolist() == [1, 0, 1, 0]
    assert episode_mask(dataset, episodes=[3, 0]).tolist() == [1, 0, 0, 1]
    assert episode_mask(dataset, rounds=[1], outcomes=['success']).tolist() == [0, 0, 1, 0]


def test_row_mask_by_each_property(dataset):
    masks = {
        'left expert': row_mask(dataset, sources=[Source.EXPERT], arm='left'),
        'right expert': row_mask(dataset, sources=[Source.EXPERT], arm='right'),
        'all policy': row_mask(dataset, sources=[Source.POLICY]),
        'intervention': row_mask(dataset, intervention=True),
        'labelled': row_mask(dataset, labelled=True),
    }
    assert np.array_equal(masks['left expert'], dataset.intervention)
    assert not masks['right expert'].any()
    assert np.array_equal(masks['all policy'], ~dataset.intervention)
    assert np.array_equal(masks['intervention'], dataset.intervention)
    assert np.array_equal(masks['labelled'], ~np.isnan(dataset.expert[:, 0]))
    assert np.array_equal(row_mask(dataset, labelled=False), ~masks['labelled'])
    chosen = episode_mask(dataset, episodes=[1])
    assert np.flatnonzero(row_mask(dataset, episodes=chosen)).tolist() == list(range(12, 27))


@pytest.mark.parametrize(('what', 'names'), [
    ('outcomes', ['sucess']), ('rounds', [7]), ('tasks', ['lift_try']), ('episodes', [9])])
def test_what_the_dataset_lacks_is_an_error_with_the_valid_values(dataset, what, names):
    with pytest.raises(DatasetError, match='Valid: '):
        episode_mask(dataset, **{what: names})


def test_unknown_arm(dataset):
    with pytest.raises(DatasetError, match='left, right'):
        row_mask(dataset, sources=[Source.HOLD], arm='middle')


@pytest.mark.parametrize(
    ('n', 'fractions'), [(10, [0.8, 0.2]), (7, [0.5, 0.25, 0.25]), (3, [1.0])])
def test_split_is_a_partition_that_the_seed_fixes(n, fractions):
    parts = split_episodes(n, fractions, np.random.default_rng(3))
    assert sorted(np.concatenate(parts).tolist()) == list(range(n))
    assert all(abs(len(p) - f * n) <= 1 for p, f in zip(parts, fractions))
    again = split_episodes(n, fractions, np.random.default_rng(3))
    assert all(np.array_equal(a, b) for a, b in zip(parts, again))
    assert mask_of(n, parts[0]).sum() == len(parts[0])


@pytest.mark.parametrize('fractions', [[], [0.5, 0.6], [1.2, -0.2]])
def test_split_refuses_bad_fractions(fractions):
    with pytest.raises(DatasetError, match='sum to 1'):
        split_episodes(10, fractions, np.random.default_rng(0))
