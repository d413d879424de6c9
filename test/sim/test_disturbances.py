import numpy as np
import pytest

from il_robot.sim import make
from il_robot.sim.bullet import p
from il_robot.sim.disturbances import (
    BURST_TICKS,
    DROP_TICKS,
    EVENT_WINDOW,
    NOISE_CORRELATION,
    Disturbances,
    correlated,
    event_ticks,
    factor,
)


@pytest.fixture
def disturbed():
    envs = []

    def build(task='transfer_cube', **disturbances):
        envs.append(make(task, disturbances=disturbances))
        envs[-1].reset(seed=1)
        return envs[-1]

    yield build
    for env in envs:
        env.close()


def play(env, n, action=None):
    """Executed actions ``(n, D)`` while one action is commanded."""
    action = env.robot.rest if action is None else action
    rows = []
    for _ in range(n):
        env.step(action)
        rows.append(env.executed)
    return np.array(rows)


# -- what they are made of ------------------------------------------------------------------
def test_events_happen_at_distinct_ticks_of_the_window():
    rng = np.random.default_rng(0)
    seen = set()
    for count in (0, 1, 5, 100):
        ticks = event_ticks(rng, count)
        assert len(ticks) == count
        seen |= ticks
    assert seen == set(range(*EVENT_WINDOW))


def test_factors_are_log_uniform_around_one():
    rng = np.random.default_rng(0)
    values = np.array([factor(rng, 0.5) for _ in range(4000)])
    assert values.min() >= 1 / 1.5 and values.max() <= 1.5
    assert np.median(values) == pytest.approx(1.0, abs=0.02)
    assert np.log(values).std() == pytest.approx(np.log(1.5) / np.sqrt(3), rel=0.05)
    assert factor(rng, 0.0) == 1.0


def test_action_noise_has_its_deviation_and_its_memory():
    rng, x, rows = np.random.default_rng(0), np.zeros(400), []
    sigma = np.full(400, 0.02)
    for _ in range(300):
        x = correlated(rng, x, sigma)
        rows.append(x)
    late = np.array(rows[50:])
    assert late.std() == pytest.approx(0.02, rel=0.03)
    assert np.corrcoef(late[:-1].ravel(), late[1:].ravel())[0, 1] == pytest.approx(
        NOISE_CORRELATION, abs=0.02)


@pytest.mark.parametrize('name, value', [
    ('shoves', -1), ('action_noise', -0.1), ('drops', -2), ('mass_scale', float('nan')),
    ('shoves', 101), ('drops', 101), ('noise_share', 1.1),
])
def test_impossible_values_are_refused_by_name(name, value):
    with pytest.raises(ValueError, match=name):
        Disturbances(**{name: value})


# -- what they do ---------------------------------------------------------------------------
def test_off_by_default():
    strengths = ('shove_speed', 'noise_share')  # of what is off
    assert all(v == 0 for k, v in vars(Disturbances()).items() if k not in strengths)


def test_with_none_the_executed_action_is_the_command(disturbed):
    env = disturbed()
    action = env.robot.rest + np.float32(0.01)
    np.testing.assert_array_equal(play(env, 3, action)[-1], np.clip(
        action, env.robot.lower, env.robot.upper))
    np.testing.assert_array_equal(env.observation().state, env.world.state())


@pytest.mark.parametrize('disturbance', [
    {'shoves': 3}, {'action_noise': 0.01}, {'action_delay': 2}, {'observation_noise': 0.01},
    {'friction_scale': 0.3}, {'mass_scale': 0.3}, {'start_posture': 0.2}, {'drops': 2},
    {'camera_jitter': 0.02},
], ids=lambda d: next(iter(d)))
def test_one_disturbance_does_not_move_where_the_parts_start(disturbed, disturbance):
    calm, env = disturbed('insert_peg'), disturbed('insert_peg', **disturbance)
    for seed in (2, 3):
        calm.reset(seed=seed)
        env.reset(seed=seed)
        for name in env.task.objects:
            np.testing.assert_allclose(
                env.world.pose(name), calm.world.pose(name), atol=1e-3)


def test_shoves_push_a_part_as_often_and_as_hard_as_told(disturbed):
    env = disturbed(shoves=3, shove_speed=0.5)
    for seed in range(3):
        env.reset(seed=seed)
        last, jumps = 0.0, 0
        for _ in range(EVENT_WINDOW[1] + 1):
            before = env.world.pose('cube')[:2]
            env.step(env.robot.rest)
            speed = np.linalg.norm(env.world.pose('cube')[:2] - before) * env.robot.rates.control
            if speed > last + 0.1:
                jumps += 1
                assert speed < 0.5 + last
            last = speed
        assert 1 <= jumps <= 3


