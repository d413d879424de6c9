from dataclasses import replace

import numpy as np
import pytest
import torch
import toy

from il_robot.algorithms import bc, preparation
from il_robot.algorithms.estimation import recorded_poses
from il_robot.algorithms.recipe import make_recipe
from il_robot.algorithms.records import read_metrics
from il_robot.errors import DatasetError, SpecError
from il_robot.policies.checkpoint import load_checkpoint, load_training_state
from il_robot.policies.views import robot_views
from il_robot.spec import CameraSpec

CAMERA = CameraSpec('top', 'base', (0.0, 0.0, 5.0), (0.0, 0.0, 0.0), (0.0, 1.0, 0.0), 60.0, 80, 64)
ROBOT = replace(toy.SPEC, cameras=(CAMERA,))
SIZE = (64, 80)
FOCAL = 1 / np.tan(np.radians(30))


def film(ball):
    """Pictures from above of balls ``(N, 2)``: a bright square where each is."""
    rows, columns = np.indices(SIZE) + 0.5
    x = SIZE[1] / 2 + FOCAL * ball[:, 0] / 5.0 * SIZE[0] / 2
    y = SIZE[0] / 2 - FOCAL * ball[:, 1] / 5.0 * SIZE[0] / 2
    near = np.maximum(abs(columns - x[:, None, None]), abs(rows - y[:, None, None])) < 3
    return np.repeat((255 * near).astype(np.uint8)[..., None], 3, -1)


def filmed(monkeypatch, episodes=3, spec=ROBOT):
    dataset = toy.toy_dataset(episodes, spec=spec)
    pictures = film(dataset.objects[:, 0, :2])
    monkeypatch.setattr(preparation, 'check_cameras', lambda *_: {'top': SIZE})
    monkeypatch.setattr('il_robot.algorithms.frames.cached_frames', lambda *_: pictures)
    return dataset


def recipe(policy_steps=6, **estimator):
    return make_recipe({
        'policy': 'mlp', 'model': {'hidden': [8]},
        'training': {'steps': policy_steps, 'batch_size': 4, 'device': 'cpu', 'threads': 1,
                     'warmup_steps': 1, 'log_every': 2},
        'observation': {'cameras': ['top'], 'estimate': ['ball'], 'image_size': list(SIZE),
                        'estimator': {'widths': [4, 6, 6], 'steps': 5, 'batch_size': 3,
                                      'extent': 0.2, 'jitter': 0.0, **estimator}}})


@pytest.mark.parametrize('stop', [0, 3, 5, 7])
def test_a_run_stopped_in_either_stage_goes_on_with_the_same_bits(monkeypatch, tmp_path, stop):
    dataset = filmed(monkeypatch)
    straight = bc.train(dataset, recipe(), tmp_path / 'a')
    left = iter([False] * stop)
    stopped = bc.train(dataset, recipe(), tmp_path / 'b', should_stop=lambda: next(left, True))
    assert not stopped.finished and stopped.step == max(0, stop - 5)
    resumed = bc.train(dataset, recipe(), tmp_path / 'b', resume=True)
    first, second = (load_training_state(r.checkpoint) for r in (straight, resumed))
    assert first.keys() == second.keys() and resumed.step == 6
    differing = [key for key in first if not torch.equal(first[key], second[key])]
    assert not differing
    records = [[{k: v for k, v in r.items() if k != 'rate'} for r in read_metrics(
        tmp_path / run / 'estimator')] for run in 'ab']
    assert records[0][-1] == records[1][-1] and records[0][-1]['step'] == 5


def test_the_ball_is_found_where_no_demonstration_had_it(monkeypatch, tmp_path):
    """Four placements teach all others, and the joints do not matter."""
    dataset = filmed(monkeypatch, 4)
    result = bc.train(
        dataset, recipe(1, steps=400, batch_size=16, learning_rate=1e-2), tmp_path / 'a')
    estimator = load_checkpoint(result.checkpoint)[1].estimator
    ball = np.random.default_rng(0).uniform(-1.2, 1.2, (50, 2))
    pictures = torch.from_numpy(film(ball)).permute(0, 3, 1, 2)
    views = robot_views(ROBOT, ['top'], {})
    state = np.zeros((50, ROBOT.dim), np.float32)
    found = estimator.estimate({'top': pictures}, state, views)['ball']
    pixel = 5.0 / FOCAL / (SIZE[0] / 2)
    assert np.median(np.linalg.norm(found[:, :2] - ball, axis=1)) < pixel
    moved = estimator.estimate({'top': pictures}, state + 1, views)['ball']
    assert np.array_equal(found, moved)


def test_what_cannot_be_estimated_is_named(monkeypatch, tmp_path):
    dataset = filmed(monkeypatch)
    with pytest.raises(DatasetError, match='did you mean .ball.*observation.estimate'):
        recorded_poses(dataset, ('bell',))
    assert recorded_poses(dataset, ()).shape == (len(dataset), 0, 7)
    dataset = filmed(monkeypatch, spec=toy.SPEC)
    with pytest.raises(SpecError, match='unknown camera'):
        bc.train(dataset, recipe(), tmp_path / 'c')
    assert not (tmp_path / 'c').exists()
