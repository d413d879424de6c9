"""Checkpoints tried while training; and that a resumed run has the bits of a straight one."""

import json
from dataclasses import replace

import pytest
import torch
import toy

from il_robot.algorithms import bc, trials
from il_robot.algorithms.recipe import make_recipe
from il_robot.algorithms.records import METRICS, best_record, read_metrics
from il_robot.checkpoints import list_checkpoints
from il_robot.errors import ConfigError
from il_robot.policies.checkpoint import load_checkpoint, load_training_state
from il_robot.policies.registry import POLICIES

SMALL = {
    'mlp': {'hidden': [16]},
    'mlp_gaussian': {'hidden': [16]},
    'mlp_gmm': {'hidden': [16], 'modes': 2},
    'chunk_mlp': {'hidden': [16], 'chunk_size': 4},
    'act': {'chunk_size': 4, 'dim': 8, 'heads': 2, 'feedforward': 16, 'encoder_layers': 1,
            'posterior_layers': 1, 'latent_dim': 2, 'dropout': 0.1},
    'flow': {'chunk_size': 4, 'width': 8, 'depth': 1, 'time_dim': 4, 'euler_steps': 2},
    'diffusion': {'chunk_size': 4, 'widths': [8], 'groups': 4, 'time_dim': 4, 'kernel_size': 3},
    'ensemble': {'policy': 'flow', 'size': 2, 'model': {
        'chunk_size': 4, 'width': 8, 'depth': 1, 'time_dim': 4}},
    'residual': {'model': {'hidden': [16], 'chunk_size': 4}, 'hidden': [16]},
}
TRAINING = {
    'steps': 200, 'batch_size': 16, 'warmup_steps': 10, 'log_every': 25, 'validate_every': 100,
    'checkpoint_every': 1000, 'ema_decay': 0.99, 'feature_noise': 0.05, 'validation': 0.2,
    'device': 'cpu', 'threads': 1, 'evaluate_every': 80, 'evaluate_episodes': 2, 'keep': 1,
}
TRIAL = trials.Trial(toy.ToyFactory(), {'task': 'toy'})


def recipe(policy='chunk_mlp', **changes):
    return make_recipe({
        'policy': policy, 'model': SMALL[policy], 'training': {**TRAINING, **changes},
        # a correction is made anew in each control step
        'execution': {'mode': 'newest', 'n_action_steps': 1 if policy == 'residual' else 4}})


@pytest.fixture(scope='module')
def dataset():
    return toy.toy_dataset(6)


def after(calls):
    """should_stop that is True from the given call on."""
    left = iter([False] * calls)
    return lambda: next(left, True)


def stop_at(output, step):
    """should_stop that is True at this step; evaluations ask, too."""
    return lambda: (output / f'checkpoints/step_{step:08d}').exists()


def assert_same(first, second):
    a, b = (load_training_state(r.checkpoint) for r in (first, second))
    assert a.keys() == b.keys()
    for key in a:
        assert torch.equal(a[key], b[key]), key
    (_, policy), (_, other) = (load_checkpoint(r.checkpoint) for r in (first, second))
    for key, value in policy.state_dict().items():
        assert torch.equal(value, other.state_dict()[key]), key


def without_rate(records):
    return [{k: v for k, v in r.items() if k != 'rate'} for r in records]


def test_every_policy_is_here():
    assert SMALL.keys() == POLICIES.keys()


@pytest.mark.parametrize('policy', sorted(SMALL))
def test_200_steps_are_100_and_100_more(dataset, tmp_path, policy):
    """Bit for bit, with evaluations in both halves, for every policy."""
    of = recipe(policy)
    straight = bc.train(dataset, of, tmp_path / 'a', trial=TRIAL)
    steps = []
    stopped = bc.train(
        dataset, of, tmp_path / 'b', trial=TRIAL, on_log=lambda r: steps.append(r['step']),
        should_stop=lambda: steps[-1:] == [100])
    assert stopped.step == 100 and not stopped.finished
    torch.manual_seed(1234)  # what the process did before must not matter
    resumed = bc.train(dataset, of, tmp_path / 'b', trial=TRIAL, resume=True)
    assert straight.finished and resumed.finished and resumed.step == 200
    assert_same(straight, resumed)
    first, second = (without_rate(read_metrics(tmp_path / name)) for name in 'ab')
    assert first == second
    assert [r['step'] for r in first if 'success' in r] == [80, 160, 200]
    assert straight.best == resumed.best
    assert len({(tmp_path / n / 'best').resolve().name for n in 'ab'}) == 1


def test_evaluation_changes_nothing_of_the_training(dataset, tmp_path):
    """Not even for a policy with dropout, which draws from torch's own generator."""
    threads = torch.get_num_threads()
    tried = bc.train(dataset, recipe('act'), tmp_path / 'a', trial=TRIAL)
    plain = bc.train(dataset, recipe('act', evaluate_every=0), tmp_path / 'b')
    assert_same(tried, plain)
    assert torch.get_num_threads() == threads
    assert plain.best is None and not (tmp_path / 'b/best').exists()


@pytest.mark.parametrize('policy', sorted(SMALL))
def test_every_policy_trains_in_bfloat16(dataset, tmp_path, policy):
    """Weights and optimiser stay in float32, and the loss is that of float32 but for rounding."""
    finest, coarse = (
        bc.train(dataset, recipe(policy, precision=p, steps=30, log_every=10, evaluate_every=0),
                 tmp_path / p) for p in ('fp32', 'bf16'))
    state = load_training_state(coarse.checkpoint)
    assert {v.dtype for k, v in state.items() if k.startswith(('policy', 'optim'))} == {
        torch.float32}
    assert coarse.metrics['loss'] != finest.metrics['loss']
    assert coarse.metrics['loss'] == pytest.approx(finest.metrics['loss'], rel=0.1, abs=0.05)


