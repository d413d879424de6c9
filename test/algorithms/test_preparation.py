"""Training that starts from a checkpoint."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
import toy

from il_robot.algorithms import bc
from il_robot.algorithms.preparation import prepare, read_start
from il_robot.algorithms.recipe import make_recipe
from il_robot.algorithms.runs import read_run
from il_robot.errors import CheckpointError, ConfigError
from il_robot.policies.checkpoint import (
    load_checkpoint,
    load_training_state,
    read_description,
)

TRAINING = {'steps': 30, 'batch_size': 16, 'warmup_steps': 5, 'validation': 0.0,
            'actions': 'relative', 'device': 'cpu', 'threads': 1}
RECIPES = {
    'mlp': make_recipe({'policy': 'mlp', 'model': {'hidden': [16]}, 'training': TRAINING}),
    'ensemble': make_recipe({
        'policy': 'ensemble', 'training': TRAINING,
        'model': {'policy': 'mlp', 'model': {'hidden': [16]}, 'size': 2}}),
}


@pytest.fixture(scope='module')
def some():
    return toy.toy_dataset(3)


@pytest.fixture(scope='module')
def more():
    return toy.toy_dataset(8)


@pytest.fixture(scope='module', params=RECIPES)
def first(request, some, tmp_path_factory):
    """A trained run and its recipe."""
    recipe = RECIPES[request.param]
    run = tmp_path_factory.mktemp('start') / 'run'
    bc.train(some, recipe, run)
    return run, recipe


def test_before_the_first_step_it_is_the_policy_it_started_from(first, more):
    run, recipe = first
    start = read_start(run)
    fresh, _, own = prepare(more, recipe, toy.SPEC, torch.device('cpu'))
    policy, samples, now = prepare(more, recipe, toy.SPEC, torch.device('cpu'), start)
    described, before = load_checkpoint(run)
    for key, value in before.state_dict().items():
        assert torch.equal(policy.state_dict()[key], value)
    assert any(not torch.equal(fresh.state_dict()[k], v) for k, v in before.state_dict().items())
    for key, entry in described.normalizer.entries.items():
        for found in (now.normalizer.entries[key], samples.normalizer.entries[key]):
            np.testing.assert_array_equal(found.offset, entry.offset)
            np.testing.assert_array_equal(found.scale, entry.scale)
    assert not np.array_equal(own.normalizer.entries['features'].offset,
                              described.normalizer.entries['features'].offset)
    assert now.start == described.hash and not described.start and not own.start


def test_it_learns_on_and_says_where_it_came_from(first, more, tmp_path):
    run, recipe = first
    result = bc.train(more, recipe, tmp_path / 'run', start=run)
    described = read_description(result.checkpoint)
    assert described.start == read_description(read_start(run).folder).hash
    assert read_run(tmp_path / 'run')[1]['start'] == str(read_start(run).folder)
    _, before = load_checkpoint(run)
    _, after = load_checkpoint(result.checkpoint)
    assert any(not torch.equal(a, b) for a, b in zip(
        before.state_dict().values(), after.state_dict().values()))


@pytest.mark.parametrize('stop', [0, 12])
def test_a_resumed_run_has_the_bits_of_an_uninterrupted_one(first, more, tmp_path, stop):
    run, recipe = first
    gone = tmp_path / 'gone'
    shutil.copytree(run, gone)
    straight = bc.train(more, recipe, tmp_path / 'a', start=run)
    left = iter([False] * stop)
    bc.train(more, recipe, tmp_path / 'b', start=gone, should_stop=lambda: next(left, True))
    if stop:  # it has a checkpoint of its own, and needs the other no more
        shutil.rmtree(gone)
    resumed = bc.train(more, recipe, tmp_path / 'b', resume=True)
    first_state, second = (load_training_state(r.checkpoint) for r in (straight, resumed))
    for key in first_state:
        assert torch.equal(first_state[key], second[key]), key
    a, b = (read_description(r.checkpoint) for r in (straight, resumed))
    assert a.start == b.start != '' and a.normalizer.to_dict() == b.normalizer.to_dict()


@pytest.mark.parametrize(('change', 'words'), [
    ({'policy': 'chunk_mlp', 'model': {'chunk_size': 3}},
     ['policy: mlp | chunk_mlp', 'model.chunk_size: None | 3']),
    ({'model': {'hidden': [8]}}, ['model.hidden: [16] | [8]']),
    ({'training': {**TRAINING, 'actions': 'absolute'}}, ['relative:']),
])
def test_another_policy_is_no_start(some, tmp_path, change, words):
    bc.train(some, RECIPES['mlp'], tmp_path / 'run')
    recipe = make_recipe({
        'policy': 'mlp', 'model': {'hidden': [16]}, 'training': TRAINING, **change})
    with pytest.raises(ConfigError, match='cannot start from') as error:
        bc.train(some, recipe, tmp_path / 'other', start=tmp_path / 'run')
    assert all(word in str(error.value) for word in words)
    assert not (tmp_path / 'other').exists()


def test_a_start_that_is_not_there_or_damaged_is_refused(some, tmp_path):
    with pytest.raises(CheckpointError, match='nowhere'):
        bc.train(some, RECIPES['mlp'], tmp_path / 'run', start=tmp_path / 'nowhere')
    run = bc.train(some, RECIPES['mlp'], tmp_path / 'first')
    weights = run.checkpoint / 'model.safetensors'
    weights.write_bytes(weights.read_bytes()[:-1] + b'x')
    with pytest.raises(CheckpointError, match='damaged'):
        bc.train(some, RECIPES['mlp'], tmp_path / 'run', start=tmp_path / 'first')
    assert not (tmp_path / 'run').exists()


def test_the_start_of_another_robot_is_refused(some, tmp_path):
    bc.train(some, RECIPES['mlp'], tmp_path / 'run')
    dataset = replace(some, spec=replace(toy.SPEC, name='other', joints=(
        replace(toy.SPEC.joints[0], upper=1.5),)))
    with pytest.raises(ConfigError, match='upper'):
        bc.train(dataset, RECIPES['mlp'], tmp_path / 'other', start=tmp_path / 'run')
