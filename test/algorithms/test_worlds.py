import numpy as np
import pytest
from counting import Make

from il_robot.algorithms.worlds import Worlds
from il_robot.errors import ConfigError, SimulationError


def run(worlds, steps):
    out = [worlds.reset()]
    for i in range(steps):
        worlds.begin(np.full((worlds.count, 1), i / 10, np.float32))
        out.append(worlds.finish())
    return out


def test_processes_bring_what_one_process_brings():
    with Worlds(Make(), 3, 7, processes=False) as here, Worlds(Make(), 3, 7) as there:
        assert here.obs_dim == 2
        ours, theirs = run(here, 12), run(there, 12)
    assert np.array_equal(ours[0], theirs[0])
    assert len({float(mark) for mark in ours[0][:, 1]}) == 3  # other episodes in each world
    for a, b in zip(ours[1:], theirs[1:]):
        for name in ('obs', 'reward', 'next_obs', 'terminated', 'truncated', 'success'):
            assert np.array_equal(getattr(a, name), getattr(b, name)), name


@pytest.mark.parametrize(('length', 'end'), [(5, 5), (100, 8)])
def test_where_an_episode_ends_both_its_end_and_the_next_beginning_are_there(length, end):
    with Worlds(Make((('length', length),)), 2, 0, processes=False) as worlds:
        steps = run(worlds, end)[1:]
    assert not any(s.ended.any() for s in steps[:-1])
    last = steps[-1]
    assert last.ended.all()
    assert (last.terminated == (length == 5)).all() and (last.success == (length == 5)).all()
    assert (last.next_obs[:, 0] == end).all() and (last.obs[:, 0] == 0).all()


def test_a_process_that_dies_is_replaced_and_counted(tmp_path):
    flag = str(tmp_path / 'died')
    with Worlds(Make((('dies_at', 3), ('flag', flag))), 2, 0) as worlds:
        steps = run(worlds, 9)[1:]
    lost = [i for i, s in enumerate(steps) if s.lost]
    assert lost == [2] and worlds.crashes == 1
    assert (steps[2].obs[:, 0] == 0).all()  # new episodes
    assert (steps[-1].obs[:, 0] > 0).any() or steps[-1].ended.any()


def test_worlds_that_die_again_and_again_are_given_up():
    with Worlds(Make((('dies_at', 2),)), 1, 0) as worlds, \
            pytest.raises(SimulationError, match='3 worlds died'):
        run(worlds, 9)


@pytest.mark.parametrize('processes', [True, False])
def test_a_mistake_that_every_try_would_repeat_is_said(processes):
    raises = ConfigError('no reward here')
    with Worlds(Make((('raises', raises),)), 1, 0, processes=processes) as worlds, \
            pytest.raises(ConfigError, match='no reward here'):
        run(worlds, 1)
    assert worlds.crashes == 0
