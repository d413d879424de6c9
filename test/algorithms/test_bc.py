import json
from dataclasses import replace

import numpy as np
import pytest
import torch
import toy

from il_robot.algorithms import bc
from il_robot.algorithms.learner import schedule
from il_robot.algorithms.recipe import make_recipe
from il_robot.algorithms.records import METRICS, read_metrics
from il_robot.algorithms.runs import PICTURE, read_run
from il_robot.checkpoints import list_checkpoints
from il_robot.config import to_dict
from il_robot.errors import ConfigError, DatasetError
from il_robot.policies.checkpoint import load_checkpoint, load_training_state

RECIPE = make_recipe({
    'policy': 'chunk_mlp',
    'model': {'hidden': [32, 32], 'chunk_size': 4},
    'training': {
        'steps': 200, 'batch_size': 32, 'warmup_steps': 10, 'log_every': 20,
        'validate_every': 50, 'checkpoint_every': 60, 'ema_decay': 0.99, 'validation': 0.2,
        'device': 'cpu', 'threads': 1,
    },
})


@pytest.fixture(scope='module')
def dataset():
    return toy.toy_dataset()


def after(calls):
    """should_stop that is True from the given call on."""
    left = iter([False] * calls)
    return lambda: next(left, True)


def with_training(**changes):
    return replace(RECIPE, training=replace(RECIPE.training, **changes))


@pytest.mark.parametrize(('policy', 'ema_decay', 'noise'), [
    ('mlp', 0.0, 0.0), ('mlp', 0.99, 0.1), ('chunk_mlp', 0.99, 0.1), ('mlp_gaussian', 0.99, 0.1)])
def test_a_resumed_run_has_the_bits_of_an_uninterrupted_one(
    dataset, tmp_path, policy, ema_decay, noise
):
    training = replace(RECIPE.training, ema_decay=ema_decay, feature_noise=noise)
    recipe = make_recipe(
        {'policy': policy, 'model': {'hidden': [32, 32]}, 'training': to_dict(training)})
    straight = bc.train(dataset, recipe, tmp_path / 'a')
    stopped = bc.train(dataset, recipe, tmp_path / 'b', should_stop=after(100))
    assert stopped.step == 100 and not stopped.finished
    resumed = bc.train(dataset, recipe, tmp_path / 'b', resume=True)
    assert straight.finished and resumed.finished and resumed.step == 200
    first, second = (load_training_state(r.checkpoint) for r in (straight, resumed))
    assert first.keys() == second.keys()
    for key in first:
        assert torch.equal(first[key], second[key]), key
    (a, policy), (b, other) = (load_checkpoint(r.checkpoint) for r in (straight, resumed))
    for key, value in policy.state_dict().items():
        assert torch.equal(value, other.state_dict()[key]), key
    strip = [{k: v for k, v in c.metrics.items() if k != 'rate'} for c in (a, b)]
    assert strip[0] == strip[1]


def test_one_record_is_no_curve_and_no_picture(dataset, tmp_path):
    once = replace(RECIPE, training=replace(RECIPE.training, steps=20))
    bc.train(dataset, once, tmp_path)
    assert len(read_metrics(tmp_path)) == 1 and not (tmp_path / PICTURE).exists()


def test_the_loss_falls_and_everything_is_written(dataset, tmp_path):
    seen = []
    result = bc.train(dataset, RECIPE, tmp_path, on_log=seen.append)
    records = read_metrics(tmp_path)
    assert records == seen and [r['step'] for r in records] == list(range(20, 201, 20))
    assert records[-1]['loss'] < 0.5 * records[0]['loss']
    validated = [r['step'] for r in records if 'validation_loss' in r]
    assert validated == [60, 100, 160, 200] and result.metrics == records[-1]
    assert (tmp_path / PICTURE).stat().st_size > 1000
    assert [p.name for p in list_checkpoints(tmp_path)] == ['step_00000180', 'step_00000200']
    description, policy = load_checkpoint(tmp_path, robot=toy.SPEC)
    assert description.dataset == dataset.hash and description.task == 'toy'
    assert description.layout.objects == ('ball',) and policy.chunk_size == 4
    recipe, data = read_run(tmp_path)
    assert recipe == RECIPE and data['dataset_hash'] == dataset.hash


def test_a_stop_at_any_moment_leaves_a_checkpoint(dataset, tmp_path):
    for calls in (0, 7):
        result = bc.train(dataset, RECIPE, tmp_path / str(calls), should_stop=after(calls))
        assert result.step == calls
        assert load_checkpoint(result.checkpoint)[0].step == calls


def test_records_behind_the_newest_checkpoint_are_dropped_on_resume(dataset, tmp_path):
    bc.train(dataset, RECIPE, tmp_path, should_stop=after(60))
    with (tmp_path / METRICS).open('a') as file:
        file.write(json.dumps({'step': 80, 'loss': 9.0}) + '\n{"step": 100, "lo')
    bc.train(dataset, RECIPE, tmp_path, resume=True)
    assert [r['step'] for r in read_metrics(tmp_path)] == list(range(20, 201, 20))


