"""Record, train and evaluate with cameras, on the real simulation but tiny."""

import argparse
import json
from dataclasses import replace

import numpy as np
import pytest

import il_robot.sim as sim
from il_robot.apps import evaluate, export, record, train
from il_robot.checkpoints import camera_arguments, find_checkpoint
from il_robot.data.dataset import open_dataset
from il_robot.data.frames import cached_frames
from il_robot.data.pictures import resized
from il_robot.errors import CheckpointError, ConfigError, DatasetError
from il_robot.policies.checkpoint import load_checkpoint, read_description
from il_robot.policies.estimator import EstimatingPolicy
from il_robot.policies.observation import ImagePolicy
from il_robot.policies.runner import PolicyRunner

CAMERAS, SIZE = ('overhead', 'wrist_right'), (24, 32)
TINY = ('--policy', 'chunk_mlp', '--steps', 3, '--set', 'model.hidden=[32]', '--set',
        'training.device=cpu', '--set', 'training.batch_size=8', '--set',
        'observation.image_size=[24,32]', '--set', 'observation.objects=[]')


def call(module, *words):
    parser = argparse.ArgumentParser()
    module.add_parser(parser.add_subparsers())
    args = parser.parse_args([module.__name__.rpartition('.')[2], *map(str, words)])
    return args.run(args)


