from dataclasses import replace

import numpy as np
import pytest
import torch

from il_robot.config import build
from il_robot.data.normalizer import fit_normalizer
from il_robot.data.pictures import resized
from il_robot.errors import CheckpointError, ConfigError, SpecError
from il_robot.policies import checkpoint as ckpt
from il_robot.policies.act import ACTConfig
from il_robot.policies.contract import ACTION_DIM, LAYOUT, random_batch
from il_robot.policies.estimator import MARKS, EstimatorConfig, PoseEstimator
from il_robot.policies.features import FeatureLayout
from il_robot.policies.mlp import ChunkMLPConfig
from il_robot.policies.observation import ImagePolicy, ObservationConfig
from il_robot.policies.policy import IMAGES
from il_robot.policies.registry import make_policy
from il_robot.policies.runner import PolicyRunner
from il_robot.resources import named_config
from il_robot.spec import load_robot_spec
from il_robot.types import Observation

ROBOT = load_robot_spec(named_config('robots', 'sim_dual_arm'))
SEEN = build(ObservationConfig, {
    'cameras': ['front', 'overhead'], 'objects': [], 'image_size': [24, 32],
    'encoder': {'widths': [8, 8], 'keypoints': 4}})
MAP = replace(SEEN, encoder=replace(SEEN.encoder, output='map'))


def make(seen=SEEN):
    layout = FeatureLayout(ROBOT.joint_names, seen.objects)
    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    normalizer = fit_normalizer({
        'features': rng.normal(size=(50, layout.dim)), 'action': rng.normal(size=(50, ROBOT.dim))})
    description = ckpt.Checkpoint(
        'chunk_mlp', ChunkMLPConfig((16,), chunk_size=5, n_obs_steps=2), layout, normalizer,
        ROBOT, observation=seen, recorded={'front': (48, 64), 'overhead': (48, 64)})
    return description, description.make_policy().eval()


def observation(seed, cameras=SEEN.cameras, size=(48, 64)):
    rng = np.random.default_rng(seed)
    images = {c: rng.integers(0, 256, (*size, 3), dtype=np.uint8) for c in cameras}
    return Observation(seed * ROBOT.dt, ROBOT.rest, {}, images)


def test_saved_and_loaded_policies_see_the_same(tmp_path):
    description, policy = make()
    ckpt.save_checkpoint(tmp_path / 'a', description, policy)
    loaded, other = ckpt.load_checkpoint(tmp_path / 'a', robot=ROBOT)
    assert loaded.observation == SEEN and loaded.recorded == description.recorded
    assert isinstance(other, ImagePolicy)
    chunks = []
    for c, p in ((description, policy), (loaded, other)):
        runner = PolicyRunner(c, p, ROBOT)
        runner.reset(np.random.default_rng(0))
        for k in range(3):
            runner.observe(observation(k))
        chunks.append(runner.predict().positions)
    assert np.array_equal(*chunks)
    runner.observe(observation(4))
    assert not np.array_equal(chunks[0], runner.predict().positions), 'pictures do not matter'


def test_running_sees_what_training_sees():
    """The runner's batch of an observation is a training batch of the same pictures."""
    description, policy = make()
    runner = PolicyRunner(description, policy, ROBOT)
    for k in range(2):
        runner.observe(observation(k))
    features = description.normalizer.normalize('features', np.stack([ROBOT.rest] * 2))
    batch = {'features': torch.from_numpy(features)[None]} | {
        f'images.{c}': torch.from_numpy(np.stack([
            resized(observation(k).images[c], (24, 32)).transpose(2, 0, 1)
            for k in range(2)])[None]) for c in SEEN.cameras}
    with torch.inference_mode():
        expected = policy.predict(batch, torch.Generator())[0].numpy()
    found = description.normalizer.normalize('action', runner.predict().positions)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_camera_that_is_missing_or_of_another_shape_is_named():
    runner = PolicyRunner(*make(), ROBOT)
    runner.observe(observation(0, cameras=['front']))
    with pytest.raises(SpecError, match='needs camera overhead.*given: front'):
        runner.predict()
    for size, why in (((48, 48), 'distorted; of this shape is 32 x 32'), ((12, 16), 'grow')):
        runner.reset(np.random.default_rng(0))
        runner.observe(observation(0, size=size))
        with pytest.raises(SpecError, match=why):
            runner.predict()


