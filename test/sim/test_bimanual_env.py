import subprocess
import sys

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from il_robot.errors import ActionError, ConfigError, SimulationError
from il_robot.sim import bullet, make
from il_robot.sim.registration import ENV_IDS, register_envs
from il_robot.sim.tasks.task import HOLD_STEPS

EVERYTHING = {
    'shoves': 2, 'action_noise': 0.003, 'action_delay': 1, 'observation_noise': 0.0005,
    'friction_scale': 0.2, 'mass_scale': 0.2, 'start_posture': 0.15, 'drops': 1,
    'camera_jitter': 0.01,
}
TASKS = pytest.mark.parametrize('task', ENV_IDS.values())


@pytest.fixture
def env(request):
    env = make(getattr(request, 'param', 'transfer_cube'))
    yield env
    env.close()


def rollout(env, seed, n=None):
    """Bytes of every observation, reward and flag while the expert drives."""
    obs, _ = env.reset(seed=seed)
    rows, ended = [obs], False
    while not ended and (n is None or len(rows) <= n):
        obs, reward, terminated, truncated, _ = env.step(env.expert().position)
        rows += [obs, reward, terminated, truncated]
        ended = terminated or truncated
    return rows


def same(a, b):
    return len(a) == len(b) and all(
        same([*x.values()], [*y.values()]) if isinstance(x, dict) else np.array_equal(x, y)
        for x, y in zip(a, b))


# -- Gymnasium ------------------------------------------------------------------------------
@pytest.mark.filterwarnings('error')
@pytest.mark.parametrize('env_id', ENV_IDS)
def test_gymnasiums_checker_has_no_warning(env_id):
    env = gymnasium.make(env_id)
    check_env(env.unwrapped)
    env.close()