def train_on(folder, output, cameras=CAMERAS, *words):
    return call(train, '--dataset', folder / 'data', '--output', output, *TINY,
                '--set', f'observation.cameras=[{",".join(cameras)}]', *words)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Two filmed demonstrations and a policy trained on them for a moment."""
    path = tmp_path_factory.mktemp('images')
    assert call(record, '--expert', '--episodes', 2, '--cameras', *CAMERAS, '--image-size',
                '64x48', '--noise', 0, '--output', path / 'data') == 0
    assert train_on(path, path / 'run') == 0
    return path


def test_training_needs_no_objects_and_decodes_once(folder, tmp_path, capsys):
    checkpoint, policy = load_checkpoint(folder / 'run')
    assert isinstance(policy, ImagePolicy) and checkpoint.observation.cameras == CAMERAS
    assert checkpoint.layout.objects == () and checkpoint.recorded == dict.fromkeys(
        CAMERAS, (48, 64))
    capsys.readouterr()
    assert train_on(folder, tmp_path / 'again') == 0
    assert 'decoding' not in capsys.readouterr().out
    weights = [(r / 'checkpoints/step_00000003/model.safetensors').read_bytes()
               for r in (folder / 'run', tmp_path / 'again')]
    assert weights[0] == weights[1]


def test_the_pictures_of_an_evaluation_are_those_of_the_dataset(folder):
    """Drawn, sized and made smaller alike; a video differs by its compression only."""
    dataset = open_dataset(folder / 'data')
    checkpoint = read_description(find_checkpoint(folder / 'run'))
    arguments = camera_arguments(checkpoint.recorded, checkpoint.robot)
    assert arguments == {'cameras': list(CAMERAS), 'image_size': [64, 48]}
    env = sim.make('transfer_cube', **arguments)
    episode = dataset.episodes[0]
    env.reset(seed=episode.seed)
    for k in range(30):
        images = env.observation().images
        for camera in CAMERAS:
            cached = cached_frames(dataset, camera, SIZE, folder)[episode.start + k]
            difference = np.abs(cached.astype(float) - resized(images[camera], SIZE))
            assert difference.mean() < 4
        env.step(dataset.action[episode.start + k])
    env.close()


def test_evaluate_draws_what_the_policy_sees(folder):
    output = folder / 'report.json'
    assert call(evaluate, '--policy', folder / 'run', '--episodes', 1, '--workers', 1, '--output',
                output, '--execution', 'mode=newest', '--execution', 'n_action_steps=20') == 0
    settings = json.loads(output.read_text())['settings']
    assert settings['cameras'] == list(CAMERAS) and settings['image_size'] == [64, 48]


@pytest.mark.parametrize(('words', 'error', 'message'), [
    (['--set', 'observation.cameras=[nose]'], DatasetError, 'unknown camera.*overhead'),
    (['--set', 'observation.image_size=[96,128]'], DatasetError, 'grow'),
    (['--set', 'observation.image_size=[24,24]'], DatasetError, 'distorted'),
    (['--set', 'observation.objects=[ball]'], DatasetError, 'unknown object.*cube'),
    (['--set', 'observation.estimate=[ball]', '--set', 'observation.objects=null'],
     DatasetError, 'unknown object.*cube'),
    (['--set', 'observation.encoder.output=map'], ConfigError, 'for policy act'),
    (['--set', 'observation.encoder.network=vgg'], ConfigError, 'resnet18'),
    (['--set', 'observation.encoder.network=resnet18', '--set',
      'observation.encoder.pretrained=no.pth'], ConfigError, 'image_size|no file'),
])
def test_what_cannot_be_seen_is_told_and_nothing_written(folder, tmp_path, words, error, message):
    with pytest.raises(error, match=message):
        train_on(folder, tmp_path / 'x', CAMERAS, *words)
    assert not (tmp_path / 'x').exists()


def test_cameras_of_different_sizes_need_those_of_the_robot():
    robot = sim.default_robot()
    own = replace(robot, cameras=tuple(
        replace(c, width=320, height=240) if c.name == 'front' else c for c in robot.cameras))
    recorded = {'front': (240, 320), 'overhead': (480, 640)}
    assert camera_arguments(recorded, own) == {'cameras': ['front', 'overhead']}
    assert camera_arguments({}, robot) == {}
    with pytest.raises(ConfigError, match='different sizes'):
        camera_arguments(recorded, robot)


def test_training_tries_checkpoints_from_what_they_see(folder, tmp_path):
    assert train_on(folder, tmp_path / 'run', CAMERAS, '--evaluate', 3, '--workers', 1, '--set',
                    'training.evaluate_episodes=1', '--set', 'execution.mode=newest', '--set',
                    'execution.n_action_steps=20') == 0
    trial = json.loads((tmp_path / 'run/run.json').read_text())['trial']
    assert trial['cameras'] == list(CAMERAS) and trial['image_size'] == [64, 48]


def test_estimated_poses_take_the_place_of_known_ones(folder, tmp_path):
    """Two stages in one command; running, the environment's own poses are not looked at."""
    assert train_on(
        folder, tmp_path / 'run', CAMERAS, '--set', 'observation.objects=null', '--set',
        'observation.estimate=[cube]', '--set', 'observation.estimator.steps=4', '--set',
        'observation.estimator.widths=[4,4]') == 0
    checkpoint, policy = load_checkpoint(tmp_path / 'run')
    assert isinstance(policy, EstimatingPolicy) and checkpoint.given == ()
    assert checkpoint.layout.objects == ('cube',)
    with pytest.raises(CheckpointError, match='looks at cameras .overhead, wrist_right'):
        call(export, '--onnx', tmp_path / 'run', '--output', tmp_path / 'policy.onnx')
    env = sim.make('transfer_cube', **camera_arguments(checkpoint.recorded, checkpoint.robot))
    env.reset(seed=5)
    seen = env.observation()
    runner = PolicyRunner(checkpoint, policy, checkpoint.robot)
    answers = []
    for objects in ({}, seen.objects):
        runner.reset(np.random.default_rng(0))
        runner.observe(replace(seen, objects=objects))
        answers.append(runner.predict().positions)
    dark = {name: 0 * picture for name, picture in seen.images.items()}
    runner.reset(np.random.default_rng(0))
    runner.observe(replace(seen, images=dark))
    env.close()
    assert np.array_equal(*answers) and not np.array_equal(answers[0], runner.predict().positions)