def scripted(monkeypatch, successes):
    left = iter(successes)
    monkeypatch.setattr(bc, 'try_checkpoint', lambda *_: {
        'success': next(left), 'success_low': 0.0, 'success_high': 1.0, 'episodes': 10})


def test_the_best_checkpoint_is_kept_and_found_by_name(dataset, tmp_path, monkeypatch):
    scripted(monkeypatch, [0.2, 0.7, 0.7, 0.5, 0.1])
    result = bc.train(dataset, recipe(evaluate_every=40), tmp_path, trial=TRIAL)
    assert result.best == {'step': 120, 'success': 0.7, 'success_low': 0.0, 'success_high': 1.0,
                           'episodes': 10}
    kept = [p.name for p in list_checkpoints(tmp_path)]
    assert kept == ['step_00000120', 'step_00000200']
    assert load_checkpoint(tmp_path / 'best')[0].step == 120
    assert load_checkpoint(tmp_path)[0].step == 200
    assert not (tmp_path / 'best').readlink().is_absolute()  # the run can be moved


def test_a_resumed_run_knows_the_best_so_far(dataset, tmp_path, monkeypatch):
    scripted(monkeypatch, [0.9, 0.5])
    of = recipe(evaluate_every=60)
    bc.train(dataset, of, tmp_path, trial=TRIAL, should_stop=after(130))
    assert load_checkpoint(tmp_path / 'best')[0].step == 60
    scripted(monkeypatch, [0.8, 0.9])
    result = bc.train(dataset, of, tmp_path, trial=TRIAL, resume=True)
    assert result.best['step'] == 200 and load_checkpoint(tmp_path / 'best')[0].step == 200
    assert [p.name for p in list_checkpoints(tmp_path)] == ['step_00000200']  # and 60 is gone


def test_a_stop_during_an_evaluation_leaves_it_for_the_resumed_run(dataset, tmp_path):
    of = recipe()
    result = bc.train(
        dataset, of, tmp_path, trial=TRIAL, should_stop=stop_at(tmp_path, 80))
    assert result.step == 80 and not any('success' in r for r in read_metrics(tmp_path))
    bc.train(dataset, of, tmp_path, trial=TRIAL, resume=True)
    assert [r['step'] for r in read_metrics(tmp_path) if 'success' in r] == [80, 160, 200]


def test_a_policy_that_learned_succeeds_in_worker_processes(tmp_path):
    results = []
    trial = replace(TRIAL, workers=2, on_result=lambda r, e: results.append(r.seed))
    of = make_recipe({'policy': 'mlp', 'model': {'hidden': [64, 64]}, 'training': {
        **TRAINING, 'steps': 600, 'batch_size': 64, 'evaluate_every': 600,
        'evaluate_episodes': 6}})
    result = bc.train(toy.toy_dataset(30), of, tmp_path, trial=trial)
    assert result.best['success'] > 0.3 and result.best['episodes'] == 6
    low, high = result.best['success_low'], result.best['success_high']
    assert low < result.best['success'] < high or high == 1
    assert sorted(results) == list(range(900_000, 900_006))


def test_what_cannot_be_evaluated_is_told(dataset, tmp_path):
    with pytest.raises(ConfigError, match='evaluate_every needs an environment'):
        bc.train(dataset, recipe(), tmp_path / 'a')
    assert not (tmp_path / 'a').exists()
    broken = trials.Trial(toy.ToyFactory({'raise_seeds': (900_000,)}), {'task': 'toy'})
    with pytest.raises(ConfigError, match='broke at seed 900000'):
        bc.train(dataset, recipe(), tmp_path / 'b', trial=broken)
    with pytest.raises(ConfigError, match='tried its checkpoints in'):
        bc.train(dataset, recipe(), tmp_path / 'b', resume=True,
                 trial=replace(TRIAL, settings={'task': 'other'}))
    assert bc.train(dataset, recipe(), tmp_path / 'b', trial=TRIAL, resume=True).finished


def test_of_equal_records_the_later_is_the_best():
    assert best_record([]) is None and best_record([{'step': 1, 'loss': 2.0}]) is None
    records = [{'step': s, 'success': v} for s, v in ((1, 0.5), (2, 0.5), (3, 0.4))]
    assert best_record(records)['step'] == 2


def test_damaged_records_are_told_and_kept(dataset, tmp_path):
    bc.train(dataset, recipe(evaluate_every=0), tmp_path, should_stop=after(60))
    file = tmp_path / METRICS
    for damage in ('{"loss": 1}', '[1]', '\x00\x00', '{"step": "x"}', '{"step": 20, "lo'):
        text = damage + '\n' + file.read_text()
        broken = tmp_path / 'broken'
        file.rename(broken)
        file.write_text(text)
        with pytest.raises(ConfigError, match=r'line 1 is damaged[\s\S]*mend or delete'):
            bc.train(dataset, recipe(evaluate_every=0), tmp_path, resume=True)
        assert file.read_text() == text
        broken.rename(file)
    with file.open('a') as stream:
        stream.write(json.dumps({'step': 50})[:5])
    assert bc.train(dataset, recipe(evaluate_every=0), tmp_path, resume=True).finished