def test_noise_comes_in_bursts_as_often_as_told(disturbed):
    env = disturbed(action_noise=0.02, noise_share=0.3)
    loud = []
    for seed in range(4):
        env.reset(seed=seed)
        noise = (play(env, 300) - env.robot.rest)[:, :6].std(1)
        bursts = noise.reshape(-1, BURST_TICKS)[:, 15:].mean(1)  # when the last one has faded
        assert ((bursts > 0.01) | (bursts < 0.003)).all()
        loud += list(bursts > 0.01)
    assert np.mean(loud) == pytest.approx(0.3, abs=0.15)


def test_action_noise_is_on_the_executed_action_of_every_joint(disturbed):
    env = disturbed(action_noise=0.02)
    noise = play(env, 200) - env.robot.rest
    joints = np.array(['gripper' not in name for name in env.robot.joint_names])
    assert noise[20:, joints].std() == pytest.approx(0.02, rel=0.15)
    assert noise.max() <= 0.2 and (noise[:, ~joints] <= 0).all(), 'inside the limits'


def test_delayed_actions_come_later_and_unchanged(disturbed):
    env = disturbed(action_delay=3)
    start = env.world.target.copy()
    actions = [env.robot.rest + np.float32(0.01 * i) * (env.robot.rest < 0.05) for i in range(6)]
    executed = []
    for action in actions:
        env.step(action)
        executed.append(env.executed)
    np.testing.assert_array_equal(executed[:3], [start] * 3)
    np.testing.assert_array_equal(executed[3:], actions[:3])


def test_observation_noise_is_on_what_is_seen_not_on_what_is(disturbed):
    env = disturbed(observation_noise=0.01)
    state, cube = [], []
    for _ in range(100):
        env.step(env.robot.rest)
        seen = env.observation()
        state.append(seen.state - env.world.state())
        cube.append(seen.objects['cube'] - env.world.pose('cube'))
    assert np.std(state) == pytest.approx(0.01, rel=0.1)
    assert np.std(np.array(cube)[:, :3]) == pytest.approx(0.01, rel=0.2)
    assert not np.array(cube)[:, 3:].any(), 'rotations are seen as they are'
    calm = disturbed()
    env.reset(seed=5), calm.reset(seed=5)
    play(env, 20), play(calm, 20)
    np.testing.assert_array_equal(env.world.state(), calm.world.state())


def test_mass_and_friction_are_scaled_around_their_nominal_values(disturbed):
    env = disturbed(mass_scale=0.5, friction_scale=0.25)

    def dynamics():
        part = env.world.parts['cube']
        row = p.getDynamicsInfo(part.body, -1, physicsClientId=env.world.client)
        return row[0] / part.mass, row[1] / part.friction

    seen = []
    for seed in range(30):
        env.reset(seed=seed)
        seen.append(dynamics())
    mass, friction = np.array(seen).T
    assert mass.min() >= 1 / 1.5 and mass.max() <= 1.5 and mass.std() > 0.1
    assert friction.min() >= 1 / 1.25 and friction.max() <= 1.25 and friction.std() > 0.05
    env.reset(seed=3)
    assert dynamics() == seen[3]


def test_the_start_posture_is_spread_but_not_the_grippers(disturbed):
    env = disturbed(start_posture=0.2)
    joints = np.array(['gripper' not in name for name in env.robot.joint_names])
    offsets = []
    for seed in range(20):
        env.reset(seed=seed)
        offsets.append(env.world.state() - env.robot.rest)
    assert np.array(offsets)[:, joints].std() == pytest.approx(0.2, rel=0.2)
    np.testing.assert_allclose(np.array(offsets)[:, ~joints], 0, atol=1e-3)


def test_a_drop_opens_both_grippers_for_its_ticks(disturbed):
    env = disturbed(drops=1)
    grippers = [i for i, n in enumerate(env.robot.joint_names) if 'gripper' in n]
    closed = env.robot.rest.copy()
    closed[grippers] = 0.0
    forced = (play(env, EVENT_WINDOW[1] + DROP_TICKS, closed)[:, grippers] > 0).all(axis=1)
    assert forced.sum() == DROP_TICKS
    assert np.diff(np.flatnonzero(forced)).max() == 1, 'one after the other'


def test_camera_jitter_moves_the_picture_from_episode_to_episode():
    pictures = []
    for jitter, seed in ((0.0, 1), (0.03, 1), (0.03, 1), (0.03, 2)):
        env = make('transfer_cube', cameras=('overhead',), image_size=(40, 30),
                   disturbances={'camera_jitter': jitter})
        obs, _ = env.reset(seed=seed)
        pictures.append(obs['images']['overhead'].astype(int))
        env.close()
    calm, one, again, other = pictures
    np.testing.assert_array_equal(one, again)
    assert np.abs(calm - one).mean() > 1 and np.abs(one - other).mean() > 1
