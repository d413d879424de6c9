from dataclasses import replace

import numpy as np
import pytest
import torch

from il_robot.bench.application import Application
from il_robot.bench.flat import Scaled, Task, fit_steps, sizes, takeovers
from il_robot.bench.outcome import EXPERT, RANDOM
from il_robot.bench.suite import _ENDS, METHODS
from il_robot.errors import ConfigError
from il_robot.policies.backpropagation import Perceptron

WHEEL = Application('wheel:Wheel', 'wheel:expert', gamma=0.9, steps=600, demonstrations=5)
POLE = Application('CartPole-v1', 'il_robot.bench.experts:cartpole', steps=600, demonstrations=2)
SMALL = range(4)


def run(method, application=WHEEL, seed=0):
    return (METHODS | _ENDS)[method](Task(application, seed, SMALL, range(2)))


@pytest.fixture(scope='module')
def ends():
    return {name: np.mean(run(name).points[-1].scores) for name in (EXPERT, RANDOM)}


@pytest.mark.parametrize('method', METHODS)
def test_every_method_tells_its_costs_and_scores(method):
    outcome = run(method)
    points = outcome.points
    assert len(points) > 1 and [len(p.scores) for p in points] == [
        *[2] * (len(points) - 1), len(SMALL)]
    # cloning 5 demonstrations takes what it takes, however long cloning 2 of them took
    for what in ('labels', 'steps', *(['seconds'] if method != 'bc' else [])):
        taken = [getattr(p, what) for p in points]
        assert taken == sorted(taken)
    assert points[-1].labels == {'ppo': 0}.get(method, 5 * 30)
    assert outcome.parameters > 0 and 0 < outcome.latency_ms[0] <= outcome.latency_ms[1]


@pytest.mark.parametrize('method', ['bc', 'dagger'])
def test_imitation_comes_close_to_the_expert(method, ends):
    last = np.mean(run(method).points[-1].scores)
    assert last > ends[RANDOM] + 0.9 * (ends[EXPERT] - ends[RANDOM])


@pytest.mark.parametrize('method', [m for m in METHODS if m != 'sac_demos'])
def test_choices_are_learned_too(method):
    points = run(method, POLE).points
    if method in ('bc', 'dagger', 'bc_ppo'):
        assert np.mean(points[-1].scores) > 150  # by chance it stands for 20 steps


def test_numbers_are_asked_of_sac_demos():
    with pytest.raises(ConfigError, match='choices'):
        run('sac_demos', POLE)


@pytest.mark.parametrize('method', METHODS)
def test_a_seed_repeats(method):
    first, again, other = (run(method, seed=seed) for seed in (0, 0, 1))
    assert [p.scores for p in first.points] == [p.scores for p in again.points]
    assert [p.scores for p in first.points] != [p.scores for p in other.points]


@pytest.mark.parametrize('method', METHODS)
def test_units_change_nothing(method):
    fine = replace(WHEEL, env='wheel:Millimetres', expert='wheel:fine_expert')
    own, other = (np.array([p.scores for p in run(method, a).points[:-1]]) for a in (WHEEL, fine))
    np.testing.assert_allclose(other, 1024 * own, rtol=1e-3)


def test_dagger_begins_as_cloning_one_demonstration_does():
    assert run('dagger').points[0].scores == run('bc').points[0].scores


def test_a_takeover_is_where_somebody_begins():
    assert takeovers([True, True, False, True, False, False]) == 2
    assert takeovers([]) == 0 and takeovers([False]) == 0


@pytest.mark.parametrize(('most', 'found'), [
    (1, [1]), (5, [1, 2, 5]), (30, [1, 2, 5, 10, 20, 30])])
def test_a_curve_ends_with_all_demonstrations(most, found):
    assert sizes(most) == found


def test_imitation_takes_as_many_steps_as_it_has_rows():
    assert fit_steps(1) == 2000 and fit_steps(1000) == 3125 and fit_steps(10**7) == 20_000


def test_without_autograd_the_policy_is_the_same():
    torch.manual_seed(0)
    obs = 5 * torch.randn(50, 3)
    net = Scaled(obs.numpy(), 2)
    passes, x = Perceptron.of(net), 5 * torch.randn(9, 3)
    with torch.inference_mode():
        torch.testing.assert_close(passes.forward(x), net(x))
    slope = torch.randn(9, 2)
    expected = torch.autograd.grad((net(x) * slope).sum(), list(net.parameters()))
    with torch.inference_mode():
        passes.slope.copy_(slope)
        for found, wanted in zip(passes.backward(), expected, strict=True):
            torch.testing.assert_close(found, wanted)
