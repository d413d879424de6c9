import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import toy
from safetensors.torch import load_file
from tuned import cloned

import il_robot.algorithms.finetune
from il_robot.algorithms.collect_rounds import Place, collect_demonstrations, collect_round
from il_robot.algorithms.controller import PolicyFactory
from il_robot.algorithms.corrections import GatedFactory
from il_robot.algorithms.evaluate import EpisodeResult, Evaluation, evaluate
from il_robot.algorithms.filtered import FilteredConfig, weighted
from il_robot.algorithms.finetune import Around, finetune
from il_robot.algorithms.finetune_config import (
    CONFIG,
    FinetuneConfig,
    extend_finetune,
    open_finetune,
    read_finetune,
    read_records,
)
from il_robot.algorithms.methods import Correction
from il_robot.algorithms.rlpd import RLPDConfig
from il_robot.algorithms.run_state import STATE
from il_robot.checkpoints import find_checkpoint, list_checkpoints
from il_robot.config import build
from il_robot.data.dataset import open_dataset
from il_robot.errors import ConfigError
from il_robot.policies.checkpoint import load_checkpoint
from il_robot.types import Outcome

ENV = toy.ToyFactory()
OPTIONS = {'batch_size': 32, 'hidden': [16], 'warmup': 100, 'updates': 0.25, 'capacity': 5000}
CONFIG_ = {'steps': 600, 'every': 200, 'evaluate_episodes': 5, 'final_episodes': 5, 'worlds': 2,
           'target': 2.0, 'hidden': [16], 'options': OPTIONS}


@pytest.fixture(scope='module')
def source(tmp_path_factory):
    """A policy that solves some."""
    return find_checkpoint(cloned(tmp_path_factory.mktemp('cloned') / 'run', 'chunk_mlp', 150, 4,
                                  mode='newest', n_action_steps=2))


def opened(folder, source, dataset=None, **changes):
    open_finetune(folder, build(FinetuneConfig, {**CONFIG_, **changes}), source, dataset, {})
    return folder


def go_on(folder, should_stop=lambda: False, seen=None):
    return finetune(folder, Around(
        ENV, 1, should_stop, shown=False,
        on_record=(lambda record: None) if seen is None else seen.append))


@pytest.fixture(scope='module')
def whole(source, tmp_path_factory):
    folder, seen = opened(tmp_path_factory.mktemp('finetune') / 'run', source), []
    assert go_on(folder, seen=seen)
    assert read_records(folder) == seen
    return folder


def test_it_is_evaluated_before_on_the_way_and_at_the_end(whole, source):
    records = read_records(whole)
    assert [(r['kind'], r['steps']) for r in records] == [
        ('start', 0), ('during', 0), ('during', 200), ('during', 400), ('during', 600),
        ('end', 600)]
    assert records[-1]['why'] == '600 steps are done'
    assert all(r['evaluated'] == 5 and r['interval_95'][0] <= r['success_rate'] + 1e-9
               for r in records)
    minutes = [r['minutes'] for r in records if r['kind'] == 'during']
    assert minutes == sorted(minutes)
    # nothing is corrected at first
    plain = evaluate(ENV, PolicyFactory(source), range(5))
    assert records[1]['successes'] == sum(e.success for e in plain.results.values())


def test_what_comes_out_is_an_ordinary_checkpoint_and_the_best_one(whole):
    during = [r for r in read_records(whole) if r['kind'] == 'during']
    kept = [int(p.name) for p in list_checkpoints(whole)]
    assert kept == [r['steps'] for r in during if r['better']]
    best = find_checkpoint(whole)
    rates = {r['steps']: r['success_rate'] for r in during}
    assert rates[int(best.name)] == max(rates.values())
    checkpoint, policy = load_checkpoint(best, robot=toy.SPEC)
    assert checkpoint.policy == 'residual' and checkpoint.training['finetune'] == 'residual'
    found = evaluate(ENV, PolicyFactory(best), range(5))
    assert sum(e.success for e in found.results.values()) == 5 * rates[int(best.name)]