def test_checkpoints_of_version_1_still_load(tmp_path, monkeypatch):
    """They knew no cameras: neither key is there."""
    description, _ = make(ObservationConfig(objects=()))
    written = ckpt._to_dict

    def old(checkpoint):
        data = written(checkpoint)
        del data['observation'], data['recorded']
        return {**data, 'version': 1}

    monkeypatch.setattr(ckpt, '_to_dict', old)
    ckpt.save_checkpoint(tmp_path / 'old', description, description.make_policy())
    loaded, policy = ckpt.load_checkpoint(tmp_path / 'old', robot=ROBOT)
    assert loaded.observation == ObservationConfig() and not isinstance(policy, ImagePolicy)


def test_a_checkpoint_of_a_later_version_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(ckpt, 'VERSION', ckpt.VERSION + 1)
    description, policy = make()
    ckpt.save_checkpoint(tmp_path / 'new', description, policy)
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match='upgrade il_robot'):
        ckpt.load_checkpoint(tmp_path / 'new')


def test_augmentation_is_for_training_and_follows_the_generator():
    policy = make_policy('chunk_mlp', ChunkMLPConfig((8,)), LAYOUT, ACTION_DIM, SEEN)
    batch = random_batch(policy, 4)

    def loss(seed):
        return policy.loss(batch, torch.Generator().manual_seed(seed))['loss'].item()

    policy.train()
    assert loss(0) == loss(0) != loss(1)
    policy.eval()
    assert loss(0) == loss(1)


def test_the_shares_of_two_processes_sum_up_to_the_whole():
    torch.manual_seed(0)
    policy = make_policy('chunk_mlp', ChunkMLPConfig((8,)), LAYOUT, ACTION_DIM, SEEN).train()
    batch = random_batch(policy, 4)
    del batch['is_pad']

    def losses(rows, **more):
        part = {key: value[rows] for key, value in batch.items()}
        return policy.loss({**part, **more}, torch.Generator().manual_seed(0))

    whole = losses(slice(0, 4))
    first, second = (
        losses(rows, part=torch.tensor([rows.start, 4])) for rows in (slice(0, 1), slice(1, 4)))
    for name, value in whole.items():
        torch.testing.assert_close(first[name] + second[name], value)


def test_the_shares_of_an_estimator_sum_up_to_the_whole():
    torch.manual_seed(0)
    random = torch.Generator().manual_seed(1)
    estimator = PoseEstimator(EstimatorConfig((4, 4)), ['top'], ['cube'], (24, 32)).train()
    batch = {
        IMAGES + 'top': torch.randint(
            256, (4, 1, 3, 24, 32), generator=random, dtype=torch.uint8),
        MARKS + 'top': torch.rand(4, 1, 9, 3, generator=random)}

    def loss(rows, **more):
        part = {key: value[rows] for key, value in batch.items()}
        return estimator.loss({**part, **more}, torch.Generator().manual_seed(0))['loss']

    shares = [loss(rows, part=torch.tensor([rows.start, 4]))
              for rows in (slice(0, 1), slice(1, 4))]
    torch.testing.assert_close(sum(shares), loss(slice(0, 4)))


def test_act_looks_at_every_cell_and_knows_cameras_apart():
    torch.manual_seed(0)
    config = ACTConfig(6, dim=16, heads=2, feedforward=32, encoder_layers=1, posterior_layers=1)
    policy = make_policy('act', config, LAYOUT, ACTION_DIM, MAP).eval()
    batch = random_batch(policy, 2)
    noise = policy.draw(2, torch.Generator())
    before = policy(batch, noise)
    for change in (lambda x: x.flip(-1), lambda x: x.flip(-2)):
        moved = {**batch, 'images.front': change(batch['images.front'])}
        assert not torch.allclose(policy(moved, noise), before, atol=1e-6)
    swapped = {**batch, 'images.front': batch['images.overhead'],
               'images.overhead': batch['images.front']}
    assert not torch.allclose(policy(swapped, noise), before, atol=1e-6)


def test_maps_are_for_act():
    with pytest.raises(ConfigError, match='for policy act'):
        make_policy('chunk_mlp', ChunkMLPConfig(), LAYOUT, ACTION_DIM, MAP)
    with pytest.raises(ConfigError, match='n_obs_steps 1'):
        make_policy('act', ACTConfig(n_obs_steps=2), LAYOUT, ACTION_DIM, MAP)


def test_bad_observations_are_refused():
    for values, why in (({'cameras': ['a', 'a']}, 'differ'), ({'image_size': [8, 8]}, 'at least'),
                        ({'encoder': {'network': 'vit'}}, 'resnet18'),
                        ({'estimate': ['cube']}, 'needs cameras'),
                        ({'cameras': ['a'], 'objects': [], 'estimate': ['cube']}, 'leave objects'),
                        ({'cameras': ['a'], 'objects': ['cube'], 'estimate': ['ball']}, 'ball')):
        with pytest.raises(ConfigError, match=why):
            build(ObservationConfig, values)
