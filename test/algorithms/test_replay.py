import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from il_robot.algorithms.replay import Replay, Transitions, joined

GAMMA = 0.9


def steps(length, ended, start=0):
    """An episode whose observations count its steps."""
    return [(np.array([start + i], np.float32), np.array([0.5], np.float32), float(i + 1),
             np.array([start + i + 1], np.float32), ended == 'terminated' and i == length - 1,
             ended == 'truncated' and i == length - 1) for i in range(length)]


def fill(replay, episodes):
    for world, episode in enumerate(episodes):
        for obs, action, reward, following, terminated, truncated in episode:
            replay.add(world, obs, action, reward, following, terminated=terminated,
                       truncated=truncated)


@given(length=st.integers(1, 9), n=st.integers(1, 5),
       ended=st.sampled_from(['terminated', 'truncated']))
def test_returns_are_sums_over_n_steps_or_to_the_end(length, n, ended):
    replay = Replay(100, 1, 1, GAMMA, n)
    fill(replay, [steps(length, ended)])
    assert len(replay) == length  # every step begins one
    for i in range(length):
        k = min(n, length - i)
        at = {key: values[i] for key, values in replay.arrays.items()}
        assert at['obs'] == i and at['next_obs'] == i + k
        assert at['reward'] == pytest.approx(sum(GAMMA**j * (i + j + 1) for j in range(k)))
        over = ended == 'terminated' and i + k == length
        assert at['discount'] == pytest.approx(0 if over else GAMMA**k)


def test_worlds_do_not_mix_and_a_lost_episode_leaves_nothing_half_done():
    replay = Replay(100, 1, 1, GAMMA, 3)
    first, second = steps(5, 'running'), steps(4, 'terminated', start=100)
    for a, b in zip(first, second):
        for world, step in enumerate((a, b)):
            replay.add(world, *step[:4], terminated=step[4], truncated=step[5])
    assert all((o < 50) == (f < 50) for o, f in zip(
        replay.arrays['obs'][:len(replay), 0], replay.arrays['next_obs'][:len(replay), 0]))
    before = len(replay)
    replay.forget(0)
    fill(replay, [steps(2, 'truncated', start=200)])
    assert len(replay) == before + 2
    assert set(replay.arrays['obs'][before:before + 2, 0]) == {200, 201}


def test_the_oldest_are_overwritten_and_what_is_saved_comes_back():
    replay = Replay(4, 1, 1, GAMMA)
    fill(replay, [steps(6, 'truncated')])
    assert len(replay) == 4 and set(replay.arrays['obs'][:, 0]) == {2, 3, 4, 5}
    other = Replay(4, 1, 1, GAMMA)
    other.restore(replay.state())
    rng, same = np.random.default_rng(0), np.random.default_rng(0)
    ours, theirs = replay.sample(8, rng), other.sample(8, same)
    assert all(np.array_equal(ours[k], theirs[k]) for k in ours)
    fill(other, [steps(1, 'truncated', start=50)])
    assert set(other.arrays['obs'][:, 0]) == {50, 3, 4, 5}  # goes on where it was


def test_a_recorded_episode_is_experience_like_any_other():
    rows = [np.array([s[i] for s in steps(5, 'terminated')]) for i in range(5)]
    episode = Transitions(*rows)
    by_step, whole = Replay(9, 1, 1, GAMMA, 2), Replay(9, 1, 1, GAMMA, 2)
    fill(by_step, [steps(5, 'terminated')])
    whole.extend(episode)
    assert all(np.array_equal(v, whole.arrays[k]) for k, v in by_step.arrays.items())
    assert len(joined([episode, episode[2:]])) == 8


def test_nothing_to_sample_from_is_said():
    with pytest.raises(ValueError, match='nothing to sample'):
        Replay(4, 1, 1, GAMMA).sample(2, np.random.default_rng(0))
