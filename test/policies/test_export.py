"""An exported policy acts as in torch, says what its numbers mean, and replaces no file."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from il_robot.algorithms.policy_env import residual_policy
from il_robot.apps.main import main
from il_robot.data.normalizer import fit_normalizer
from il_robot.errors import CheckpointError, ConfigError
from il_robot.policies import export
from il_robot.policies.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from il_robot.policies.features import FeatureLayout
from il_robot.policies.observation import ObservationConfig
from il_robot.policies.registry import model_config
from il_robot.policies.runner import PolicyRunner
from il_robot.resources import named_config
from il_robot.spec import load_robot_spec
from il_robot.types import Observation

onnx = pytest.importorskip('onnx')
onnxruntime = pytest.importorskip('onnxruntime')

ROBOT = load_robot_spec(named_config('robots', 'sim_dual_arm'))
LAYOUT = FeatureLayout(ROBOT.joint_names, ('cube',))


def saved(folder, name='flow', values=None):
    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    normalizer = fit_normalizer({
        'features': 3 + 0.2 * rng.normal(size=(50, LAYOUT.dim)),
        'action': 0.1 * rng.normal(size=(50, ROBOT.dim))})
    values = {'width': 16, 'n_obs_steps': 2} if values is None else values
    checkpoint = Checkpoint(
        name, model_config(name, values, 'test'), LAYOUT, normalizer, ROBOT,
        {'mode': 'ensemble'}, task='transfer_cube')
    save_checkpoint(folder, checkpoint, checkpoint.make_policy())
    return folder


def test_raw_features_in_raw_actions_out(tmp_path, capsys):
    folder, file = saved(tmp_path / 'checkpoint'), tmp_path / 'out' / 'policy.onnx'
    assert main(['export', '--onnx', str(folder), '--output', str(file)]) == 0
    printed = capsys.readouterr().out
    assert 'features [1, 2, 23], noise [1, 280] -> action [1, 20, 14]' in printed
    assert 'differs from torch by at most' in printed

    checkpoint, policy = load_checkpoint(folder)
    runner = PolicyRunner(checkpoint, policy, ROBOT)
    runner.reset(np.random.default_rng(3))
    pose = np.array([3, 3, 3, 0, 0, 0, 1], np.float32)
    for k in range(2):
        runner.observe(Observation(float(k), ROBOT.rest + np.float32(0.1 * k), {'cube': pose}))
    state = np.stack([ROBOT.rest, ROBOT.rest + np.float32(0.1)])
    rotation = np.tile(np.array([1, 0, 0, 0, 1, 0], np.float32), (2, 1))
    features = np.hstack([state, np.tile(pose[:3], (2, 1)), rotation])[None]
    seed = int(np.random.default_rng(3).integers(2**63))
    noise = policy.draw(1, torch.Generator().manual_seed(seed)).numpy()
    session = onnxruntime.InferenceSession(str(file))
    action, = session.run(['action'], {'features': features, 'noise': noise})
    np.testing.assert_allclose(action[0], runner.predict().positions, atol=1e-5)

    about = session.get_modelmeta().custom_metadata_map
    assert about['il_robot.checkpoint'] == checkpoint.hash
    assert json.loads(about['il_robot.action.names']) == list(ROBOT.joint_names)
    units = dict(zip(ROBOT.joint_names, json.loads(about['il_robot.action.units'])))
    assert units['left_gripper'] == 'm' and units['left_waist'] == 'rad'
    assert json.loads(about['il_robot.features.names']) == list(LAYOUT.names)
    assert json.loads(about['il_robot.execution']) == {'mode': 'ensemble'}
    assert 'Normal numbers' in about['il_robot.noise'] and 'il_robot.dt' in about


def test_a_policy_without_noise_has_one_input(tmp_path):
    checkpoint, policy = load_checkpoint(saved(tmp_path / 'a', 'mlp', {'hidden': [16]}))
    done = export.export_onnx(checkpoint, policy, tmp_path / 'a.onnx')
    assert done.inputs == {'features': (1, 1, 23)} and done.error < 1e-5
    model = onnx.load(done.path)
    onnx.checker.check_model(model)
    assert 'il_robot.noise' not in {p.key for p in model.metadata_props}


def test_nothing_is_overwritten_and_a_wrong_graph_is_not_written(tmp_path, monkeypatch):
    checkpoint, policy = load_checkpoint(saved(tmp_path / 'a', 'mlp', {'hidden': [16]}))
    file = tmp_path / 'there.onnx'
    file.write_text('mine')
    with pytest.raises(ConfigError, match='exists already'):
        export.export_onnx(checkpoint, policy, file)
    assert file.read_text() == 'mine'
    with pytest.raises(CheckpointError, match='different rates'):
        export.export_onnx(*residual_policy(checkpoint, policy, (8,), 0.5), tmp_path / 'b.onnx')
    seeing = replace(checkpoint, observation=ObservationConfig(cameras=('overhead',)))
    with pytest.raises(CheckpointError, match='looks at cameras .overhead'):
        export.export_onnx(seeing, policy, tmp_path / 'b.onnx')
    monkeypatch.setattr(export, 'TOLERANCE', -1.0)
    with pytest.raises(CheckpointError, match='differs from torch'):
        export.export_onnx(checkpoint, policy, tmp_path / 'b.onnx')
    monkeypatch.setattr(export, 'TOLERANCE', 1.0)
    monkeypatch.setitem(__import__('sys').modules, 'onnx', None)
    with pytest.raises(ConfigError, match=r"pip install 'il_robot\[onnx\]'"):
        export.export_onnx(checkpoint, policy, tmp_path / 'c.onnx')
    assert sorted(p.name for p in tmp_path.iterdir()) == ['a', 'there.onnx']


def test_without_onnxruntime_it_says_that_nothing_was_compared(tmp_path, monkeypatch, capsys):
    folder = saved(tmp_path / 'a', 'mlp', {'hidden': [16]})
    monkeypatch.setitem(__import__('sys').modules, 'onnxruntime', None)
    assert main(['export', '--onnx', str(folder), '--output', str(tmp_path / 'a.onnx')]) == 0
    assert 'not compared with torch' in capsys.readouterr().out


def test_the_command_line_says_what_is_wrong(tmp_path, capsys):
    assert main(['export', '--onnx', str(tmp_path), '--output', 'x.onnx']) == 2
    assert 'is no checkpoint' in capsys.readouterr().err
