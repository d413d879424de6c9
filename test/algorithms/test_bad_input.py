"""What training refuses, in which words, and that nothing is lost or overwritten by it."""

import json
import multiprocessing
import resource
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import torch
import toy

from il_robot.algorithms import bc, learner
from il_robot.algorithms.memory import is_out_of_memory
from il_robot.algorithms.recipe import make_recipe
from il_robot.algorithms.records import read_metrics
from il_robot.checkpoints import DESCRIPTION, list_checkpoints
from il_robot.errors import CheckpointError, ConfigError, DatasetError
from il_robot.policies.backpropagation import RegressionGradient
from il_robot.policies.checkpoint import load_checkpoint

RECIPE = make_recipe({
    'policy': 'chunk_mlp', 'model': {'hidden': [16], 'chunk_size': 4},
    'training': {'steps': 40, 'batch_size': 24, 'warmup_steps': 5, 'log_every': 10,
                 'checkpoint_every': 10, 'validation': 0.2, 'device': 'cpu', 'threads': 1},
})


@pytest.fixture(scope='module')
def dataset():
    return toy.toy_dataset(4)


def with_training(**changes):
    return replace(RECIPE, training=replace(RECIPE.training, **changes))


def content(folder):
    return {p: p.read_bytes() for p in folder.rglob('*') if p.is_file()}


@pytest.mark.parametrize('key', ['action', 'observation.state'])
def test_a_dataset_without_a_needed_key(dataset, tmp_path, key):
    columns = {k: v for k, v in dataset.columns.items() if k != key}
    features = {k: v for k, v in dataset.features.items() if k != key}
    with pytest.raises(DatasetError, match=f'lacks {key}, .*it has: .*proposal.expert'):
        bc.train(replace(dataset, columns=columns, features=features), RECIPE, tmp_path / 'run')
    assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize('key', ['action', 'observation.state', 'observation.environment_state'])
def test_nan_in_the_data(dataset, tmp_path, key):
    column = dataset.columns[key].copy()
    column[7, 0] = np.nan
    recipe = with_training(label='executed')
    with pytest.raises(DatasetError, match='of 1 rows have NaN.*row 7.*dataset verify'):
        bc.train(replace(dataset, columns={**dataset.columns, key: column}), recipe,
                 tmp_path / 'run')
    assert not (tmp_path / 'run').exists()


def test_too_few_episodes_for_the_split(tmp_path):
    with pytest.raises(DatasetError, match=r'one usable episode.*training.validation=0.2'):
        bc.train(toy.toy_dataset(1), RECIPE, tmp_path / 'run')
    assert not (tmp_path / 'run').exists()


def test_a_configuration_of_another_policy():
    with pytest.raises(ConfigError, match=r'kl_weight belongs to policy act, this is chunk_mlp'):
        make_recipe({'policy': 'chunk_mlp', 'model': {'chunk_size': 4, 'kl_weight': 1.0}})
    with pytest.raises(ConfigError, match="unknown key 'hiden'.*did you mean 'hidden'"):
        make_recipe({'policy': 'chunk_mlp', 'model': {'hiden': [4]}})


def test_both_kinds_of_full_memory_are_known():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60)
    assert is_out_of_memory(caught.value)
    assert is_out_of_memory(torch.cuda.OutOfMemoryError('CUDA out of memory'))
    assert not is_out_of_memory(RuntimeError('shapes do not fit'))


def test_out_of_memory_names_the_batch_that_fits(dataset, tmp_path, monkeypatch):
    gradient, fitting = RegressionGradient.__call__, 9

    def small_memory(self, batch, generator):
        if len(batch['action']) > fitting:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to ...")
        return gradient(self, batch, generator)

    monkeypatch.setattr(RegressionGradient, '__call__', small_memory)
    with pytest.raises(ConfigError, match='out of memory at training.batch_size=24; 6 fits'):
        bc.train(dataset, RECIPE, tmp_path)
    assert not list(tmp_path.iterdir())  # so that the same command works with a smaller batch
    fitting = 0
    with pytest.raises(ConfigError, match='no smaller batch fits'):
        bc.train(dataset, RECIPE, tmp_path)
    fitting = 8
    assert bc.train(dataset, with_training(batch_size=8, validation=0.0), tmp_path).finished


def test_out_of_memory_later_keeps_the_checkpoints(dataset, tmp_path, monkeypatch):
    step = learner.train_step

    def full_at_25(state, samples, config, *rest):
        if state.step == 25 and config.batch_size > 16:
            raise torch.cuda.OutOfMemoryError('CUDA out of memory')
        return step(state, samples, config, *rest)

    monkeypatch.setattr(bc, 'train_step', full_at_25)
    with pytest.raises(ConfigError, match='12 fits'):
        bc.train(dataset, RECIPE, tmp_path)
    assert load_checkpoint(tmp_path)[0].step == 20


def stopped_run(dataset, folder, calls=20):
    left = iter([False] * calls)
    bc.train(dataset, RECIPE, folder, should_stop=lambda: next(left, True))


def test_a_checkpoint_and_a_run_of_a_newer_version(dataset, tmp_path):
    stopped_run(dataset, tmp_path)
    for file in (list_checkpoints(tmp_path)[-1] / DESCRIPTION, tmp_path / 'run.json'):
        text = file.read_text()
        file.write_text(json.dumps({**json.loads(text), 'version': 99, 'package': '9.9.9'}))
        before = content(tmp_path)
        with pytest.raises((CheckpointError, ConfigError), match=r'il_robot 9\.9\.9.*upgrade'):
            bc.train(dataset, RECIPE, tmp_path, resume=True)
        assert content(tmp_path) == before
        file.write_text(text)
    assert bc.train(dataset, RECIPE, tmp_path, resume=True).finished


def _train_slowly(folder, started, go_on):
    def stop():
        started.set()
        go_on.wait()
        return True

    bc.train(toy.toy_dataset(4), RECIPE, folder, should_stop=stop)


def test_two_runs_into_one_folder(dataset, tmp_path):
    context = multiprocessing.get_context('fork')
    started, go_on = context.Event(), context.Event()
    other = context.Process(target=_train_slowly, args=(tmp_path, started, go_on))
    other.start()
    try:
        assert started.wait(60)
        before = content(tmp_path)
        for resume in (False, True):
            with pytest.raises(ConfigError, match='another training writes to'):
                bc.train(dataset, RECIPE, tmp_path, resume=resume)
        assert content(tmp_path) == before
    finally:
        go_on.set()
        other.join(60)
    assert other.exitcode == 0
    assert bc.train(dataset, RECIPE, tmp_path, resume=True).finished


@contextmanager
def no_file_larger_than(size):
    """Writing more fails as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_leaves_the_old_checkpoint(dataset, tmp_path):
    stopped_run(dataset, tmp_path)
    before = content(tmp_path / 'checkpoints')
    with no_file_larger_than(3000), pytest.raises(CheckpointError, match='older ones are kept'):
        bc.train(dataset, RECIPE, tmp_path, resume=True)
    assert content(tmp_path / 'checkpoints') == before  # and nothing half-written
    assert bc.train(dataset, RECIPE, tmp_path, resume=True).finished
    assert [r['step'] for r in read_metrics(tmp_path)] == [10, 20, 30, 40]


def test_a_disk_full_from_the_beginning(dataset, tmp_path):
    with no_file_larger_than(10), pytest.raises(ConfigError, match='cannot write'):
        bc.train(dataset, RECIPE, tmp_path / 'run')
    assert not list((tmp_path / 'run').iterdir())
    assert bc.train(dataset, RECIPE, tmp_path / 'run').finished
