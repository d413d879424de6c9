"""An environment around a policy is the very one that evaluation runs."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
import toy
from tuned import cloned

from il_robot.algorithms.controller import PolicyFactory
from il_robot.algorithms.evaluate import run_episode
from il_robot.algorithms.policy_env import PolicyEnvFactory, residual_policy
from il_robot.algorithms.policy_env_base import Recorded, check_seen
from il_robot.checkpoints import find_checkpoint
from il_robot.errors import CheckpointError, ConfigError
from il_robot.policies.checkpoint import load_checkpoint, save_checkpoint
from il_robot.policies.runner import PolicyRunner
from il_robot.types import Observation

ENV = toy.ToyFactory()
CASES = {
    'mlp': ('mlp', {'mode': 'newest'}), 'newest': ('chunk_mlp', {
        'mode': 'newest', 'n_action_steps': 2}),
    'ensemble': ('chunk_mlp', {'mode': 'ensemble', 'n_action_steps': 1})}


@pytest.fixture(scope='module')
def runs(tmp_path_factory):
    return {name: find_checkpoint(cloned(tmp_path_factory.mktemp(name) / 'run', kind, **execution))
            for name, (kind, execution) in CASES.items()}


def corrected(source, folder, limit=0.5, hold=1):
    checkpoint, policy = residual_policy(*load_checkpoint(source), (16,), limit, hold)
    save_checkpoint(folder, checkpoint, policy)
    return folder


def drive(world, action, seed):
    """An episode of an environment around a policy: reward, steps, whether it succeeded."""
    obs, _ = world.reset(seed=seed)
    total, steps, ended = 0.0, 0, False
    while not ended:
        obs, reward, terminated, truncated, info = world.step(action(obs))
        total, steps, ended = total + reward, steps + 1, terminated or truncated
    return total, steps, info['success']


@pytest.mark.parametrize('name', CASES)
def test_without_a_correction_it_drives_as_in_evaluation_bit_for_bit(runs, name, tmp_path):
    folder = corrected(runs[name], tmp_path / 'corrected')
    world = PolicyEnvFactory(ENV, folder)()
    env = ENV()
    for seed in range(4):
        plain, same = (run_episode(env, PolicyFactory(f)(env), seed)
                       for f in (runs[name], folder))
        assert plain == same
        total, steps, success = drive(world, lambda obs: np.zeros(4, np.float32), seed)
        assert (steps, success, total) == (plain.length, plain.success, float(plain.success))


@pytest.mark.parametrize('hold', [1, 3])
def test_with_a_correction_it_drives_as_in_evaluation(runs, tmp_path, hold):
    """What is learned on is what will be deployed, for as long as a correction stays."""
    checkpoint, policy = residual_policy(*load_checkpoint(runs['ensemble']), (16,), 0.5, hold)
    with torch.no_grad():
        torch.nn.init.normal_(policy.trunk[-1].weight, generator=torch.Generator())
    save_checkpoint(tmp_path / 'corrected', checkpoint, policy)
    world, env = PolicyEnvFactory(ENV, tmp_path / 'corrected')(), ENV()

    def correction(obs):
        with torch.inference_mode():
            squashed = torch.tanh(policy.trunk(torch.from_numpy(obs)[None]))[0]
            return (policy.limit * squashed).numpy()

    for seed in range(4):
        plain = run_episode(env, PolicyFactory(tmp_path / 'corrected')(env), seed)
        total, decisions, success = drive(world, correction, seed)
        assert (success, total) == (plain.success, float(plain.success))
        assert decisions == -(-plain.length // hold)


@pytest.mark.parametrize('name', ['mlp', 'newest'])
def test_the_policys_own_answers_as_actions_drive_as_in_evaluation(runs, name):
    checkpoint, policy = load_checkpoint(runs[name])
    world = PolicyEnvFactory(ENV, runs[name])()
    count = 2 if name == 'newest' else 1
    assert world.action_space.shape == (4 * count,)

    def answer(obs):
        features = torch.from_numpy(obs).reshape(1, policy.n_obs_steps, -1)
        with torch.inference_mode():
            return policy({'features': features}, torch.empty(1, 0))[0, :count].numpy().ravel()

    env = ENV()
    for seed in range(4):
        plain = run_episode(env, PolicyFactory(runs[name])(env), seed)
        _, decisions, success = drive(world, answer, seed)
        assert success == plain.success
        assert decisions == -(-plain.length // count)
    assert checkpoint.policy == policy_name(name)


def policy_name(name):
    return CASES[name][0]


def recorded(seed=1000, success=True, reward=True):
    """A demonstration of the expert."""
    env = ENV()
    obs, _ = env.reset(seed=seed)
    seen, actions, rewards, ended = [], [], [], False
    while not ended:
        seen.append(Observation(0.02 * len(seen), obs['state'], obs['objects']))
        actions.append(env.expert().position)
        obs, gain, terminated, truncated, _ = env.step(actions[-1])
        rewards.append(gain)
        ended = terminated or truncated
    return Recorded(seen, np.stack(actions), np.array(rewards, np.float32) if reward else None,
                    success)


@pytest.mark.parametrize(('name', 'parts'), [('mlp', 1), ('newest', 2)])
def test_a_demonstration_is_what_would_have_been_experienced(runs, name, parts):
    episode = recorded()
    world = PolicyEnvFactory(ENV, runs[name])()
    found = world.transitions(episode)
    assert len(found) == parts and sum(map(len, found)) == len(episode.actions)
    for first, part in enumerate(found):
        np.testing.assert_array_equal(part.obs[1:], part.next_obs[:-1])
        assert part.terminated.tolist() == [False] * (len(part) - 1) + [True]
        assert part.reward.tolist() == [0.0] * (len(part) - 1) + [1.0]
        # executed from there on, the actions are those recorded
        runner = PolicyRunner(*load_checkpoint(runs[name]), toy.SPEC)
        runner.observe(episode.observations[first])
        np.testing.assert_allclose(part.obs[0], runner.features().ravel(), atol=1e-6)
        unit, offset = (np.broadcast_to(v, (parts, 4)) if v.ndim == 1 else v[:parts] for v in (
            runner._normalizer.entries['action'].scale,
            runner._normalizer.entries['action'].offset))
        own = part.action[0].reshape(parts, 4) * unit + offset
        own += load_checkpoint(runs[name])[0].base * episode.observations[first].state
        inside = np.abs(part.action[0].reshape(parts, 4)) < 3.99
        expected = episode.actions[first:first + parts]
        np.testing.assert_allclose(own[inside], expected[inside], atol=1e-4)


def test_a_demonstration_corrects_the_policy_as_far_as_the_limit_allows(runs, tmp_path):
    world = PolicyEnvFactory(ENV, corrected(runs['ensemble'], tmp_path / 'c', 0.25))()
    part, = world.transitions(recorded())
    assert np.abs(part.action).max() <= 0.25 and part.action.any()
    assert part.obs.shape[1] == world.observation_space.shape[0]


def test_a_demonstration_is_corrected_by_the_mean_of_what_a_correction_is_held_for(
        runs, tmp_path):
    each, held = (PolicyEnvFactory(ENV, corrected(
        runs['ensemble'], tmp_path / str(hold), 1e6, hold))() for hold in (1, 3))
    single, = each.transitions(recorded())
    parts = held.transitions(recorded())
    assert len(parts) == 3
    for first, part in enumerate(parts):
        for row, action in enumerate(part.action):
            steps = single.action[first + 3 * row:first + 3 * row + 3]
            np.testing.assert_allclose(action, steps.mean(0), rtol=1e-4, atol=1e-4)


def test_policies_that_see_pictures_are_refused(runs):
    checkpoint, _ = load_checkpoint(runs['mlp'])
    check_seen(checkpoint)
    seen = replace(checkpoint.observation, cameras=('top', 'wrist'))
    with pytest.raises(ConfigError, match=r'pictures \(top, wrist\).*without cameras'):
        check_seen(replace(checkpoint, observation=seen))


def test_failures_and_stages_are_worth_what_they_are(runs):
    sparse = PolicyEnvFactory(ENV, runs['mlp'])()
    part, = sparse.transitions(recorded(success=False))
    assert not part.reward.any() and not part.terminated.any()
    staged = PolicyEnvFactory(ENV, runs['mlp'], 'staged')()
    episode = recorded()
    part, = staged.transitions(episode)
    np.testing.assert_allclose(part.reward.sum(), episode.reward.sum() + 1.0)
    with pytest.raises(ConfigError, match='no rewards'):
        staged.transitions(recorded(reward=False))


class Measured(toy.ToyEnv):
    """It knows how far it is."""

    def progress(self):
        return 0.1 * min(self.steps, 5)

    def reset(self, **words):
        self.steps = 0
        return super().reset(**words)

    def step(self, action):
        self.steps += 1
        return super().step(action)


def test_progress_is_worth_what_it_rises_by(runs):
    world = PolicyEnvFactory(Measured, runs['mlp'], 'progress')()
    total, steps, success = drive(world, lambda obs: np.zeros(4, np.float32), 0)
    assert steps > 5 and total == pytest.approx(0.5 + success)
    with pytest.raises(ConfigError, match='does not say how far'):
        world.transitions(recorded())
    with pytest.raises(ConfigError, match='has no progress'):
        PolicyEnvFactory(ENV, runs['mlp'], 'progress')()


@pytest.mark.parametrize(('kind', 'stuck', 'length'), [
    ('progress', 0.1, 8), ('progress', 0.0, 30), ('progress', 9.0, 30), ('sparse', 0.1, 30)])
def test_a_try_ends_where_it_has_got_no_further_for_so_long(runs, kind, stuck, length):
    world = PolicyEnvFactory(Measured, runs['mlp'], kind, stuck)()
    for seed in range(2):  # it gets further in the first three steps
        _, steps, success = drive(world, lambda obs: np.zeros(4, np.float32), seed)
        assert not success and steps == length


class Odd(toy.ToyEnv):
    """Something is wrong with it."""

    wrong = ''

    def step(self, action):
        obs, reward, terminated, truncated, info = super().step(action)
        if self.wrong == 'reward':
            reward = float('nan')
        if self.wrong == 'success':
            del info['success']
        return obs, reward, terminated, truncated, info


@dataclass(frozen=True)
class OddFactory:
    wrong: str

    def __call__(self):
        env = Odd()
        env.wrong = self.wrong
        if self.wrong == 'robot':
            joints = (replace(toy.SPEC.joints[0], upper=1.0),)
            env.robot = replace(toy.SPEC, joints=joints)
        if self.wrong == 'actions':
            env.robot = replace(toy.SPEC, arms=toy.SPEC.arms[:1])
        return env


@pytest.mark.parametrize(('wrong', 'error', 'words'), [
    ('reward', ConfigError, 'reward nan'), ('success', ConfigError, "must have 'success'"),
    ('robot', CheckpointError, 'does not fit'),
    ('actions', CheckpointError, 'the environment takes 2')])
def test_environments_that_cannot_be_learned_in_are_refused(runs, wrong, error, words):
    with pytest.raises(error, match=words):
        world = PolicyEnvFactory(OddFactory(wrong), runs['mlp'])()
        drive(world, lambda obs: np.zeros(4, np.float32), 0)


def test_mixed_chunks_are_no_actions(runs):
    with pytest.raises(ConfigError, match='--algorithm residual'):
        PolicyEnvFactory(ENV, runs['ensemble'])()
