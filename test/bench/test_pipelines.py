import json
import shutil
from dataclasses import replace

import pytest

from il_robot.bench import pipelines
from il_robot.bench.clock import Clock, locked
from il_robot.bench.episodes import FIRST_SEED, MakeScene, measure, reference
from il_robot.bench.outcome import EXPERT, RANDOM
from il_robot.bench.pipelines import CHECKPOINT, POINTS, Work
from il_robot.bench.scenes import Pipeline, Scene
from il_robot.bench.suite import load_suite
from il_robot.data.dataset import open_dataset
from il_robot.errors import ConfigError, SimulationError
from il_robot.policies.checkpoint import load_checkpoint
from il_robot.resources import named_config

SHORT = ('training.steps=40', 'model.hidden=[16]')
SCENE = Scene(demonstrations=(2, 3))
TUNED = {'steps': 200, 'every': 100, 'evaluate_episodes': 1, 'hidden': [8]}
PIPELINES = {
    'cloned': (Pipeline('mlp', SHORT), ['cloned_2', 'cloned_3']),
    'largest': (Pipeline('chunk_mlp', SHORT, curve=False), ['cloned_3']),
    'corrected': (Pipeline('mlp', SHORT, dagger={'rounds': 1, 'episodes': 1}),
                  ['round_0', 'round_1']),
    'filtered': (Pipeline('chunk_mlp', SHORT, finetune={
        **TUNED, 'algorithm': 'filtered', 'options': {'train_steps': 20}}), ['start', 'end']),
    'residual': (Pipeline('chunk_mlp', SHORT, finetune={
        **TUNED, 'options': {'warmup': 20, 'batch_size': 8, 'hidden': [8], 'updates': 0.1}}),
        ['start', 'end']),
    'residual, shaped': (Pipeline('mlp', SHORT, finetune={
        **TUNED, 'reward': 'progress', 'worlds': 2, 'options': {
            'warmup': 20, 'batch_size': 8, 'hidden': [8], 'updates': 0.1}}), ['start', 'end']),
}


def work(folder, pipeline, episodes=2, **strengths):
    return Work(SCENE, pipeline, 0, episodes, folder, strengths)


@pytest.mark.parametrize('name', PIPELINES)
def test_a_pipeline_goes_from_demonstrations_to_a_judged_policy(tmp_path, name):
    pipeline, judged = PIPELINES[name]
    outcome = work(tmp_path, pipeline).run()
    points = json.loads((tmp_path / POINTS).read_text())
    assert [k for k in points if k in judged] == judged
    assert len(outcome.points[-1].scores) == 2 and outcome.jerk > 0
    for what in ('labels', 'steps', 'seconds'):
        taken = [getattr(p, what) for p in outcome.points]
        assert taken == sorted(taken) and taken[0] > 0
    assert outcome.parameters > 0 and outcome.latency_ms[0] > 0
    load_checkpoint(tmp_path / CHECKPOINT)  # an ordinary one


@pytest.mark.parametrize(('name', 'where'), [
    ('cloned', 'measure'), ('cloned', 'train'), ('corrected', 'dagger'), ('filtered', 'finetune'),
    ('cloned', 'latency')])
def test_a_killed_cell_goes_on_and_ends_the_same(tmp_path, monkeypatch, name, where):
    pipeline = PIPELINES[name][0]
    whole = work(tmp_path / 'whole', pipeline).run()
    real, calls = getattr(pipelines, where), []

    def killed(*args, **options):
        calls.append(1)
        if where in ('dagger', 'finetune', 'train'):  # in the middle of it
            real(*args, **options)
        raise KeyboardInterrupt

    monkeypatch.setattr(pipelines, where, killed)
    with pytest.raises(KeyboardInterrupt):
        work(tmp_path / 'cut', pipeline).run()
    monkeypatch.undo()
    assert calls
    cut = work(tmp_path / 'cut', pipeline).run()
    for what in ('scores', 'labels', 'steps'):
        assert [getattr(p, what) for p in cut.points] == [getattr(p, what) for p in whole.points]
    weights = [load_checkpoint(tmp_path / name / CHECKPOINT)[1].state_dict()
               for name in ('whole', 'cut')]
    assert all((weights[0][k] == v).all() for k, v in weights[1].items())


@pytest.mark.parametrize('name', ['bimanual', 'labels', 'robustness'])
def test_every_pipeline_of_a_shipped_suite_can_begin(tmp_path, name):
    """All of its settings but for how long, up to where it would learn for long."""
    for how, pipeline in load_suite(named_config('bench', name)).pipelines.items():
        if pipeline.finetune:
            few = {'steps': 20, 'every': 20, 'evaluate_episodes': 1}
            own = {'train_steps': 20} if pipeline.finetune['algorithm'] == 'filtered' else {
                'hidden': [8], 'batch_size': 8}
            short = replace(pipeline, changes=SHORT, finetune={
                **pipeline.finetune, **few, 'options': own})
            outcome = work(tmp_path / how, short, 1).run()
            assert outcome.points[-1].steps > outcome.points[0].steps


