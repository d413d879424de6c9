import numpy as np
import pytest
import torch
import toy

from il_robot.algorithms import bc
from il_robot.algorithms.frames import Frames, load_frames, pose_targets
from il_robot.algorithms.recipe import make_recipe
from il_robot.config import build
from il_robot.errors import DatasetError
from il_robot.policies.checkpoint import load_training_state
from il_robot.policies.observation import ObservationConfig
from il_robot.rotations import rotation_6d

CPU = torch.device('cpu')


def pictures(rows, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (rows, 6, 8, 3), dtype=np.uint8)


def test_a_batch_is_the_rows_asked_for(tmp_path):
    """In memory or in a file, for windows of one observation or several."""
    shown = {'top': pictures(20), 'wrist': pictures(20, 1)}
    np.save(tmp_path / 'top.npy', shown['top'])
    mapped = {**shown, 'top': np.load(tmp_path / 'top.npy', mmap_mode='c')}
    poses = np.random.default_rng(2).normal(size=(20, 9)).astype(np.float32)
    rows = np.array([[3, 4], [0, 0], [19, 7]])
    for given in (shown, mapped):
        batch = Frames(given, CPU, poses).batch(rows)
        assert set(batch) == {'images.top', 'images.wrist', 'poses'}
        for name, array in shown.items():
            found = batch[f'images.{name}']
            assert found.shape == (3, 2, 3, 6, 8) and found.dtype == torch.uint8
            np.testing.assert_array_equal(found.permute(0, 1, 3, 4, 2), array[rows])
        np.testing.assert_array_equal(batch['poses'], poses[rows])
    assert 'poses' not in Frames(shown, CPU).batch(rows)


def test_a_resumed_run_sees_what_an_uninterrupted_one_sees(monkeypatch, tmp_path):
    """Crops and colours are drawn by the generator that is saved."""
    dataset = toy.toy_dataset(3)
    monkeypatch.setattr(bc, 'check_cameras', lambda *_: {'top': (16, 20)})
    monkeypatch.setattr(
        'il_robot.algorithms.frames.cached_frames',
        lambda *_: np.random.default_rng(0).integers(
            0, 256, (len(dataset), 16, 20, 3), dtype=np.uint8))
    recipe = make_recipe({
        'policy': 'mlp', 'model': {'hidden': [8]},
        'training': {'steps': 6, 'batch_size': 4, 'device': 'cpu', 'threads': 1},
        'observation': {
            'cameras': ['top'], 'objects': [], 'estimate': ['ball'], 'image_size': [16, 20],
            'encoder': {'widths': [4, 4], 'keypoints': 3, 'crop': 0.8, 'jitter': 0.3}}})
    straight = bc.train(dataset, recipe, tmp_path / 'a')
    left = iter([False] * 3)
    bc.train(dataset, recipe, tmp_path / 'b', should_stop=lambda: next(left, True))
    resumed = bc.train(dataset, recipe, tmp_path / 'b', resume=True)
    first, second = (load_training_state(r.checkpoint) for r in (straight, resumed))
    assert first.keys() == second.keys() and resumed.step == 6
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_without_cameras_there_is_nothing_to_load(tmp_path):
    assert load_frames(toy.toy_dataset(1), ObservationConfig(), CPU, tmp_path) is None


def test_poses_to_estimate_are_position_and_rotation_of_deviation_1(monkeypatch, tmp_path):
    dataset = toy.toy_dataset(3)
    monkeypatch.setattr(
        'il_robot.algorithms.frames.cached_frames', lambda *_: pictures(len(dataset)))
    seen = build(ObservationConfig, {'cameras': ['top'], 'estimate': ['ball']})
    frames = load_frames(dataset, seen, CPU, tmp_path, pose_targets(dataset, seen.estimate))
    poses = frames.batch(np.arange(len(dataset))[:, None])['poses'][:, 0].numpy()
    ball = dataset.objects[:, 0]
    raw = np.c_[ball[:, :3], rotation_6d(ball[:, 3:])]
    np.testing.assert_allclose(poses.mean(0), 0, atol=1e-4)
    np.testing.assert_allclose(poses[:, :2].std(0), 1, atol=1e-4)
    np.testing.assert_allclose(
        np.corrcoef(poses[:, 0], raw[:, 0])[0, 1], 1.0, atol=1e-6)
    with pytest.raises(DatasetError, match='did you mean .ball.*observation.estimate'):
        pose_targets(dataset, ['bell'])
    assert pose_targets(dataset, []) is None
