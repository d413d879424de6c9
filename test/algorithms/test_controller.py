from dataclasses import replace

import numpy as np
import pytest
import toy

from il_robot.algorithms import bc
from il_robot.algorithms.controller import PolicyController, PolicyFactory
from il_robot.algorithms.evaluate import as_observation, evaluate, summary
from il_robot.algorithms.recipe import make_recipe
from il_robot.control.chunks import Execution
from il_robot.errors import CheckpointError, ConfigError
from il_robot.protocols import Controller
from il_robot.types import ActionChunk, Observation

DT = toy.SPEC.dt


class FakeRunner:
    """Predicts the observation's time, and counts."""

    chunk_size = 4

    def __init__(self, value=lambda k: float(k)):
        self.calls, self.value = [], value

    def reset(self, rng):
        self.calls.append('reset')

    def observe(self, observation):
        self.now = observation.stamp

    def predict(self):
        self.calls.append(round(self.now / DT))
        positions = np.full((4, 4), self.value(round(self.now / DT)), np.float32)
        return ActionChunk(self.now, self.now + DT * np.arange(4), positions)


def observation(k):
    return Observation(k * DT, np.zeros(4, np.float32))


@pytest.mark.parametrize(('execution', 'expected'), [
    (Execution('ensemble', 1), list(range(7))),
    (Execution('newest', 3), [0, 3, 6]),
    (Execution('ensemble', 2), [0, 2, 4, 6]),
    (Execution('newest', 10), [0, 4]),  # the chunk ends before the next one is due
])
def test_the_policy_is_asked_when_due(execution, expected):
    runner = FakeRunner()
    controller = PolicyController(runner, toy.SPEC, execution)
    assert isinstance(controller, Controller)
    controller.reset(np.random.default_rng(0))
    for k in range(7):
        controller.act(observation(k))
    assert runner.calls == ['reset', *expected]


@pytest.mark.parametrize(('delay', 'asked', 'driving'), [
    (0.0, [0, 1, 2, 3, 4, 5, 6, 7], [0, 1, 2, 3, 4, 5, 6, 7]),
    # one at a time: the next starts when the last has come, late steps are cut
    (2 * DT, [0, 2, 4, 6], [None, None, 0, 0, 2, 2, 4, 4]),
    (1.5 * DT, [0, 2, 4, 6], [None, None, 0, 0, 2, 2, 4, 4]),
    # longer than a chunk lasts: nothing covers now, the arms hold
    (5 * DT, [0, 5], [None] * 8),
])
def test_a_late_answer_drives_from_when_it_comes(delay, asked, driving):
    runner = FakeRunner(lambda k: 0.1 * k)
    controller = PolicyController(runner, toy.SPEC, Execution('newest', 1), delay)
    controller.reset(np.random.default_rng(0))
    rest = np.full(4, 0.05, np.float32)
    for k, source in enumerate(driving):
        action = controller.act(Observation(k * DT, rest if k == 0 else np.zeros(4, np.float32)))
        expected = 0.05 if source is None else 0.1 * source
        np.testing.assert_allclose(
            action, np.clip(np.full(4, expected), toy.SPEC.lower, toy.SPEC.upper), rtol=1e-5)
    assert runner.calls == ['reset', *asked]
    assert runner.frozen == int(np.ceil(delay / DT))


@pytest.mark.parametrize('delay', [-0.1, np.inf, np.nan])
def test_a_delay_that_cannot_be_is_refused(delay):
    with pytest.raises(ConfigError, match='delay must be'):
        PolicyController(FakeRunner(), toy.SPEC, Execution(), delay)


def test_a_policy_that_does_not_sample_cannot_continue_a_plan(run):
    with pytest.raises(ConfigError, match='use mode ensemble, newest or blend'):
        PolicyFactory(run, Execution('rtc'))(toy.ToyEnv())


def test_actions_are_clipped_to_the_limits():
    controller = PolicyController(FakeRunner(lambda k: 100.0), toy.SPEC, Execution())
    np.testing.assert_array_equal(controller.act(observation(0)), toy.SPEC.upper)


def test_reset_forgets_the_chunks():
    controller = PolicyController(FakeRunner(lambda k: 0.1 * k), toy.SPEC, Execution())
    for k in range(3):
        last = controller.act(observation(k))
    controller.reset(np.random.default_rng(0))
    first = controller.act(observation(0))
    assert first[0] == 0 and last[0] > 0


@pytest.fixture(scope='module', params=['absolute', 'relative'])
def run(request, tmp_path_factory):
    recipe = make_recipe({
        'policy': 'chunk_mlp', 'model': {'hidden': [64, 64], 'chunk_size': 6},
        'training': {
            'steps': 800, 'batch_size': 64, 'learning_rate': 3e-3, 'device': 'cpu', 'threads': 1,
            'actions': request.param}})
    folder = tmp_path_factory.mktemp('run')
    bc.train(toy.toy_dataset(40), recipe, folder)
    return folder


def test_a_trained_policy_solves_the_toy_in_workers_as_here(run):
    seeds = range(8)
    here = evaluate(toy.ToyFactory(), PolicyFactory(run), seeds)
    spread = evaluate(toy.ToyFactory(), PolicyFactory(run), seeds, workers=2)
    assert here.episodes() == spread.episodes()
    assert summary(here.episodes())['success_rate'] > 0.3


def test_execution_can_be_overridden_and_the_robot_is_checked(run):
    env = toy.ToyEnv()
    actions = []
    for execution in (None, Execution('newest', 6)):
        controller = PolicyFactory(run, execution)(env)
        controller.reset(np.random.default_rng(0))
        obs, _ = env.reset(seed=0)
        for k in range(3):
            action = controller.act(as_observation(obs, k * DT))
            obs = env.step(action)[0]
        actions.append(action)
    assert not np.array_equal(*actions)
    env.robot = replace(toy.SPEC, rates=replace(toy.SPEC.rates, control=10.0))
    with pytest.raises(CheckpointError, match=r'50 \| 10'):
        PolicyFactory(run)(env)
