from dataclasses import replace

import numpy as np
import pytest
import torch
import toy

from il_robot.algorithms.recipe import Training
from il_robot.algorithms.samples import dataset_layout, labels_of, make_samples
from il_robot.algorithms.weights import Phase, Weights, phases, row_weights, standing
from il_robot.data.dataset import Dataset
from il_robot.types import Source

P, E = int(Source.POLICY), int(Source.EXPERT)
D = Phase


def is_long(episode):
    return len(episode) > 14


def corrected_dataset():
    """Short demonstrations; in long episodes the expert takes over at rows 6 to 12."""
    dataset = toy.toy_dataset(20)
    source, expert = dataset.source.copy(), dataset.expert.copy()
    intervention = np.zeros(len(dataset), dtype=bool)
    for episode in filter(is_long, dataset.episodes):
        source[episode.start:episode.stop] = P
        taken = slice(episode.start + 6, episode.start + 12)
        source[taken], intervention[taken] = E, True
        by_policy = source[episode.start:episode.stop, 0] == P
        expert[episode.start:episode.stop][by_policy] = np.nan
    columns = {**dataset.columns, 'source': source, 'proposal.expert': expert,
               'intervention': intervention}
    return Dataset(dataset.path, dataset.fps, dataset.features, dataset.spec, dataset.episodes,
                   columns)


DATASET = corrected_dataset()
USABLE = labels_of(DATASET, 'expert')[1]
LONG = list(filter(is_long, DATASET.episodes))
assert 1 < len(LONG) < len(DATASET.episodes)


def samples(**settings):
    config = replace(Training(validation=0.0), **settings)
    return make_samples(DATASET, dataset_layout(DATASET), config, 1, 1, torch.device('cpu'))


def test_phases_of_an_episode_with_a_correction():
    found = phases(DATASET, before=0.06, recovery=0.04)  # 3 and 2 rows at 50 Hz
    episode = LONG[0]
    assert found[episode.start:episode.start + 14].tolist() == (
        [D.POLICY] * 3 + [D.BEFORE] * 3 + [D.RECOVERY] * 2 + [D.CORRECTION] * 4 + [D.POLICY] * 2)
    for other in DATASET.episodes:
        if not is_long(other):
            assert set(found[other.start:other.stop]) == {D.DEMONSTRATION}
    plain = phases(DATASET, 0.0, 0.0)
    assert set(plain) == {D.DEMONSTRATION, D.POLICY, D.CORRECTION}


def test_times_longer_than_an_episode_change_only_what_they_may():
    found = phases(DATASET, before=9.0, recovery=9.0)
    inside = DATASET.intervention
    assert (found[inside] == D.RECOVERY).all()
    for episode in LONG:
        assert found[episode.start:episode.start + 6].tolist() == [D.BEFORE] * 6
        assert set(found[episode.start + 12:episode.stop]) == {D.POLICY}


def test_one_arm_that_is_corrected_makes_a_correction():
    source = DATASET.source.copy()
    episode = LONG[0]
    source[episode.start + 6:episode.start + 12, 1] = P  # the policy keeps the right arm
    one = Dataset(DATASET.path, DATASET.fps, DATASET.features, DATASET.spec, DATASET.episodes,
                  {**DATASET.columns, 'source': source})
    np.testing.assert_array_equal(phases(one, 0.06, 0.04), phases(DATASET, 0.06, 0.04))


def test_equal_weights_are_all_one_and_cost_nothing():
    weights = row_weights(DATASET, USABLE, Weights())
    assert set(weights[USABLE]) == {1.0} and not weights[~USABLE].any()
    assert samples().weights is None


@pytest.mark.parametrize('share', [0.2, 0.5, 0.9])
def test_corrections_get_their_share(share):
    weights = row_weights(DATASET, USABLE, Weights(share=share))
    assert weights[DATASET.intervention].sum() / weights.sum() == pytest.approx(share, rel=1e-5)
    assert weights[USABLE].mean() == pytest.approx(1.0, rel=1e-5)
    assert not weights[~USABLE].any()