def test_a_run_that_was_stopped_goes_on_to_its_end(source, tmp_path):
    folder, calls = opened(tmp_path / 'run', source), [0]

    def stop():
        calls[0] += 1
        return calls[0] > 220  # in the middle of the exploration

    assert not go_on(folder, stop)
    before = read_records(folder)
    with np.load(folder / STATE / 'experience.npz') as experience:
        assert int(experience['place'][1]) > 100
    assert go_on(folder)
    records = read_records(folder)
    assert records[:len(before)] == before and records[-1]['kind'] == 'end'
    assert [r['steps'] for r in records if r['kind'] == 'during'][-1] == 600
    assert go_on(folder)  # finished: nothing is done again
    assert read_records(folder) == records


def test_what_was_learned_before_an_evaluation_that_was_stopped_is_kept(source, tmp_path):
    folder = opened(tmp_path / 'run', source)
    assert not go_on(folder, lambda: (folder / STATE).exists())  # saved, and then evaluated
    saved = json.loads((folder / STATE / 'progress.json').read_text())
    assert [r['steps'] for r in read_records(folder)] == [0, 0] and saved['due']
    assert go_on(folder)
    next_one = read_records(folder)[2]
    assert next_one['steps'] == 200
    for key in ('learning_minutes', 'training_episodes'):  # nothing was learned again
        assert next_one[key] == saved[key] > 0


class KilledError(Exception):
    """As abrupt as a kill, in the same process."""


def killed_at(folder, steps):
    def die(record):
        if (record['kind'], record['steps']) == ('during', steps):
            raise KilledError

    with pytest.raises(KilledError):
        finetune(folder, Around(ENV, 1, shown=False, on_record=die))


def test_a_killed_run_goes_on_from_its_last_evaluation(source, tmp_path):
    folder = opened(tmp_path / 'run', source)
    killed_at(folder, 400)
    before = read_records(folder)
    (folder / f'.{STATE}').mkdir()  # while writing
    (folder / STATE).rename(folder / f'.{STATE}.old')  # between two renames
    assert go_on(folder)
    records = read_records(folder)
    assert records[:len(before)] == before
    assert [(r['kind'], r['steps']) for r in records[len(before):]] == [
        ('during', 600), ('end', 600)]
    assert records[-2]['learning_minutes'] > before[-1]['learning_minutes']
    assert records[-2]['training_episodes'] > before[-1]['training_episodes']


def scripted(monkeypatch, *solved):
    """Evaluations that bring these successes, one after the other."""
    left = list(solved)

    def evaluated(make_env, make_controller, seeds, **words):
        count = left.pop(0)
        return Evaluation({seed: EpisodeResult(seed, number < count, 10, 0.0)
                           for number, seed in enumerate(seeds)})

    monkeypatch.setattr(il_robot.algorithms.finetune, 'evaluate', evaluated)


@pytest.mark.parametrize('killed', [False, True])
def test_a_policy_that_has_become_much_worse_is_taken_back(
        source, tmp_path, monkeypatch, killed):
    folder = opened(tmp_path / 'run', source)
    scripted(monkeypatch, 2, 3, 5, 0)  # before; after 0, 200 and 400 decisions
    if killed:  # when it is known, and not yet done
        killed_at(folder, 400)
    assert not go_on(folder, lambda: len(read_records(folder)) == 4)
    assert [r.get('taken_back') for r in read_records(folder)] == [None, False, False, True]
    best = find_checkpoint(folder)
    assert best.name == '000000200'
    learner, trunk = load_file(folder / STATE / 'learner.safetensors'), \
        load_checkpoint(best)[1].trunk.state_dict()
    assert all(torch.equal(learner[f'tuned.actor.net.{k}'], v) for k, v in trunk.items())
    assert learner['steps'] == 400 and learner['actor_every'] == 2 * RLPDConfig.actor_every


