import gymnasium as gym
import numpy as np
import pytest
import wheel

from il_robot.bench.application import Application, MakeFlat, Teacher, drive, load_callable, scores
from il_robot.config import build
from il_robot.errors import ConfigError

WHEEL = Application('wheel:Wheel', 'wheel:expert')


def test_observations_become_rows_of_float32():
    env = MakeFlat(WHEEL)()
    obs, _ = env.reset(seed=3)
    assert obs.shape == (1,) and obs.dtype == np.float32
    assert env.observation_space.contains(obs)


@pytest.mark.parametrize('name', ['CartPole-v1', 'il_robot.sim:il_robot/TransferCube-v0'])
def test_ids_of_gymnasium_are_made(name):
    env = MakeFlat(Application(name, 'wheel:expert'))()
    assert isinstance(env.observation_space, gym.spaces.Box)
    env.close()


@pytest.mark.parametrize(('env', 'options', 'says'), [
    ('NoSuchThing-v0', {}, 'cannot be made'),
    ('no_such_module:Thing-v0', {}, 'cannot be made'),
    ('wheel:Wheel', {'colour': 3}, 'cannot be made'),
    ('wheel:expert', {'env': None, 'obs': {'angle': [0.0]}}, 'no environment of Gymnasium'),
    ('wheel:Switches', {}, 'supported are Discrete from 0 on and Box'),
    ('wheel:FromOne', {}, 'supported are Discrete from 0 on and Box'),
    ('wheel:Words', {}, 'cannot be written as one row'),
])
def test_what_is_no_such_environment_is_said(env, options, says):
    with pytest.raises(ConfigError, match=says):
        MakeFlat(Application(env, 'wheel:expert', options))()


@pytest.mark.parametrize(('name', 'says'), [
    ('wheel:nobody', 'MODULE:CALLABLE'), ('nowhere:expert', 'MODULE:CALLABLE'),
    ('wheel:not_callable', 'no callable'), (':expert', 'MODULE:CALLABLE')])
def test_an_expert_that_is_none_is_said(name, says):
    with pytest.raises(ConfigError, match=says):
        load_callable(name)


@pytest.mark.parametrize(('expert', 'says'), [
    ('tired', 'raised RuntimeError: no more'), ('confused', 'answered'), ('wide', 'answered'),
    ('silent', 'answered None'), ('wordy', "answered 'left'")])
def test_an_expert_that_does_not_answer_is_named(expert, says):
    application = Application('wheel:Wheel', f'wheel:{expert}')
    env = MakeFlat(application)()
    teacher = Teacher(application, env)
    with pytest.raises(ConfigError, match=f'wheel:{expert} {says}'):
        drive(env, 0, teacher)


@pytest.mark.parametrize('expert', ['silent', 'wordy', 'half'])
def test_a_choice_that_is_none_is_named(expert):
    application = Application('CartPole-v1', f'wheel:{expert}')
    env = MakeFlat(application)()
    with pytest.raises(ConfigError, match=f'wheel:{expert} answered'):
        drive(env, 0, Teacher(application, env))


def test_actions_go_from_minus_one_to_one_and_the_expert_keeps_his_own():
    application = Application('wheel:Valve', 'wheel:valve_expert')
    env = MakeFlat(application)()
    assert env.action_space.low == [-1.0] and env.action_space.high == [1.0]
    episode = drive(env, 0, Teacher(application, env))
    assert episode.did[0] == [0.5] and episode.reward[0] == 7.5  # of 0 to 10


def test_the_expert_is_asked_once_for_each_step():
    application = Application('wheel:Wheel', 'wheel:counting')
    env = MakeFlat(application)()
    teacher, before = Teacher(application, env), wheel.ASKED[0]
    episode = drive(env, 0, teacher, teacher)
    assert wheel.ASKED[0] - before == len(episode.did)


def test_noise_is_on_what_is_done_and_not_on_the_labels():
    env = MakeFlat(WHEEL)()
    teacher = Teacher(WHEEL, env)
    first, again = (drive(env, 0, teacher, teacher, 0.1) for _ in range(2))
    assert (first.did != first.labels).any() and np.abs(first.did).max() <= 1
    assert (first.did == again.did).all() and (first.obs == again.obs).all()
    assert all(teacher(obs) == label for obs, label in zip(first.obs, first.labels))


def test_the_expert_sees_its_own_observation_and_is_clipped():
    env = MakeFlat(WHEEL)()
    teacher = Teacher(WHEEL, env)
    assert teacher(np.array([3.0], np.float32)) == [-1.0]
    episode = drive(env, 0, teacher, teacher)
    assert episode.obs.shape == (31, 1) and episode.did.shape == (30, 1)
    assert (episode.labels == episode.did).all() and episode.success is True


@pytest.mark.parametrize('score', ['return', 'success'])
@pytest.mark.parametrize('most', [1, 4, 25])
def test_scores_are_those_of_single_episodes(score, most):
    application = Application('wheel:Wheel', 'wheel:expert', score=score)
    env = MakeFlat(application)()
    teacher = Teacher(application, env)

    def act(obs):
        return np.stack([teacher(row) for row in obs])

    found = scores(MakeFlat(application), act, range(7), most)
    assert found == pytest.approx(
        [drive(env, seed, teacher).score(score) for seed in range(7)], rel=1e-6)


def test_success_that_nobody_says_is_refused():
    application = Application('CartPole-v1', 'il_robot.bench.experts:cartpole', score='success')
    env = MakeFlat(application)()
    with pytest.raises(ConfigError, match='score: return'):
        drive(env, 0, Teacher(application, env)).score('success')


@pytest.mark.parametrize(('key', 'value'), [
    ('score', 'fun'), ('gamma', 0.0), ('gamma', 1.5), ('steps', 0), ('demonstrations', 0),
    ('noise', -0.1)])
def test_settings_are_checked(key, value):
    with pytest.raises(ConfigError, match=key):
        build(Application, {'env': 'a', 'expert': 'b', key: value}, 'suite')