def test_resuming_a_finished_run_changes_nothing(dataset, tmp_path):
    first = bc.train(dataset, RECIPE, tmp_path)
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / 'checkpoints').rglob('*')}
    assert bc.train(dataset, RECIPE, tmp_path, resume=True).checkpoint == first.checkpoint
    assert before == {p: p.stat().st_mtime_ns for p in (tmp_path / 'checkpoints').rglob('*')}


def test_a_run_is_never_overwritten_nor_mixed(dataset, tmp_path):
    bc.train(dataset, RECIPE, tmp_path, should_stop=after(5))
    with pytest.raises(ConfigError, match='not empty.*--resume'):
        bc.train(dataset, RECIPE, tmp_path)
    with pytest.raises(ConfigError, match=r'another recipe[\s\S]*training'):
        bc.train(dataset, with_training(batch_size=16), tmp_path, resume=True)
    with pytest.raises(DatasetError, match='started on dataset'):
        bc.train(toy.toy_dataset(3), RECIPE, tmp_path, resume=True)
    with pytest.raises(ConfigError, match='nothing to resume'):
        bc.train(dataset, RECIPE, tmp_path / 'other', resume=True)
    assert not (tmp_path / 'other').exists()


def test_a_dataset_that_cannot_be_used_leaves_no_folder(tmp_path):
    failures = toy.toy_dataset(2, outcomes=['failure', 'failure'])
    with pytest.raises(DatasetError, match='no episode with outcome'):
        bc.train(failures, RECIPE, tmp_path / 'run')
    assert not (tmp_path / 'run').exists()


def test_a_diverging_loss_is_told(dataset, tmp_path):
    wild = with_training(learning_rate=1e30, warmup_steps=0, grad_clip=0.0)
    with pytest.raises(ConfigError, match='lower training.learning_rate'):
        bc.train(dataset, wild, tmp_path)


def test_robots_are_checked(tmp_path):
    nameless = toy.toy_dataset(3, spec=None)
    result = bc.train(nameless, with_training(steps=2), tmp_path / 'a')
    assert load_checkpoint(result.checkpoint)[0].robot is None
    result = bc.train(nameless, with_training(steps=2), tmp_path / 'b', robot=toy.SPEC)
    assert load_checkpoint(result.checkpoint, robot=toy.SPEC)[0].robot == toy.SPEC
    other = replace(toy.SPEC, rates=replace(toy.SPEC.rates, control=10.0))
    with pytest.raises(DatasetError, match=r'another robot[\s\S]*50 \| 10'):
        bc.train(toy.toy_dataset(3), RECIPE, tmp_path / 'c', robot=other)
    big = replace(toy.SPEC, joints=(*toy.SPEC.joints, replace(toy.SPEC.joints[0], name='x')),
                  arms=tuple(replace(a, rest=(0.0, 0.0, 0.5)) for a in toy.SPEC.arms))
    with pytest.raises(DatasetError, match='actions of 4 numbers'):
        bc.train(nameless, RECIPE, tmp_path / 'd', robot=big)


def test_relative_targets_of_a_robot_that_is_known_or_not(tmp_path):
    config = with_training(steps=2, actions='relative')
    known = bc.train(toy.toy_dataset(3), config, tmp_path / 'a')
    assert load_checkpoint(known.checkpoint)[0].relative == ('left_slide', 'right_slide')
    nameless = bc.train(toy.toy_dataset(3, spec=None), config, tmp_path / 'b')
    assert len(load_checkpoint(nameless.checkpoint)[0].relative) == 4
    dataset = toy.toy_dataset(3, spec=None)
    short = {**dataset.columns, 'action': dataset.action[:, :3],
             'proposal.expert': dataset.expert[:, :3]}
    with pytest.raises(DatasetError, match='4 numbers of state and 3 of action.*=absolute'):
        bc.train(replace(dataset, columns=short), config, tmp_path / 'c')


def test_schedule_warms_up_and_ends_at_zero():
    config = with_training(learning_rate=1.0).training
    rates = [schedule(step, config) for step in range(201)]
    assert rates[0] == pytest.approx(0.1) and rates[9] == rates[10] == 1.0
    assert np.all(np.diff(rates[10:]) < 0) and rates[200] == pytest.approx(0, abs=1e-9)


def test_unknown_devices_are_refused():
    with pytest.raises(ConfigError, match='use auto or cpu'):
        bc.choose_device('gpu')
    assert bc.choose_device('cpu').type == 'cpu'


def test_a_batch_larger_than_the_dataset_is_cut(tmp_path):
    small = toy.toy_dataset(1)
    recipe = with_training(batch_size=10_000, steps=3, validation=0.0)
    assert bc.train(small, recipe, tmp_path).finished
