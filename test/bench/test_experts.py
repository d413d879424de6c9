import numpy as np
import pytest

from il_robot.bench.application import Application, MakeFlat, Teacher, drive

HERE = 'il_robot.bench.experts'
NEEDS = {'lunar_lander': 'Box2D', 'lane_keeping': 'highway_env', 'drone': 'PyFlyt',
         'point_maze': 'gymnasium_robotics'}
SOLVED = {  # score that counts as mastered, over episodes
    'pendulum': (Application('Pendulum-v1', f'{HERE}:pendulum'), -300, 6),
    'cartpole': (Application('CartPole-v1', f'{HERE}:cartpole'), 475, 6),
    'lunar_lander': (Application('LunarLander-v3', f'{HERE}:lunar_lander'), 200, 6),
    'lane_keeping': (Application(
        'il_robot.bench.environments:lane_keeping', f'{HERE}:lane_keeping'), 190, 4),
    'drone': (Application('il_robot.bench.environments:drone', f'{HERE}:drone',
                          {'sparse_reward': True}, 'success'), 1, 3),
    'point_maze': (Application(
        'gymnasium_robotics:PointMaze_Medium-v3', f'{HERE}:point_maze',
        {'continuing_task': False, 'reset_target': False}, 'success'), 1, 8),
    'bimanual': (Application('il_robot.sim:il_robot/TransferCube-v0', f'{HERE}:bimanual',
                             score='success'), 1, 2),
}


@pytest.mark.filterwarnings('ignore')  # of the packages about themselves
@pytest.mark.parametrize('name', SOLVED)
def test_the_expert_masters_his_environment_and_chance_does_not(name):
    application, enough, episodes = SOLVED[name]
    if name in NEEDS:
        pytest.importorskip(NEEDS[name])
    env = MakeFlat(application)()
    try:
        teacher = Teacher(application, env)
        found = [drive(env, seed, teacher) for seed in range(episodes)]
        assert np.mean([e.score(application.score) for e in found]) >= enough
        assert len({e.obs[0].tobytes() for e in found}) == episodes  # they begin differently
        env.action_space.seed(0)
        chance = [drive(env, s, lambda _: env.action_space.sample()).score(application.score)
                  for s in range(episodes)]
        assert np.mean(chance) < 0.5 * enough if enough > 0 else np.mean(chance) < 2 * enough
    finally:
        env.close()
