import numpy as np
import torch
import toy

from il_robot.algorithms import bc, preparation
from il_robot.algorithms.frames import Frames, load_frames
from il_robot.algorithms.recipe import make_recipe
from il_robot.policies.checkpoint import load_training_state
from il_robot.policies.observation import ObservationConfig

CPU = torch.device('cpu')


def pictures(rows, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (rows, 6, 8, 3), dtype=np.uint8)


def test_a_batch_is_the_rows_asked_for(tmp_path):
    """In memory or in a file, for windows of one observation or several."""
    shown = {'top': pictures(20), 'wrist': pictures(20, 1)}
    np.save(tmp_path / 'top.npy', shown['top'])
    mapped = {**shown, 'top': np.load(tmp_path / 'top.npy', mmap_mode='c')}
    marks = {'top': np.random.default_rng(2).normal(size=(20, 9, 3)).astype(np.float32)}
    rows = np.array([[3, 4], [0, 0], [19, 7]])
    for given in (shown, mapped):
        batch = Frames(given, CPU).with_marks(marks).batch(rows)
        assert set(batch) == {'images.top', 'images.wrist', 'marks.top'}
        for name, array in shown.items():
            found = batch[f'images.{name}']
            assert found.shape == (3, 2, 3, 6, 8) and found.dtype == torch.uint8
            np.testing.assert_array_equal(found.permute(0, 1, 3, 4, 2), array[rows])
        np.testing.assert_array_equal(batch['marks.top'], marks['top'][rows])
    assert 'marks.top' not in Frames(shown, CPU).batch(rows)


def test_a_resumed_run_sees_what_an_uninterrupted_one_sees(monkeypatch, tmp_path):
    """Crops and colours are drawn by the generator that is saved."""
    dataset = toy.toy_dataset(3)
    monkeypatch.setattr(preparation, 'check_cameras', lambda *_: {'top': (16, 20)})
    monkeypatch.setattr(
        'il_robot.algorithms.frames.cached_frames',
        lambda *_: np.random.default_rng(0).integers(
            0, 256, (len(dataset), 16, 20, 3), dtype=np.uint8))
    recipe = make_recipe({
        'policy': 'mlp', 'model': {'hidden': [8]},
        'training': {'steps': 6, 'batch_size': 4, 'device': 'cpu', 'threads': 1},
        'observation': {
            'cameras': ['top'], 'objects': [], 'image_size': [16, 20],
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
