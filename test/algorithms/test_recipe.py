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
        assert recipe.model and (seeing or recipe.policy == name)
        assert bool(recipe.observation.cameras) == seeing


def test_settings_reach_every_part_even_keys_the_file_left_out():
    recipe = make_recipe({'policy': 'chunk_mlp'}, [
        'training.steps=7', 'model.hidden=[8]', 'execution.mode=newest', 'training.batch_size=3'])
    assert recipe.training.steps == 7 and recipe.training.batch_size == 3
    assert recipe.model['hidden'] == [8] and recipe.execution.mode == 'newest'


@pytest.mark.parametrize(('data', 'settings', 'message'), [
    ({'policy': 'act2'}, [], 'unknown policy'),
    ({}, [], 'missing key'),
    ({'policy': 'mlp', 'model': {'chunk_size': 3}}, [], 'unknown key'),
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