def test_recovery_and_correction_are_weighed_apart():
    weights = row_weights(DATASET, USABLE, Weights(recovery=1.0, correction=3.0,
                                                  recovery_seconds=0.04))
    first = LONG[0].start + 6
    assert weights[first + 2] / weights[first] == pytest.approx(3.0)


def test_what_weighs_nothing_is_not_seen():
    without = samples(weights=Weights(recovery=0.0, recovery_seconds=0.04))
    expected = USABLE & (phases(DATASET, 0.0, 0.04) != D.RECOVERY)
    np.testing.assert_array_equal(without.train.anchors, np.flatnonzero(expected))


def test_successes_of_the_policy_are_learned_where_wanted_but_not_what_came_before_a_takeover():
    assert len(samples().train) == USABLE.sum() < len(DATASET)
    everything = samples(policy_successes=True)
    assert len(everything.train) == len(DATASET)
    careful = samples(
        policy_successes=True, weights=Weights(before=0.0, before_seconds=0.06))
    before = phases(DATASET, 0.06, 0.0) == D.BEFORE
    np.testing.assert_array_equal(careful.train.anchors, np.flatnonzero(~before))
    row = np.flatnonzero(before)[0]
    np.testing.assert_array_equal(
        labels_of(DATASET, 'expert', policy_successes=True)[0][row], DATASET.action[row])


def stood(rows, driver):
    """In the first long episode a driver keeps the command as it was over these rows."""
    episode, action, source = LONG[0], DATASET.action.copy(), DATASET.source.copy()
    taken = slice(episode.start + rows.start, episode.start + rows.stop)
    action[taken], source[taken] = action[taken.start - 1], driver
    return Dataset(DATASET.path, DATASET.fps, DATASET.features, DATASET.spec, DATASET.episodes,
                   {**DATASET.columns, 'action': action, 'source': source}), taken


def test_who_drives_and_moves_nothing_teaches_nothing_where_that_is_wanted():
    dataset, taken = stood(slice(7, 12), E)
    found = standing(dataset, 0.1)  # five rows at 50 Hz
    assert np.flatnonzero(found).tolist() == list(range(taken.start, taken.stop))
    assert not standing(dataset, 0.12).any(), 'a shorter stretch is a pause'
    assert not standing(stood(slice(7, 12), P)[0], 0.1).any(), 'a policy that stalls is another'
    assert not standing(DATASET, 0.04).any()
    without = row_weights(dataset, USABLE, Weights(standing=0.0, standing_seconds=0.1))
    assert not without[taken].any() and (without[USABLE & ~found] > 0).all()
    assert (row_weights(dataset, USABLE, Weights()) == row_weights(DATASET, USABLE, Weights())
            ).all()


def test_standing_does_not_go_on_from_one_episode_into_the_next():
    dataset, _ = stood(slice(1, len(LONG[0])), E)
    action = dataset.action.copy()
    after = LONG[0].stop
    action[after:after + 3] = action[after - 1]
    joined = Dataset(dataset.path, dataset.fps, dataset.features, dataset.spec, dataset.episodes,
                     {**dataset.columns, 'action': action})
    assert np.flatnonzero(standing(joined, 0.1)).max() == after - 1


def test_a_batch_carries_the_weights_of_its_windows():
    weighed = samples(weights=Weights(share=0.5))
    windows = np.arange(len(weighed.train))
    batch = weighed.batch(weighed.train, windows)
    expected = row_weights(DATASET, USABLE, Weights(share=0.5))[weighed.train.anchors]
    np.testing.assert_allclose(batch['weight'].numpy(), expected)


@pytest.mark.parametrize('wrong', [{'share': 1.0}, {'before': -1.0}, {'recovery_seconds': -0.1},
                                   {'standing_seconds': 0.0}])
def test_bad_weights_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Weights(**wrong)