def test_it_ends_at_the_target_or_without_progress_and_goes_on_where_more_is_asked(
        source, tmp_path, monkeypatch):
    folder = opened(tmp_path / 'run', source, target=0.8, patience=2, steps=2000)
    scripted(monkeypatch, 2, 2, 3, 3, 3, 3)
    assert go_on(folder)
    last = read_records(folder)[-1]
    assert last['why'] == '2 evaluations brought nothing better' and last['steps'] == 600
    extend_finetune(folder, patience=0)
    assert read_records(folder)[-1]['kind'] == 'during'
    scripted(monkeypatch, 4, 3)
    assert go_on(folder)
    last = read_records(folder)[-1]
    assert last['why'] == '80.0 % is the target' and last['checkpoint'] == 'checkpoints/000000800'
    with pytest.raises(ConfigError, match='target'):
        extend_finetune(folder, target=0.0)


def cut(path, size):
    path.write_bytes(path.read_bytes()[:size])


@pytest.mark.parametrize('damage', [
    lambda state: cut(state / 'experience.npz', 0),
    lambda state: cut(state / 'experience.npz', 5000),
    lambda state: cut(state / 'learner.safetensors', 0),
    lambda state: cut(state / 'learner.safetensors', 3000),
    lambda state: (state / 'progress.json').unlink(),
    lambda state: (state / 'progress.json').write_text('{}'),
    shutil.rmtree])
def test_without_a_whole_state_it_says_how_to_go_on_from_the_best(whole, tmp_path, damage):
    folder = Path(shutil.copytree(whole, tmp_path / 'run'))
    damage(folder / STATE)
    with pytest.raises(ConfigError, match=f'--from {find_checkpoint(folder)} --output'):
        go_on(folder)


def test_a_corrected_policy_goes_on_with_its_own_correction(whole, tmp_path):
    best = find_checkpoint(whole)
    folder = opened(tmp_path / 'run', best, steps=200, limit=0.1, hold=1)
    assert go_on(folder)
    own, before = (load_checkpoint(path)[1] for path in (find_checkpoint(folder), best))
    assert (own.limit, own.hold) == (before.limit, before.hold) == (0.5, 10)
    records = read_records(folder)
    assert records[2]['control_steps'] == 10 * records[2]['steps']
    start = load_checkpoint(folder / 'start')[1].state_dict()
    assert all(torch.equal(start[k], v) for k, v in before.state_dict().items())
    for algorithm in ('rlpd', 'ppo'):
        with pytest.raises(ConfigError, match='residual or residual_ppo'):
            go_on(opened(tmp_path / algorithm, best, algorithm=algorithm, options={}))


@pytest.mark.parametrize('algorithm', ['rlpd', 'ppo'])
def test_the_policy_itself_can_be_changed(source, tmp_path, algorithm):
    options = OPTIONS if algorithm == 'rlpd' else {
        'rollout': 200, 'batch_size': 50, 'epochs': 2, 'critic': [16], 'warmup': 0}
    folder = opened(tmp_path / 'run', source, algorithm=algorithm, options=options, steps=400)
    assert go_on(folder)
    before, after = (load_checkpoint(p)[1] for p in (source, folder / 'start'))
    assert all((a == b).all() for a, b in zip(before.parameters(), after.parameters()))
    assert load_checkpoint(find_checkpoint(folder))[0].policy == 'chunk_mlp'


