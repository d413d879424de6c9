import json
from dataclasses import replace
from pathlib import Path

import pytest

from il_robot.algorithms.expert import expert_controller
from il_robot.bench import suite as suites
from il_robot.bench.application import Application
from il_robot.bench.episodes import MakeScene, measure
from il_robot.bench.scenes import Pipeline, Scene
from il_robot.bench.suite import Cell, Suite, load_suite, opened, read_failed, read_results
from il_robot.config import build, to_dict
from il_robot.errors import ConfigError
from il_robot.resources import named_config

WHEEL = Application('wheel:Wheel', 'wheel:expert')
SUITE = Suite('mine', {'wheel': WHEEL}, ('bc',), seeds=(0, 1), episodes=3)
SHIPPED = sorted(p.stem for p in named_config('bench', 'quick').parent.glob('*.yaml'))


def test_the_shipped_suites_are_those_of_the_documents():
    assert SHIPPED == ['applications', 'bimanual', 'labels', 'quick', 'robustness']


@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize('name', SHIPPED)
def test_a_shipped_suite_is_whole(name):
    if name == 'applications':
        for needs in ('Box2D', 'highway_env', 'PyFlyt', 'gymnasium_robotics'):
            pytest.importorskip(needs)
    suite = load_suite(named_config('bench', name))
    cells = list(suite.cells())
    paths = [c.path for c in cells]
    assert len(set(paths)) == len(paths) and len(suite.seeds) >= 3 and suite.about
    assert {c.environment for c in cells} == {*suite.applications, *suite.scenes}
    for scene in suite.scenes.values():
        for pipeline in suite.pipelines.values():
            pipeline.recipe(scene.task)


@pytest.mark.parametrize('name', SHIPPED)
def test_no_policy_fits_the_peg_without_the_features_that_the_others_have(name):
    seen = {p.policy: p.recipe('insert_peg').observation
            for p in load_suite(named_config('bench', name)).pipelines.values() if not p.flat}
    assert all(o == next(iter(seen.values())) for o in seen.values()), seen


def test_cells_go_seed_by_seed_after_the_ends_of_the_scale():
    assert [(c.method, c.seed) for c in SUITE.cells()] == [
        ('expert', 0), ('random', 0), ('bc', 0), ('bc', 1)]


def test_a_pipeline_can_be_for_some_scenes_alone():
    suite = Suite('mine', scenes={'cube': Scene(), 'tray': Scene('lift_tray')}, pipelines={
        'bc': Pipeline(), 'gail': Pipeline(flat='gail', scenes=('tray',))}, seeds=(0,))
    found = [(c.environment, c.method) for c in suite.cells() if c.how]
    assert found == [('cube', 'bc'), ('tray', 'bc'), ('tray', 'gail')]


def test_results_say_which_sources_they_are_of(monkeypatch, tmp_path):
    def hash_now():
        suites.code_hash.cache_clear()
        return suites.code_hash()

    first = hash_now()
    assert hash_now() == first and len(first) == 12
    root = tmp_path / 'il_robot'
    for name in ('nodes', 'bench'):
        (root / name).mkdir(parents=True)
    (root / '__init__.py').write_text('')
    with monkeypatch.context() as patch:
        patch.setattr(suites.il_robot, '__file__', str(root / '__init__.py'))
        other = hash_now()
        (root / 'nodes' / 'new.py').write_text('')
        assert hash_now() == other != first, 'no cell runs a node'
        (root / 'bench' / 'new.py').write_text('')
        assert hash_now() != other
    assert hash_now() == first


def test_choices_are_not_asked_of_sac_demos():
    pole = Application('CartPole-v1', 'il_robot.bench.experts:cartpole')
    suite = Suite('mine', {'wheel': WHEEL, 'pole': pole}, ('bc', 'sac_demos'), seeds=(0,))
    assert [(c.environment, c.method) for c in suite.cells() if c.method == 'sac_demos'] == [
        ('wheel', 'sac_demos')]


def test_the_recipe_made_for_a_task_is_taken():
    assert Pipeline(policy='chunk_mlp').recipe('insert_peg').model['chunk_size'] == 8
    assert Pipeline(policy='chunk_mlp').recipe('transfer_cube').model['chunk_size'] == 20
    with pytest.raises(ConfigError, match='nothing'):
        Pipeline(policy='nothing').recipe('insert_peg')


@pytest.mark.parametrize(('change', 'says'), [
    ({'methods': ['bc', 'bcc']}, "did you mean 'bc'"), ({'seeds': []}, 'needs seeds'),
    ({'applications': {}}, 'applications with methods'), ({'episodes': 0}, 'episodes must be'),
    ({'strengths': {'shoves': 3}}, 'must be a list'),
    ({'strengths': {'shovs': [3]}}, "did you mean 'shoves'"),
    ({'strengths': {'shoves': [3, 1]}}, 'must ascend'),
    ({'strengths': {'delay': [-0.1]}}, 'must ascend'),
    ({'on_the_way': 300}, 'on_the_way at most'),
    ({'seeds': [0, 0]}, 'seeds must differ'), ({'seeds': [-1]}, 'seeds must differ'),
    ({'scenes': {'a': {}}, 'pipelines': {'expert': {}}}, 'it is taken'),
    ({'pipelines': {'bc': {}}}, 'it is taken'),
    ({'pipelines': {'a': {'dagger': {'compare': True}}}}, 'compare'),
    ({'pipelines': {'a': {'flat': 'gail', 'dagger': {'rounds': 3}}}}, 'exclude'),
    ({'scenes': {'wheel': {}}, 'pipelines': {'x': {}}}, 'the same name'),
    ({'scenes': {'a': {'task': 'transfer_cub'}}}, 'transfer_cube'),
    ({'scenes': {'a': {'demonstrations': [5, 3]}}}, 'must ascend'),
    ({'scenes': {'a': {'disturbances': {'shove': 1}}}}, "did you mean 'shoves'"),
    ({'pipelines': {'a': {'flat': 'bcc'}}}, 'flat'),
    ({'pipelines': {'a': {'dagger': {'round': 3}}}}, "did you mean 'rounds'"),
    ({'pipelines': {'a': {'dagger': {'rounds': 3}, 'finetune': {'steps': 3}}}}, 'exclude'),
])
def test_a_wrong_suite_says_what_would_be_right(change, says):
    data = {'name': 'x', 'applications': {'wheel': {'env': 'a', 'expert': 'b'}}, **change}
    with pytest.raises(ConfigError, match=says):
        build(Suite, data, 'suite.yaml')


