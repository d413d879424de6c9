from dataclasses import replace

import pytest

from il_robot.data import keys
from il_robot.data.features import (
    feature_differences,
    is_image,
    is_numeric,
    make_features,
    object_names,
)
from il_robot.errors import DatasetError


def test_columns_of_the_architecture(spec, views):
    features = make_features(spec, ['cube', 'tray'], views, 50.0)
    assert features[keys.STATE]['names'] == list(spec.joint_names)
    assert features[keys.OBJECTS]['shape'] == [14]
    assert features[keys.OBJECTS]['names'][7] == 'tray.x'
    assert features[keys.SOURCE] == {'dtype': 'int64', 'shape': [2], 'names': ['left', 'right']}
    assert features['observation.images.front']['shape'] == [48, 64, 3]
    assert all('/' not in key for key in features)
    assert {k for k, f in features.items() if is_image(f)} == {
        'observation.images.overhead', 'observation.images.front'}
    for dtype, numeric in (('string', False), ('language', False), ('image', False),
                           ('float64', True), ('bool', True), ('uint8', True)):
        assert is_numeric({'dtype': dtype}) == numeric


def test_object_names_are_read_back(spec):
    for names in ((), ('cube',), ('peg', 'block.2')):
        assert object_names(make_features(spec, names, (), 50.0)) == names
    assert object_names({keys.OBJECTS: {'names': ['a', 'b']}}) == ()
    assert object_names({keys.OBJECTS: {'names': {'motors': ['a']}}}) == ()
    assert object_names({keys.OBJECTS: {'names': None}}) == ()


def test_differences_name_both_sides(spec, views):
    ours = make_features(spec, ['cube'], views, 50.0)
    assert feature_differences(ours, make_features(spec, ['cube'], views, 30.0)) == []
    theirs = make_features(spec, ['tray'], views[:1], 50.0)
    lines = '\n'.join(feature_differences(ours, theirs))
    assert 'cube.x' in lines and 'tray.x' in lines
    assert 'observation.images.front: video [48, 64, 3]' in lines and 'absent' in lines


def test_names_and_sizes_that_cannot_be_stored(spec, views):
    with pytest.raises(DatasetError, match='must differ'):
        make_features(spec, ['cube', 'cube'], (), 50.0)
    with pytest.raises(DatasetError, match='"/"'):
        make_features(spec, ['a/b'], (), 50.0)
    with pytest.raises(DatasetError, match='even'):
        make_features(spec, (), [replace(views[0], width=63)], 50.0)