def test_a_correction_can_be_learned_on_policy(source, tmp_path):
    options = {'rollout': 200, 'batch_size': 50, 'epochs': 2, 'critic': [16], 'warmup': 0}
    folder = opened(tmp_path / 'run', source, algorithm='residual_ppo', options=options,
                    steps=400, evaluate_episodes=2, final_episodes=2, hold=2)
    assert go_on(folder)
    (_, base), (_, start) = load_checkpoint(source), load_checkpoint(folder / 'start')
    checkpoint, policy = load_checkpoint(find_checkpoint(folder), robot=toy.SPEC)
    assert checkpoint.policy == 'residual' and policy.hold == 2
    learner = load_file(folder / STATE / 'learner.safetensors')
    moved = Correction(start)
    moved.load_state_dict({k.removeprefix('actor.net.'): v for k, v in learner.items()
                           if k.startswith('actor.net.')})
    start.trunk.load_state_dict(moved.trunk.state_dict())
    dim = checkpoint.action_dim
    obs = torch.randn(3, next(start.trunk.parameters()).shape[1])
    added = start.correction(obs[:, :-dim], obs[:, -dim:])
    assert added.abs().max() > 0 and torch.equal(moved(obs), added)  # as the policy will add it
    for each in (start, policy):
        assert all((v == base.state_dict()[k]).all() for k, v in each.base.state_dict().items())


@pytest.fixture(scope='module')
def demonstrations(tmp_path_factory):
    path = tmp_path_factory.mktemp('demonstrations') / 'data'
    assert collect_demonstrations(
        Place(ENV), path, first_seed=1000, enough=lambda episodes, rows: episodes >= 4)
    return path


FILTERED = {'algorithm': 'filtered', 'steps': 3600, 'every': 1200, 'final_episodes': 40,
            'evaluate_episodes': 40,
            'options': {'train_steps': 150, 'explore': 0.1, 'learning_rate': 3e-3}}


def test_own_successes_are_imitated_and_failures_tried_again(source, demonstrations, tmp_path):
    folder = opened(tmp_path / 'run', source, demonstrations, **FILTERED)
    assert go_on(folder)
    records = read_records(folder)
    assert records[-1]['successes'] > records[0]['successes'] + 4
    own = open_dataset(folder / 'dataset')
    assert len(open_dataset(demonstrations).episodes) == 4  # not written to
    first, second = ([e for e in own.episodes if e.round == number] for number in (1, 2))
    failed = [e.seed for e in first if e.outcome is Outcome.FAILURE]
    assert failed and set(failed[:2]) <= {e.seed for e in second}
    tried = [(e.seed, e.round) for e in own.episodes]
    assert len(set(tried)) == len(tried)
    checkpoint, _ = load_checkpoint(find_checkpoint(folder), robot=toy.SPEC)
    assert checkpoint.policy == 'chunk_mlp' and checkpoint.training['finetune'] == 'filtered'


def test_every_step_of_all_tries_counts_by_its_advantage(source, demonstrations, tmp_path):
    folder = opened(tmp_path / 'run', source, demonstrations, **{
        **FILTERED, 'algorithm': 'awr', 'steps': 2400, 'options': {
            **FILTERED['options'], 'explore_new': 0.1, 'value_steps': 100}})
    assert go_on(folder)
    own = open_dataset(folder / 'dataset')
    described, _ = load_checkpoint(find_checkpoint(folder), robot=toy.SPEC)
    config = FilteredConfig(temperature=1.0, value_steps=100, last_rounds=1, demonstrations=0.25)
    weight = weighted(own, described, config, 0).weight
    newest = max(e.round for e in own.episodes)
    row_round = np.array([own.episodes[e].round for e in own.episode_of_row])
    assert (weight[row_round == newest] > 0).all()
    assert not weight[(row_round > 0) & (row_round < newest)].any()
    assert weight[row_round == 0].sum() / weight.sum() == pytest.approx(0.25, abs=0.01)


def test_own_rounds_follow_those_of_corrections(source, demonstrations, tmp_path):
    given = tmp_path / 'given'
    shutil.copytree(demonstrations, given)
    assert collect_round(Place(ENV), given, GatedFactory(source, explore=0.0), [77], number=3)
    folder = opened(tmp_path / 'run', source, given, **{**FILTERED, 'steps': 1200})
    assert go_on(folder)
    rounds = [e.round for e in open_dataset(folder / 'dataset').episodes]
    assert rounds.count(3) == 1 and set(rounds) == {0, 3, 4}


