import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from il_robot.checkpoints import DESCRIPTION, find_checkpoint, list_checkpoints
from il_robot.data.normalizer import fit_normalizer
from il_robot.errors import CheckpointError, SpecError
from il_robot.policies import checkpoint as ckpt
from il_robot.policies.features import FeatureLayout
from il_robot.policies.mlp import ChunkMLPConfig
from il_robot.policies.runner import PolicyRunner
from il_robot.resources import named_config
from il_robot.spec import load_robot_spec
from il_robot.types import Observation

ROBOT = load_robot_spec(named_config('robots', 'sim_dual_arm'))
LAYOUT = FeatureLayout(ROBOT.joint_names, ('cube',))


def make(seed=0, **changes):
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    normalizer = fit_normalizer({
        'features': rng.normal(size=(50, LAYOUT.dim)), 'action': rng.normal(size=(50, ROBOT.dim))})
    description = ckpt.Checkpoint(
        'chunk_mlp', ChunkMLPConfig((16,), chunk_size=5, n_obs_steps=2), LAYOUT, normalizer,
        ROBOT, {'mode': 'ensemble'}, {'steps': 3}, 'abcd', 'transfer_cube', seed, 3,
        {'loss': 0.25})
    description = replace(description, **changes)
    return description, description.make_policy().eval()


def observation(seed, stamp=1.0):
    rng = np.random.default_rng(seed)
    pose = np.r_[rng.normal(size=3), 0, 0, 0, 1].astype(np.float32)
    return Observation(stamp, rng.normal(size=ROBOT.dim).astype(np.float32), {'cube': pose})


def test_saved_and_loaded_policies_act_the_same(tmp_path):
    description, policy = make()
    digest = ckpt.save_checkpoint(tmp_path / 'a', description, policy)
    loaded, other = ckpt.load_checkpoint(tmp_path / 'a', robot=ROBOT)
    assert loaded.hash == digest and len(digest) == 16
    assert loaded.model == description.model and loaded.layout == LAYOUT
    assert loaded.robot == ROBOT and loaded.metrics == {'loss': 0.25}
    assert loaded.task == 'transfer_cube' and loaded.step == 3
    chunks = []
    for c, p in ((description, policy), (loaded, other)):
        runner = PolicyRunner(c, p, ROBOT)
        runner.reset(np.random.default_rng(0))
        for k in range(3):
            runner.observe(observation(k, k * ROBOT.dt))
        chunks.append(runner.predict())
    assert chunks[0].positions.tobytes() == chunks[1].positions.tobytes()
    assert chunks[0].positions.shape == (5, ROBOT.dim) and not other.training
    np.testing.assert_allclose(chunks[0].times, (2 + np.arange(5)) * ROBOT.dt)


def test_relative_targets_start_from_the_joints_and_the_file_says_so(tmp_path):
    relative = tuple(name for name in ROBOT.joint_names if 'gripper' not in name)
    values = np.random.default_rng(0).normal(size=(50, 5, ROBOT.dim))
    features = np.random.default_rng(1).normal(size=(50, LAYOUT.dim))
    normalizer = fit_normalizer({'features': features, 'action': values}, by_step=('action',))
    description, policy = make(relative=relative, normalizer=normalizer)
    ckpt.save_checkpoint(tmp_path / 'a', description, policy)
    loaded, other = ckpt.load_checkpoint(tmp_path / 'a', robot=ROBOT)
    assert loaded.relative == relative and loaded.action_dim == ROBOT.dim
    chunks = [[], []]
    for chunk, checkpoint in zip(chunks, (loaded, replace(loaded, relative=()))):
        runner = PolicyRunner(checkpoint, other, ROBOT)
        runner.observe(observation(4))
        chunk.append(runner.predict().positions)
    moved = chunks[0][0] - chunks[1][0]
    grippers = np.array(['gripper' in name for name in ROBOT.joint_names])
    np.testing.assert_allclose(
        moved, np.broadcast_to(np.where(grippers, 0, observation(4).state), moved.shape),
        atol=1e-5)


def test_the_first_observation_counts_as_the_whole_past():
    runner = PolicyRunner(*make(), ROBOT)
    runner.observe(observation(0))
    once = runner.predict().positions
    runner.observe(observation(0))
    np.testing.assert_array_equal(once, runner.predict().positions)
    runner.observe(observation(1))
    assert not np.array_equal(once, runner.predict().positions)
    runner.reset(np.random.default_rng(0))
    with pytest.raises(RuntimeError, match='observe'):
        runner.predict()


def test_a_missing_object_is_named():
    runner = PolicyRunner(*make(), ROBOT)
    runner.observe(replace(observation(0), objects={}))
    with pytest.raises(SpecError, match='needs the pose of cube'):
        runner.predict()


def test_the_hash_follows_weights_and_description(tmp_path):
    digests = [
        ckpt.save_checkpoint(tmp_path / str(i), *pair)
        for i, pair in enumerate([make(0), make(0), make(1), make(0, dataset='other')])
    ]
    assert digests[0] == digests[1] and len(set(digests)) == 3


def test_nothing_is_overwritten_and_no_part_is_left(tmp_path):
    ckpt.save_checkpoint(tmp_path / 'a', *make(0))
    with pytest.raises(CheckpointError, match='never overwritten'):
        ckpt.save_checkpoint(tmp_path / 'a', *make(1))
    assert ckpt.read_description(tmp_path / 'a').seed == 0
    assert [p.name for p in tmp_path.iterdir()] == ['a']