def test_demonstrations_are_those_of_the_rounds_with_the_same_seed(tmp_path):
    cloned, corrected = (Work(SCENE, PIPELINES[name][0], 1, 1, tmp_path / name, {})
                         for name in ('largest', 'corrected'))
    cloned.run()
    corrected.run()
    seeds = [[e.seed for e in open_dataset(path).episodes if not e.round][:2] for path in (
        tmp_path / 'largest' / 'dataset', tmp_path / 'corrected' / 'dagger' / 'dataset')]
    assert seeds[0] == seeds[1] and len(seeds[0]) == 2


def test_two_processes_are_not_at_work_in_one_folder(tmp_path):
    with locked(tmp_path), pytest.raises(ConfigError, match='another run writes'):
        work(tmp_path, PIPELINES['cloned'][0]).run()


def test_seconds_of_what_was_cut_off_count(tmp_path, monkeypatch):
    now = [100.0]
    monkeypatch.setattr('il_robot.bench.clock.time.monotonic', lambda: now[0])
    clock = Clock(tmp_path / 'clock.json')
    with clock.running():
        now[0] += 7
        assert clock.tick() is False and clock.seconds == 7
    now[0] += 50  # nobody is at work
    assert clock.seconds == 7
    again = Clock(tmp_path / 'clock.json')
    with pytest.raises(KeyboardInterrupt), again.running():
        now[0] += 10
        again.tick()
        killed = Clock(tmp_path / 'clock.json')  # by SIGKILL: what the last tick wrote
        now[0] += 3
        raise KeyboardInterrupt
    assert killed.seconds == 17 and Clock(tmp_path / 'clock.json').seconds == 20


def test_the_last_policy_is_tried_under_every_disturbance(tmp_path):
    pipeline = PIPELINES['largest'][0]
    outcome = work(tmp_path, pipeline, shoves=[1, 2], delay=[0.1]).run()
    assert {k: [s for s, _ in v] for k, v in outcome.robustness.items()} == {
        'shoves': [0, 1, 2], 'delay': [0, 0.1]}
    assert outcome.robustness['shoves'][0][1] == outcome.points[-1].scores
    assert all(len(scores) == 2 for v in outcome.robustness.values() for _, scores in v)
    shutil.rmtree(tmp_path / 'dataset')  # nothing is done again
    assert work(tmp_path, pipeline, shoves=[1, 2], delay=[0.1])._under(
        'shoves', 1, tmp_path / CHECKPOINT) == outcome.robustness['shoves'][1][1]


def test_the_ends_of_the_scale():
    expert, chance = (reference(name, SCENE, 2, {'shoves': [1], 'delay': [0.1]})
                      for name in (EXPERT, RANDOM))
    assert [s for s, _ in expert.robustness['shoves']] == [0, 1]
    assert expert.robustness.keys() == {'shoves'} and not chance.robustness
    assert expert.points[0].scores == [1.0, 1.0] and chance.points[0].scores == [0.0, 0.0]
    assert chance.jerk > 100 * expert.jerk


class _Still:
    """Holds; breaks where it is told to."""

    def __init__(self, breaks=()):
        self.breaks, self.seeds = breaks, []

    def __call__(self, env):
        self.env = env
        return self

    def reset(self, rng):
        self.seeds.append(1)
        if len(self.seeds) in self.breaks:
            raise RuntimeError('broken on purpose')

    def act(self, observation):
        return self.env.unwrapped.robot.rest


def test_holding_still_has_no_jerk_and_a_broken_episode_is_said():
    make = MakeScene(SCENE.arguments())
    assert measure(make, _Still(), 2) == ([0.0, 0.0], 0.0)
    with pytest.raises(SimulationError, match=f'at seed {FIRST_SEED + 1}'):
        measure(make, _Still(breaks=(2,)), 3)


def test_demonstrations_are_noisy_and_trials_are_as_the_scene_says():
    assert Scene('insert_peg').shaken == {'action_noise': 0.01, 'noise_share': 0.5}
    assert Scene('insert_peg').steady_noise == 0.0  # with it all the time nobody finishes
    assert Scene('transfer_cube').steady_noise == 0.005
    assert Scene(noise=0.002).shaken == {'action_noise': 0.002, 'noise_share': 1.0}
    scene = Scene(disturbances={'shoves': 1}, noise=0.01)
    assert scene.arguments()['disturbances'] == {'shoves': 1}
    assert scene.arguments(action_noise=0.02)['disturbances'] == {
        'shoves': 1, 'action_noise': 0.02}
