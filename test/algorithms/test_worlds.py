from dataclasses import replace

import numpy as np
import pytest
from counting import Make

from il_robot.algorithms.world_parts import Step
from il_robot.algorithms.worlds import Returns, Worlds, share_size
from il_robot.errors import ConfigError, SimulationError


def run(worlds, steps):
    out = [worlds.reset()]
    for i in range(steps):
        worlds.begin(np.full((worlds.count, 1), i / 10, np.float32))
        out.append(worlds.finish())
    return out


@pytest.mark.parametrize(('count', 'processes'), [(3, 3), (4, 2), (2, 1)])
def test_processes_bring_what_no_process_brings(count, processes):
    with Worlds(Make(), count, 7, processes=0) as here, \
            Worlds(Make(), count, 7, processes) as there:
        assert here.obs_dim == there.obs_dim == 2
        assert here.action_space == there.action_space
        ours, theirs = run(here, 12), run(there, 12)
        assert len(there.parts) == processes
    assert np.array_equal(ours[0], theirs[0])
    assert len({float(mark) for mark in ours[0][:, 1]}) == count  # other episodes in each world
    for a, b in zip(ours[1:], theirs[1:]):
        for name in ('obs', 'reward', 'next_obs', 'terminated', 'truncated', 'success'):
            one, other = getattr(a, name), getattr(b, name)
            assert np.array_equal(one, other) and one.dtype == other.dtype, name


@pytest.mark.parametrize(('count', 'processes', 'size'), [
    (4, 2, 2), (16, 2, 8), (3, 2, 1), (16, 6, 2), (1, 8, 1), (2, 8, 1), (5, 1, 5)])
def test_processes_share_worlds_evenly_and_no_core_is_left_without(count, processes, size):
    assert share_size(count, processes) == size


@pytest.mark.parametrize(('length', 'end'), [(5, 5), (100, 8)])
def test_where_an_episode_ends_both_its_end_and_the_next_beginning_are_there(length, end):
    with Worlds(Make((('length', length),)), 2, 0, processes=0) as worlds:
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


def test_a_later_session_begins_with_other_episodes():
    first, same, later = (
        Worlds(Make(), 3, 0, 0, begun)._seeds(0) for begun in (0, 0, 1000))
    assert first == same and not set(first) & set(later)


def test_one_that_dies_before_its_first_step_is_replaced_and_counted(tmp_path):
    with Worlds(Make((('dies_at', 0), ('flag', str(tmp_path / 'died')))), 2, 0, 2) as worlds:
        steps = run(worlds, 2)
    assert worlds.crashes == 1
    assert (steps[0][:, 0] == 0).all() and (steps[2].obs[:, 0] == 2).all()


def test_where_processes_go_on_by_themselves_one_that_dies_loses_only_its_own(tmp_path):
    with Worlds(Make((('dies_at', 3), ('flag', str(tmp_path / 'died')))), 4, 0, 2) as worlds:
        worlds.reset()
        steps = {0: [], 1: []}
        for i in steps:
            worlds.begin_part(i, np.zeros((2, 1), np.float32))
        while begun := [i for i in steps if len(steps[i]) < 4]:
            for i in worlds.ready(begun):
                steps[i].append(worlds.finish_part(i))
                if len(steps[i]) < 4:
                    worlds.begin_part(i, np.zeros((2, 1), np.float32))
    lost = [i for i in steps if any(s.lost for s in steps[i])]
    assert len(lost) == worlds.crashes == 1
    assert [s.obs[0, 0] for s in steps[lost[0]]] == [1, 2, 0, 1]
    assert [s.obs[0, 0] for s in steps[1 - lost[0]]] == [1, 2, 3, 4]
    assert [s.first for s in steps[0] + steps[1]] == 4 * [0] + 4 * [2]


def test_worlds_that_die_again_and_again_are_given_up():
    with Worlds(Make((('dies_at', 2),)), 1, 0) as worlds, \
            pytest.raises(SimulationError, match='3 worlds died'):
        run(worlds, 9)


@pytest.mark.parametrize('processes', [1, 0])
def test_what_cannot_be_made_is_said(processes):
    with Worlds(Make((('nonsense', 1),)), 1, 0, processes=processes) as worlds, \
            pytest.raises(TypeError, match='nonsense'):
        worlds.reset()


def test_returns_are_summed_for_each_world_whoever_steps_it():
    made = [Step.begun(np.zeros((2, 1))) for _ in range(2)]
    over = np.array([False, True])
    steps = [replace(s, reward=np.array([1.0, 10.0 + i], np.float32), first=2 * i)
             for i, s in enumerate(made)]
    returns = Returns()
    for step in (*steps, steps[1], replace(steps[0], terminated=over),
                 replace(steps[1], truncated=over), replace(steps[1], lost=True),
                 replace(steps[1], truncated=over)):
        returns(step)
    assert returns.finished == [20, 33, 11]


@pytest.mark.parametrize('processes', [1, 0])
def test_a_mistake_that_every_try_would_repeat_is_said(processes):
    raises = ConfigError('no reward here')
    with Worlds(Make((('raises', raises),)), 1, 0, processes=processes) as worlds, \
            pytest.raises(ConfigError, match='no reward here'):
        run(worlds, 1)
    assert worlds.crashes == 0