def test_a_crash_while_writing_leaves_no_checkpoint(tmp_path, monkeypatch):
    monkeypatch.setattr(ckpt, '_sync', lambda path: (_ for _ in ()).throw(OSError('power cut')))
    with pytest.raises(CheckpointError, match='power cut'):
        ckpt.save_checkpoint(tmp_path / 'checkpoints' / 'a', *make())
    assert list_checkpoints(tmp_path) == []
    monkeypatch.undo()
    ckpt.save_checkpoint(tmp_path / 'checkpoints' / 'a', *make())
    assert find_checkpoint(tmp_path).name == 'a'


def test_the_newest_checkpoint_of_a_run_is_found(tmp_path):
    for step in (5, 100, 20):
        ckpt.save_checkpoint(tmp_path / 'checkpoints' / f'step_{step:08d}', *make(step=step))
    assert ckpt.load_checkpoint(tmp_path)[0].step == 100


def test_another_robot_is_refused_with_both_sides(tmp_path):
    ckpt.save_checkpoint(tmp_path / 'a', *make())
    joints = (replace(ROBOT.joints[0], lower=-1.0), *ROBOT.joints[1:])
    other = replace(ROBOT, name='other', joints=joints, rates=replace(ROBOT.rates, control=30.0))
    with pytest.raises(CheckpointError) as error:
        ckpt.load_checkpoint(tmp_path / 'a', robot=other)
    assert 'lower' in str(error.value) and '-3.1' in str(error.value) and '-1' in str(error.value)
    assert '50 | 30' in str(error.value)
    with pytest.raises(CheckpointError, match='lower'):
        PolicyRunner(*make(), other)
    nameless, policy = make(robot=None)
    ckpt.save_checkpoint(tmp_path / 'b', nameless, policy)
    with pytest.raises(CheckpointError, match='does not say its robot'):
        ckpt.load_checkpoint(tmp_path / 'b', robot=ROBOT)


def _edit(folder, **changes):
    data = json.loads((folder / DESCRIPTION).read_text())
    (folder / DESCRIPTION).write_text(json.dumps({**data, **changes}))


@pytest.mark.parametrize(('damage', 'message'), [
    (lambda f: (f / ckpt.WEIGHTS).write_bytes((f / ckpt.WEIGHTS).read_bytes()[:-9]), 'damaged'),
    (lambda f: (f / ckpt.WEIGHTS).unlink(), 'incomplete'),
    (lambda f: (f / DESCRIPTION).unlink(), 'no checkpoint'),
    (lambda f: (f / DESCRIPTION).write_text('{"format": '), 'cannot read'),
    (lambda f: (f / DESCRIPTION).write_text('[]'), 'no checkpoint of il_robot'),
    (lambda f: (f / DESCRIPTION).write_text('{"type": "act"}'), 'no checkpoint of il_robot'),
    (lambda f: _edit(f, version=99, package='9.9'), r'il_robot 9\.9.*upgrade'),
    (lambda f: _edit(f, task='other'), 'damaged'),
])
def test_damage_is_told(tmp_path, damage, message):
    ckpt.save_checkpoint(tmp_path / 'a', *make())
    damage(tmp_path / 'a')
    with pytest.raises(CheckpointError, match=message):
        ckpt.load_checkpoint(tmp_path / 'a')


def test_weights_of_another_shape_and_missing_keys_are_told(tmp_path):
    _, policy = make()
    description, _ = make(model=ChunkMLPConfig((32,), chunk_size=5))
    ckpt.save_checkpoint(tmp_path / 'a', description, policy)
    with pytest.raises(CheckpointError, match='do not fit'):
        ckpt.load_checkpoint(tmp_path / 'a')
    ckpt.save_checkpoint(tmp_path / 'b', *make())
    data = json.loads((tmp_path / 'b' / DESCRIPTION).read_text())
    del data['model']['loss'], data['layout']['joints']
    data['hash'] = ckpt._hash(data, tmp_path / 'b' / ckpt.WEIGHTS)
    (tmp_path / 'b' / DESCRIPTION).write_text(json.dumps(data))
    with pytest.raises(CheckpointError, match='missing key.*joints'):
        ckpt.load_checkpoint(tmp_path / 'b')


@pytest.mark.parametrize(('estimate', 'reads'), [([], True), (['cube'], False)])
def test_version_2_is_read_but_for_encoders_that_estimated_on_the_way(tmp_path, estimate, reads):
    folder = tmp_path / 'a'
    ckpt.save_checkpoint(folder, *make())
    data = json.loads((folder / DESCRIPTION).read_text())
    data['version'] = 2
    data['observation'] |= {'estimate': estimate, 'estimate_weight': 1.0}
    data['hash'] = ckpt._hash(data, folder / ckpt.WEIGHTS)
    (folder / DESCRIPTION).write_text(json.dumps(data))
    if reads:
        assert ckpt.load_checkpoint(folder)[0].observation.estimate == ()
    else:
        with pytest.raises(CheckpointError, match='train again'):
            ckpt.load_checkpoint(folder)


def test_a_path_that_is_not_there_says_so(tmp_path):
    with pytest.raises(CheckpointError, match='no such folder'):
        ckpt.load_checkpoint(tmp_path / 'nowhere')


def test_training_state_comes_back_and_its_absence_is_told(tmp_path):
    state = {'a': torch.arange(3), 'b': torch.zeros(2, dtype=torch.uint8)}
    ckpt.save_checkpoint(tmp_path / 'a', *make(), state)
    assert torch.equal(ckpt.load_training_state(tmp_path / 'a')['a'], state['a'])
    ckpt.save_checkpoint(tmp_path / 'b', *make())
    with pytest.raises(CheckpointError, match='cannot read'):
        ckpt.load_training_state(tmp_path / 'b')
