import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from il_robot.data.recombine import SHORTEST, Scene, recombine
from il_robot.errors import DatasetError

LENGTHS = (60, 80, 70)
STARTS = np.concatenate([[0], np.cumsum(LENGTHS)[:-1]])
STOPS = np.cumsum(LENGTHS)


def scene(seed=0, meet=(40, 40, 40)):
    """Two hands that fetch a part each, 1 m apart, and meet in the middle from row ``meet`` on."""
    rng = np.random.default_rng(seed)
    hands, objects = [], []
    for length, row in zip(LENGTHS, meet):
        x = np.where(np.arange(length) < row, 0.5, 0.05)
        both = np.stack([np.c_[-x, np.zeros((length, 2))], np.c_[x, np.zeros((length, 2))]], 1)
        hands.append(both + 0.01 * rng.standard_normal(both.shape))
        objects.append(both[:, ::-1] + 0.02)  # object 0 is at the second hand
    return Scene(np.concatenate(hands), np.concatenate(objects), STARTS, STOPS)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 999))
def test_each_arm_and_its_object_come_row_by_row_from_one_episode_while_apart(seed):
    given_scene = scene(seed)
    new = recombine(given_scene, 300, 0.3, np.random.default_rng(seed))
    assert len(new.arm_rows) >= 300 and new.stops[-1] == len(new.arm_rows)
    np.testing.assert_array_equal(new.starts[1:], new.stops[:-1])
    np.testing.assert_array_equal(new.object_rows, new.arm_rows[:, ::-1])  # they go with their arm
    episode = np.searchsorted(STOPS, new.arm_rows, side='right')
    within = new.arm_rows - STARTS[episode]
    assert (within < 40).all(), 'rows where the hands are near each other are not used'
    for start, stop in zip(new.starts, new.stops):
        assert stop - start >= SHORTEST
        assert (np.diff(new.arm_rows[start:stop], axis=0) == 1).all()
        assert (episode[start:stop] == episode[start]).all()
        assert episode[start, 0] != episode[start, 1]


def test_values_are_taken_from_the_rows_of_their_arm():
    new = recombine(scene(), 50, 0.3, np.random.default_rng(1))
    values = np.arange(sum(LENGTHS) * 4, dtype=np.float32).reshape(-1, 4)
    mixed = new.arms(values, (slice(0, 2), slice(2, 4)))
    np.testing.assert_array_equal(mixed[:, :2], values[new.arm_rows[:, 0], :2])
    np.testing.assert_array_equal(mixed[:, 2:], values[new.arm_rows[:, 1], 2:])
    poses = np.random.default_rng(2).normal(size=(sum(LENGTHS), 2, 7)).astype(np.float32)
    np.testing.assert_array_equal(new.objects(poses)[:, 1], poses[new.arm_rows[:, 0], 1])


def test_the_same_seed_gives_the_same_episodes():
    first, second = (recombine(scene(), 100, 0.3, np.random.default_rng(3)) for _ in range(2))
    np.testing.assert_array_equal(first.arm_rows, second.arm_rows)


@pytest.mark.parametrize('bad, why', [
    (scene(meet=(0, 0, 0)), '0 of 200 .* more than 0.3 m apart'),
    (Scene(scene().hands, scene().objects, STARTS[:1], STOPS[:1]), 'two episodes and two arms'),
    (Scene(scene().hands[:, :1], scene().objects, STARTS, STOPS), 'two episodes and two arms'),
])
def test_what_cannot_be_recombined_says_why(bad, why):
    with pytest.raises(DatasetError, match=why + '.*training.recombine=0'):
        recombine(bad, 100, 0.3, np.random.default_rng(0))


def test_rare_pieces_are_not_looked_for_for_ever():
    rare = scene(meet=(SHORTEST, SHORTEST, 0))  # one pair in three, with no lead: 1 of 123
    assert len(recombine(rare, 30, 0.3, np.random.default_rng(0)).arm_rows) >= 30
    fewer = Scene(rare.hands, rare.objects, *(  # two more that never are apart: 1 of 410
        np.append(rows, rows[-1:].repeat(2)) for rows in (STARTS, STOPS)))
    with pytest.raises(DatasetError, match=r'^[1-9]\d* of .* random pairs .* too few'):
        recombine(fewer, 10**9, 0.3, np.random.default_rng(4))
