import numpy as np
import pytest

import il_robot.sim as sim
from il_robot.errors import ConfigError
from il_robot.sim.camera_process import encode_jpeg
from il_robot.sim.camera_stream import CameraStream
from il_robot.sim.disturbances import Disturbances
from il_robot.sim.live import LiveWorld, WorldSettings


@pytest.fixture
def world():
    made = LiveWorld(sim.default_robot(), WorldSettings(), image_size=(64, 48))
    made.begin(3)
    yield made
    made.close()


def test_it_goes_on_after_success_which_stays_true(world):
    assert world.status == {
        'episode': 1, 'seed': 3, 'task': 'transfer_cube', 'language': world.env.task.language,
        'objects': 'cube', 'stage': 0, 'stage_name': 'start', 'success': False,
        'terminated': False, 'truncated': False}
    while not world.status['terminated']:
        world.tick(world.env.expert().position)
    assert world.status['success'] and world.status['stage_name'] == 'transferred'
    for _ in range(30):  # and lets it fall
        world.tick(world.env.robot.upper)
    assert world.status['success'] and world.status['terminated']
    world.begin(4)
    assert world.status['episode'] == 2 and not world.status['success']


def test_every_state_has_a_tick_of_its_own(world):
    seen = [world.ticks]
    world.tick(None)
    seen.append(world.ticks)
    world.begin(3)
    seen.append(world.ticks)
    assert seen == [0, 1, 2]


def test_holding_keeps_the_last_targets(world):
    goal = world.env.robot.rest.copy()
    goal[0] += 0.3
    world.tick(goal)
    for _ in range(100):
        world.tick(None)
    assert world.env.observation().state[0] == pytest.approx(goal[0], abs=0.02)


def test_another_world_replaces_this_one(world):
    settings = WorldSettings.parse(
        'lift_tray', [''], 'wide', ['shoves=2', 'shove_speed=0.3'])
    assert settings.disturbances == Disturbances(shoves=2, shove_speed=0.3)
    world.replace(world.make_env(settings), settings)
    world.begin(0)
    assert world.status['task'] == 'lift_tray' and world.status['episode'] == 2


@pytest.mark.parametrize(('arguments', 'words'), [
    (('lift_try', [], 'nominal', []), 'lift_tray'),
    (('transfer_cube', ['sise=0.04'], 'nominal', []), 'size'),
    (('transfer_cube', ['size'], 'nominal', []), 'KEY=VALUE'),
    (('transfer_cube', [], 'huge', []), 'wide'),
    (('transfer_cube', [], 'nominal', ['shoves=-1']), '>= 0'),
])
def test_wrong_settings_are_refused_with_what_is_right(arguments, words):
    with pytest.raises(ConfigError, match=words):
        WorldSettings.parse(*arguments)


def test_the_camera_process_draws_what_the_environment_draws(world):
    pictures, errors = {}, []
    cameras = [world.env.robot.camera(name) for name in ('front', 'wrist_right')]
    stream = CameraStream(
        world.env, cameras, rgb=True, jpeg=True,
        on_pictures=lambda stamp, new, duration: pictures.update({stamp: new}),
        on_error=errors.append)
    try:
        env = sim.make('transfer_cube', cameras=[c.name for c in cameras], image_size=(64, 48))
        env.reset(seed=3)
        for stamp in (0.0, 1.0):
            stream.show(stamp, wait=True)
            images = env.observation().images
            for name, picture in pictures[stamp].items():
                assert np.array_equal(picture.rgb, images[name])
                assert picture.jpeg == encode_jpeg(images[name])
            for _ in range(20):
                action = env.expert().position
                env.step(action)
                world.tick(action)
        stream._process._process.kill()  # as a crash
        stream.show(2.0, wait=True)
        assert 'died' in errors[0] and 2.0 not in pictures
        stream.show(3.0, wait=True)
        assert 3.0 in pictures
        settings = WorldSettings('lift_tray')
        tray = world.make_env(settings)
        stream.replace(tray)
        world.replace(tray, settings)
        world.begin(0)
        stream.show(4.0, wait=True)
        assert 4.0 in pictures and len(errors) == 1
    finally:
        stream.close()
        stream.close()
