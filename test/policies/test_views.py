from dataclasses import replace

import numpy as np
import pytest

import il_robot.sim as sim
from il_robot.errors import SpecError
from il_robot.policies.features import robot_hands
from il_robot.policies.views import NEAREST, project, robot_views

ROBOT = sim.default_robot()
HANDS = robot_hands(ROBOT)


def test_the_cube_is_drawn_where_its_middle_is_projected():
    """From above and from both wrists, at rest and with both arms somewhere else."""
    cameras = ['overhead', 'wrist_left', 'wrist_right']
    views = robot_views(ROBOT, cameras, HANDS)
    env = sim.make('transfer_cube', cameras=cameras, image_size=[160, 120])
    env.reset(seed=3)
    for _ in range(2):
        observation = env.observation()
        middle = observation.objects['cube'][None, None, :3].astype(np.float64)
        for name in cameras:
            frames = views[name].frames(observation.state[None])
            image, depth = project(middle, frames, views[name].focal)
            picture = observation.images[name].astype(float)
            red = (picture[..., 0] > 100) & (picture[..., 1:].max(-1) < 70)
            assert red.sum() > 4 and depth[0, 0] > NEAREST
            found = np.argwhere(red).mean(0)[::-1] + 0.5  # x, y [px]
            expected = image[0, 0] * 60 + np.array([80, 60])
            assert np.abs(found - expected).max() < 3, name
        for _ in range(15):
            env.step(env.unwrapped.expert().position)
    env.close()


def test_a_camera_of_the_base_does_not_move():
    view = robot_views(ROBOT, ['overhead'], HANDS)['overhead']
    states = np.stack([ROBOT.rest, ROBOT.rest + 0.3]).astype(np.float32)
    rotation, position = view.frames(states)
    assert np.array_equal(rotation[0], rotation[1]) and np.array_equal(position[0], position[1])
    np.testing.assert_allclose(rotation[0] @ rotation[0].T, np.eye(3), atol=1e-12)


def test_cameras_whose_place_is_not_known_are_named():
    with pytest.raises(SpecError, match='unknown camera.*overhead'):
        robot_views(ROBOT, ['overheat'], HANDS)
    with pytest.raises(SpecError, match='unknown camera'):
        robot_views(None, ['overhead'], {})
    for parent, hands in (('left_elbow', HANDS), ('left_hand', {})):
        own = replace(ROBOT, cameras=(replace(ROBOT.cameras[0], parent=parent),))
        with pytest.raises(SpecError, match=f'fixed to {parent}'):
            robot_views(own, [ROBOT.cameras[0].name], hands)