def test_a_fresh_process_finds_the_environments():
    code = (
        "import gymnasium; env = gymnasium.make('il_robot.sim:il_robot/TransferCube-v0');"
        'env.reset(seed=0); print(env.spec.id)'
    )
    done = subprocess.run(
        [sys.executable, '-W', 'error', '-c', code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == 'il_robot/TransferCube-v0', done.stderr
    assert not done.stderr


def test_registering_twice_is_harmless():
    before = set(gymnasium.registry)
    register_envs()
    assert set(gymnasium.registry) == before >= set(ENV_IDS)


@pytest.mark.parametrize('mode', ['sync', 'async'])
def test_vectorised_environments_are_the_single_ones_side_by_side(mode):
    envs = gymnasium.make_vec('il_robot/LiftTray-v0', num_envs=2, vectorization_mode=mode)
    single = make('lift_tray', normalized_actions=True)
    obs, _ = envs.reset(seed=[3, 4])
    envs.action_space.seed(0)
    actions = envs.action_space.sample()
    assert actions.shape == (2, single.robot.dim)
    obs, reward, terminated, truncated, info = envs.step(actions)
    for i, seed in enumerate((3, 4)):
        single.reset(seed=seed)
        expected = single.step(actions[i])[0]
        np.testing.assert_array_equal(obs['state'][i], expected['state'])
        np.testing.assert_array_equal(obs['objects']['ball'][i], expected['objects']['ball'])
    assert reward.shape == terminated.shape == truncated.shape == info['success'].shape == (2,)
    envs.close()
    single.close()


@pytest.mark.parametrize('env', ENV_IDS.values(), indirect=True)
def test_normalised_actions_are_the_same_commands(env):
    scaled = make(env.task.name, normalized_actions=True)
    env.reset(seed=1)
    scaled.reset(seed=1)
    for _ in range(3):
        position = env.expert().position
        action = scaled.to_action(position)
        assert action in scaled.action_space
        np.testing.assert_allclose(scaled.from_action(action), position, atol=1e-6)
        env.step(position)
        scaled.step(action)
        np.testing.assert_allclose(env.executed, scaled.executed, atol=1e-6)
    np.testing.assert_allclose(scaled.from_action(scaled.action_space.high), env.robot.upper)
    np.testing.assert_array_equal(env.to_action(position), env.from_action(position))
    scaled.close()


@TASKS
def test_spaces_contain_every_observation_of_a_disturbed_episode(task):
    env = make(task, disturbances=EVERYTHING, cameras=('overhead',), image_size=(32, 24))
    obs, _ = env.reset(seed=7)
    for i in range(150):
        assert obs in env.observation_space
        if i >= 30:  # pictures are slow where there is no GPU
            env.cameras = ()
            obs.pop('images', None)
        action = env.expert().position
        assert action in env.action_space
        obs, _, terminated, truncated, _ = env.step(action)
        if i >= 30:
            obs['images'] = {'overhead': np.zeros((24, 32, 3), np.uint8)}
        if terminated or truncated:
            break
    env.close()


# -- pictures -------------------------------------------------------------------------------
def test_pictures_by_name_and_in_the_size_asked_for():
    env = make('transfer_cube', cameras=('overhead', 'wrist_left'), image_size=(40, 30),
               render_mode='rgb_array')
    obs, _ = env.reset(seed=0)
    assert list(obs['images']) == ['overhead', 'wrist_left']
    for image in obs['images'].values():
        assert image.shape == (30, 40, 3) and image.dtype == np.uint8 and image.std() > 5
    assert not np.array_equal(*obs['images'].values())
    assert env.render().shape == (30, 40, 3)
    env.close()


def test_without_cameras_nothing_is_rendered(env):
    obs, _ = env.reset(seed=0)
    assert list(obs) == ['state', 'objects'] and env._renderer is None


def test_a_window_is_offered_only_where_there_is_a_display(monkeypatch):
    monkeypatch.setattr(bullet, 'display_available', lambda: False)
    with pytest.raises(SimulationError, match='display'):
        make('transfer_cube', render_mode='human')
    env = make('transfer_cube')
    assert env.metadata['render_modes'] == ['rgb_array']
    env.close()


# -- determinism ----------------------------------------------------------------------------
@TASKS
def test_a_seed_gives_the_same_bits_after_other_episodes_and_in_a_fresh_world(task):
    env = make(task, disturbances=EVERYTHING, expert_variation=1.0)
    first = rollout(env, 5)
    rollout(env, 6, n=70)  # left with a part in the hand
    assert same(first, rollout(env, 5))
    fresh = make(task, disturbances=EVERYTHING, expert_variation=1.0)
    assert same(first, rollout(fresh, 5))
    assert not same(first, rollout(fresh, 6))
    env.close()
    fresh.close()


def test_without_a_seed_the_next_is_drawn_from_the_first(env):
    _, a = env.reset(seed=3)
    obs_b, b = env.reset()
    _, c = env.reset()
    assert a['seed'] == 3 and len({3, b['seed'], c['seed']}) == 3
    env.reset(seed=3)
    again, info = env.reset()
    assert info['seed'] == b['seed']
    np.testing.assert_array_equal(again['objects']['cube'], obs_b['objects']['cube'])
    alone, _ = env.reset(seed=b['seed'])
    np.testing.assert_array_equal(alone['objects']['cube'], obs_b['objects']['cube'])


# -- reward, terminated, truncated, success -------------------------------------------------
@pytest.mark.parametrize('env', ENV_IDS.values(), indirect=True)
def test_success_terminates_and_the_rewards_add_up_to_the_stage(env):
    _, info = env.reset(seed=0)
    total, held, last = 0.0, 0, len(env.task.stages) - 1
    assert info == {'success': False, 'stage': 0, 'stage_name': 'start', 'seed': 0}
    while True:
        _, reward, terminated, truncated, info = env.step(env.expert().position)
        total += reward
        stage = env.task.stage(env.world)
        assert total == pytest.approx(stage / last)
        assert info['stage'] >= stage and info['stage_name'] == env.task.stages[info['stage']]
        held = held + 1 if stage == last else 0
        assert info['success'] == terminated == (held >= HOLD_STEPS)
        assert not truncated
        if terminated:
            break
    assert total == pytest.approx(1.0)


@pytest.mark.parametrize('env, part', [
    ('transfer_cube', 'cube'), ('insert_peg', 'tube'), ('lift_tray', 'tray'),
    ('lift_tray', 'ball'),
], indirect=['env'])
def test_a_part_off_the_table_terminates_without_success(env, part):
    env.reset(seed=0)
    env.world.place(part, np.array([0.0, 0.7, 0.1]), np.array([0, 0, 0, 1.0]))
    for _ in range(30):
        _, reward, terminated, truncated, info = env.step(env.robot.rest)
        if terminated:
            break
    assert terminated and not truncated and not info['success']
    assert env.task.failed(env.world)


def test_the_time_limit_truncates(env):
    env.reset(seed=0)
    for tick in range(1, env.task.max_steps + 1):
        _, _, terminated, truncated, info = env.step(env.robot.rest)
        assert truncated == (tick == env.task.max_steps) and not terminated
    assert not info['success']


# -- actions --------------------------------------------------------------------------------
@pytest.mark.parametrize('normalized', [False, True])
@pytest.mark.parametrize('bad, message', [
    ('nan', 'NaN or infinity for left_shoulder, right_gripper'),
    ('shape', r'shape \(13,\), expected \(14,\)'),
    ('text', 'numbers'),
])
def test_a_bad_action_is_refused_and_nothing_moves(bad, message, normalized):
    env = make('transfer_cube', normalized_actions=normalized)
    env.reset(seed=0)
    action = env.action_space.sample()
    if bad == 'nan':
        action[[env.robot.index('left_shoulder'), env.robot.index('right_gripper')]] = np.nan
    before = env.world.state().tobytes(), env.world.pose('cube').tobytes(), env.observation()
    with pytest.raises(ActionError, match=message):
        env.step({'nan': action, 'shape': action[:-1], 'text': ['a'] * 14}[bad])
    assert before == (
        env.world.state().tobytes(), env.world.pose('cube').tobytes(), env.observation())
    env.close()


def test_an_action_outside_the_limits_is_clipped(env):
    env.reset(seed=0)
    env.step(env.robot.rest + np.float32(100))
    np.testing.assert_array_equal(env.executed, env.robot.upper)
    env.step(env.robot.rest - np.float32(100))
    np.testing.assert_array_equal(env.executed, env.robot.lower)


@pytest.mark.parametrize('normalized', [False, True])
def test_holding_is_the_last_command_again(normalized):
    held, told = (make('transfer_cube', normalized_actions=normalized) for _ in range(2))
    for env in (held, told):
        env.reset(seed=0)
    start = told.to_action(told.world.target)
    action = told.to_action(told.expert().position)
    held.hold(), told.step(start)
    held.step(action), told.step(action)
    held.hold(), told.step(action)
    np.testing.assert_array_equal(held.world.state(), told.world.state())
    held.close()
    told.close()


# -- errors ---------------------------------------------------------------------------------
@pytest.mark.parametrize('arguments, message', [
    ({'task': 'transfer_cub'}, "unknown task 'transfer_cub'.*did you mean 'transfer_cube'"),
    ({'width': 'wid'}, "unknown reset width 'wid'.*did you mean 'wide'.*narrow, nominal, wide"),
    ({'render_mode': 'rgb'}, "unknown render mode 'rgb'.*human, rgb_array"),
    ({'disturbances': {'shove': 1}}, "disturbances.*unknown key|unknown key 'shove'"),
    ({'disturbances': {'shoves': -1}}, 'shoves must be >= 0'),
    ({'disturbances': {'shoves': 1.5}}, 'shoves must be int'),
    ({'task_options': {'clearence': 0.1}}, "unknown key 'clearence'"),
    ({'task': 'insert_peg', 'task_options': {'clearance': 0.02}}, '0.001 to 0.010'),
    ({'task_options': {'size': 0.2}}, '0.02 to 0.06'),
    ({'image_size': (0, 10)}, 'image_size'),
    ({'cameras': ('fronts',)}, "unknown camera 'fronts'.*did you mean 'front'"),
])
def test_a_wrong_argument_is_told_with_the_right_ones(arguments, message):
    with pytest.raises(ConfigError, match=message):
        make(**{'task': 'transfer_cube', **arguments})


def test_closing_twice_is_harmless(env):
    env.close()
    env.close()
