"""A policy that runs into a dead end finds the way that it would not go by itself."""

from __future__ import annotations

import numpy as np
import pytest
import toy

from il_robot.algorithms.corrections import GatedController, run_corrected
from il_robot.algorithms.returning import Returning
from il_robot.control.gates import make_gate
from il_robot.errors import ConfigError
from il_robot.types import Source

LEFT, RIGHT = 0, 2


class Wall(toy.ToyEnv):
    """The right slide has to come to 1.4; at 0.5 it is stopped unless the left one is aside."""

    played = 0

    def step(self, action):
        action = np.array(action)
        if self.state[RIGHT] < 0.5 and abs(self.state[LEFT]) < 0.25:
            action[RIGHT] = min(action[RIGHT], 0.49)
        type(self).played += 1
        obs, _, _, _, info = super().step(action)
        info['success'] = bool(self.state[RIGHT] > 1.4)
        return obs, 0.0, info['success'], self.steps >= 400, info

    def progress(self):
        return float(np.clip(self.state[RIGHT] / 1.4, 0, 1))


class Ahead:
    """Goes straight on, and keeps the left slide in the middle."""

    def reset(self, rng):
        self.rng = rng

    def act(self, observation):
        target = observation.state.copy()
        target[LEFT] *= 0.5
        target[RIGHT] += 0.05
        return target


@pytest.fixture
def env():
    Wall.played = 0
    with Wall() as made:
        yield made


def test_straight_on_ends_at_the_wall(env):
    way = Returning(env, Ahead(), 0.1, tries=0).find(1)
    assert not way.success and max(way.progress) < 0.4
    assert len(way.steps) < 100, 'it is given up where it gets no further'


@pytest.mark.parametrize('seed', range(5))
def test_going_back_and_trying_something_else_finds_a_way_that_can_be_gone_again(env, seed):
    search = Returning(env, Ahead(), 0.3, tries=40)
    way = search.find(seed)
    assert way.success and len(way.steps) == len(way.actions) == len(way.progress) - 1
    assert search.steps == env.played > len(way.steps)
    # without its dead ends
    reached = np.maximum.accumulate(way.progress)
    assert all(reached[i + 60] > reached[i] for i in range(len(reached) - 61))
    obs, _ = env.reset(seed=seed)
    for step, action in zip(way.steps, way.actions, strict=True):
        np.testing.assert_array_equal(step.observation.state, obs['state'])
        obs, *_, info = env.step(action)
    assert info['success']


def test_the_same_seed_finds_the_same_way(env):
    one, other = (Returning(env, Ahead(), 0.3, tries=40).find(3) for _ in range(2))
    np.testing.assert_array_equal(one.actions, other.actions)


def test_an_episode_of_a_round_is_what_was_found(env):
    controller = GatedController(Ahead(), make_gate('never', {}), False, returns=40, offset=0.3)
    found = run_corrected(env, controller, 2)
    assert found.result.success and found.result.simulated == env.played
    assert found.result.length == len(found.steps) < found.result.simulated
    assert all(step.source == (Source.POLICY,) * 2 for step in found.steps)
    assert found.steps[-1].success and not found.steps[-2].success


def test_an_environment_must_say_how_far_it_is():
    with pytest.raises(ConfigError, match=r'no progress\(\)'):
        Returning(toy.ToyEnv(), Ahead(), 0.1, 1)
