import pytest

from il_robot.algorithms.recipe import load_recipe, make_recipe
from il_robot.errors import ConfigError
from il_robot.resources import named_config, resource


def test_every_shipped_recipe_loads():
    names = [p.stem for p in resource('config', 'train').glob('*.yaml')]
    assert {'mlp', 'chunk_mlp'} <= set(names)
    for name in names:
        recipe = load_recipe(named_config('train', name))
        seeing = name.endswith('_images')
        # chunk_mlp_insert_peg.yaml is of policy chunk_mlp
        assert recipe.model and (seeing or name.startswith(recipe.policy))
        assert bool(recipe.observation.cameras) == seeing


def test_settings_reach_every_part_even_keys_the_file_left_out():
    recipe = make_recipe({'policy': 'chunk_mlp'}, [
        'training.steps=7', 'model.hidden=[8]', 'execution.mode=newest', 'training.batch_size=3'])
    assert recipe.training.steps == 7 and recipe.training.batch_size == 3
    assert recipe.model['hidden'] == [8] and recipe.execution.mode == 'newest'


@pytest.mark.parametrize(('data', 'settings', 'message'), [
    ({'policy': 'act2'}, [], 'unknown policy'),
    ({}, [], 'missing key'),
    ({'policy': 'mlp', 'model': {'chunk_size': 3}}, [], 'belongs to policy chunk_mlp'),
    ({'policy': 'mlp', 'model': {'chunk_syze': 3}}, [], 'unknown key'),
    ({'policy': 'mlp'}, ['stepz=3'], "did you mean 'steps'"),
    ({'policy': 'mlp'}, ['training.stepz=3'], "did you mean 'steps'"),
    ({'policy': 'mlp'}, ['training.steps=many'], 'must be int'),
    ({'policy': 'mlp'}, ['training.steps=0'], 'steps must be >= 1'),
    ({'policy': 'mlp'}, ['training.ema_decay=1.0'], 'ema_decay'),
    ({'policy': 'mlp'}, ['model.widths=[3]'], 'unknown key'),
    ({'policy': 'mlp'}, ['steps'], 'key=value'),
    ({'policy': 'mlp', 'training': {'label': 'both'}}, [], 'executed, expert'),
])
def test_mistakes_are_told(data, settings, message):
    with pytest.raises(ConfigError, match=message):
        make_recipe(data, settings)


def test_a_key_alone_is_short_where_one_section_has_it():
    short = ['chunk_size=7', 'steps=9', 'n_action_steps=2', 'policy=chunk_mlp']
    full = ['model.chunk_size=7', 'training.steps=9', 'execution.n_action_steps=2']
    data = {'policy': 'chunk_mlp'}
    assert make_recipe(data, short) == make_recipe(data, full)


def test_a_key_that_two_sections_have_must_be_written_in_full(monkeypatch):
    from il_robot.algorithms import recipe
    monkeypatch.setattr(recipe, 'to_dict', lambda _: {
        'policy': 'x', 'model': {'mode': 1}, 'execution': {'mode': 2}})
    with pytest.raises(ConfigError, match=r'there are model.mode and execution.mode; write one'):
        recipe._full_key(None, 'mode=3')