def test_who_is_stuck_is_not_waited_for(source, demonstrations, tmp_path):
    folder = opened(tmp_path / 'run', source, demonstrations, **{
        **FILTERED, 'steps': 1200, 'options': {**FILTERED['options'], 'cut': 1.0}})
    assert go_on(folder)
    episodes = open_dataset(folder / 'dataset').episodes
    longest = np.quantile([len(e) for e in episodes if not e.round], 0.95)
    assert max(len(e) for e in episodes if e.round == 1) <= np.ceil(longest)


def test_a_stopped_round_keeps_its_episodes(source, demonstrations, tmp_path):
    folder = opened(tmp_path / 'run', source, demonstrations, **FILTERED, worlds=1)
    calls = [0]

    def stop():
        calls[0] += len(read_records(folder)) > 1  # evaluated twice; then it tries
        return calls[0] > 12

    assert not go_on(folder, stop)
    kept = [e.seed for e in open_dataset(folder / 'dataset').episodes if e.round]
    assert kept
    tries = folder / 'tries.jsonl'  # as if they had gone back
    tries.write_text(''.join(
        f'{json.dumps([number, seed, steps + 1000])}\n' for number, seed, steps in map(
            json.loads, tries.read_text().splitlines())) + '[1, 20')
    assert go_on(folder)
    records = read_records(folder)
    assert records[-1]['kind'] == 'end'
    assert records[2]['steps'] > 2 * FILTERED['every']  # fewer tries fill the round
    assert [e.seed for e in open_dataset(folder / 'dataset').episodes if e.round][
        :len(kept)] == kept


@pytest.mark.parametrize(('options', 'says'), [
    ({'explore': 1.0}, 'explore must be'), ({'again': 2.0}, 'again must be'),
    ({'cut': -1.0}, 'cut must be'), ({'temperature': float('nan')}, 'temperature must be'),
    ({'train_steps': 0}, 'train_steps must be'), ({'explor': 0.0}, "did you mean 'explore'")])
def test_options_of_filtered_are_checked(source, demonstrations, tmp_path, options, says):
    folder = opened(tmp_path / 'run', source, demonstrations, algorithm='filtered',
                    options=options)
    with pytest.raises(ConfigError, match=says):
        go_on(folder)


def test_filtered_needs_demonstrations(source, tmp_path):
    folder = opened(tmp_path / 'run', source, algorithm='filtered', options={})
    with pytest.raises(ConfigError, match='--dataset'):
        go_on(folder)


def test_what_cannot_be_tuned_is_refused(source, whole, tmp_path):
    with pytest.raises(ConfigError, match='--resume'):
        opened(whole, source)
    with pytest.raises(ConfigError, match='no run to go on with'):
        go_on(tmp_path / 'nothing')
    folder = opened(tmp_path / 'run', source, options={'gama': 0.9})
    with pytest.raises(ConfigError, match="did you mean 'gamma'"):
        go_on(folder)
    assert not list(folder.iterdir())  # the same folder will do once it is mended
    with pytest.raises(ConfigError, match='algorithm'):
        build(FinetuneConfig, {'algorithm': 'ddpg'}, 'finetune')
    mixed = find_checkpoint(cloned(tmp_path / 'mixed', 'chunk_mlp', 5, 2, mode='ensemble'))
    with pytest.raises(ConfigError, match='mode=newest'):
        go_on(opened(tmp_path / 'ppo', mixed, algorithm='ppo', options={}))


def test_the_file_says_all(source, tmp_path):
    folder = opened(tmp_path / 'run', source)
    config, start, dataset, environment = read_finetune(folder)
    assert config.options == OPTIONS and start == source.resolve()
    assert dataset is None and environment == {}
    assert (folder / CONFIG).exists()