def test_a_folder_is_for_one_run_at_a_time(tmp_path):
    with opened(SUITE, tmp_path), \
            pytest.raises(ConfigError, match='another run writes'), opened(SUITE, tmp_path):
        pass
    with opened(SUITE, tmp_path):  # free again
        pass


def test_a_grown_suite_goes_on_in_its_folder(tmp_path):
    with opened(SUITE, tmp_path):
        pass
    more = replace(SUITE, applications={**SUITE.applications, 'more': WHEEL}, seeds=(0, 1, 2),
                   methods=('bc', 'dagger'), scenes={'cube': Scene()},
                   pipelines={'act': Pipeline('act')})
    with opened(more, tmp_path):
        pass
    assert json.loads((tmp_path / suites.SUITE).read_text())['suite']['seeds'] == [0, 1, 2]


@pytest.mark.parametrize('other', [
    replace(SUITE, episodes=4), replace(SUITE, on_the_way=2),
    replace(SUITE, applications={'wheel': replace(WHEEL, gamma=0.5)}),
    replace(SUITE, strengths={'shoves': [1]})])
def test_another_suite_is_refused_there(tmp_path, other):
    with opened(SUITE, tmp_path):
        pass
    with pytest.raises(ConfigError, match='another --output'), opened(other, tmp_path):
        pass


def test_a_part_does_not_forget_the_rest(tmp_path):
    two = replace(SUITE, applications={'wheel': WHEEL, 'more': WHEEL}, methods=('bc', 'gail'))
    with opened(two, tmp_path):
        pass
    with opened(replace(SUITE, seeds=(7,)), tmp_path):
        pass
    changed = replace(two, applications={'wheel': WHEEL, 'more': replace(WHEEL, gamma=0.5)})
    with pytest.raises(ConfigError, match='another more'), opened(changed, tmp_path):
        pass
    known = json.loads((tmp_path / suites.SUITE).read_text())['suite']
    assert known['applications'].keys() == {'wheel', 'more'}
    assert known['seeds'] == [0, 1, 7] and known['methods'] == ['bc', 'gail']


def test_another_recipe_is_another_pipeline(tmp_path, monkeypatch):
    suite = Suite('mine', scenes={'cube': Scene()}, pipelines={'chunk': Pipeline('chunk_mlp')})
    with opened(suite, tmp_path):
        pass
    other = Pipeline('chunk_mlp', ('training.steps=7',)).recipe('transfer_cube')
    monkeypatch.setattr(Pipeline, 'recipe', lambda self, task: other)
    with pytest.raises(ConfigError, match='another chunk on transfer_cube'), \
            opened(suite, tmp_path):
        pass


def test_names_with_a_slash_have_results_too(tmp_path):
    cell = Cell('il_robot.sim:il_robot/TransferCube-v0', 'expert', 0, 1, WHEEL)
    path = tmp_path / suites.RESULTS / cell.path
    path.parent.mkdir(parents=True)
    path.write_text('{"a": 1}')
    assert read_results(tmp_path) == [{'a': 1}]
    failed = (tmp_path / suites.FAILED / cell.path).with_suffix('.txt')
    failed.parent.mkdir(parents=True)
    failed.write_text('Traceback ...\nthe reason\n')
    assert read_failed(tmp_path) == {
        'il_robot.sim:il_robot/TransferCube-v0, expert, seed 0': 'the reason'}


@pytest.mark.parametrize('name', ['bimanual', 'labels', 'robustness'])
def test_the_expert_of_a_shipped_scene_can_demonstrate_it(name):
    """With the noise of demonstrations; else a cell would learn from lucky ones, or from none."""
    scenes = load_suite(named_config('bench', name)).scenes
    for scene in {json.dumps(to_dict(s)): s for s in scenes.values()}.values():
        scores, _ = measure(MakeScene(scene.arguments(**scene.shaken)), expert_controller, 6)
        assert sum(scores) >= 4, scene


def test_results_of_another_version_are_not_mixed_in(tmp_path, monkeypatch):
    with opened(SUITE, tmp_path):
        pass
    monkeypatch.setattr(suites, '__version__', '99.0')
    with pytest.raises(ConfigError, match='version'), opened(SUITE, tmp_path):
        pass


def test_a_cell_says_where_and_with_what_it_was_made(tmp_path):
    cell = next(c for c in SUITE.cells() if c.method == 'bc')
    result = json.loads(json.dumps(cell.run(tmp_path)))
    assert result['machine'] and result['packages'].keys() >= {'torch', 'gymnasium'}
    assert result['wall_seconds'] > 0 and cell.path == Path('wheel/bc/0.json')
    path = tmp_path / suites.RESULTS / cell.path
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(result))
    assert read_results(tmp_path) == [result]
