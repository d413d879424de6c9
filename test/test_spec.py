import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from il_robot.errors import ActionError, ConfigError, SpecError
from il_robot.resources import named_config
from il_robot.spec import (
    load_robot_spec,
    robot_spec_from_dict,
    spec_differences,
)

FILE = named_config('robots', 'sim_dual_arm')
SPEC = load_robot_spec(FILE)
DATA = yaml.safe_load(FILE.read_text())
LINE_OF_SIGHT = np.subtract(SPEC.cameras[0].target, SPEC.cameras[0].xyz).tolist()


def test_the_simulated_robot_has_two_equal_arms():
    assert SPEC.dim == 14
    assert [a.name for a in SPEC.arms] == ['left', 'right']
    assert (SPEC.dt, SPEC.rates.physics_substeps) == (0.02, 4)
    assert {'overhead', 'front', 'wrist_left', 'wrist_right'} == {c.name for c in SPEC.cameras}


def test_index_is_the_inverse_of_joint_names():
    assert [SPEC.index(name) for name in SPEC.joint_names] == list(range(SPEC.dim))


def test_the_arms_slices_cover_the_vector_once_and_hold_their_own_joints():
    covered = []
    for arm in SPEC.arms:
        part = SPEC.arm_slice(arm.name)
        covered += range(SPEC.dim)[part]
        assert all(name.startswith(arm.prefix) for name in SPEC.joint_names[part])
        assert SPEC.joint_names[part][-1] == arm.prefix + 'gripper'
    assert covered == list(range(SPEC.dim))


@pytest.mark.parametrize('column', ['lower', 'upper', 'velocity', 'acceleration', 'effort'])
def test_columns_follow_the_joint_table_by_name(column):
    by_name = {j['name']: j[column] for j in [*DATA['joints'], DATA['gripper']]}
    for name, value in zip(SPEC.joint_names, getattr(SPEC, column)):
        assert value == np.float32(by_name[name.split('_', 1)[1]])


def test_vectors_are_read_only():
    for column in ('lower', 'upper', 'rest', 'velocity'):
        with pytest.raises(ValueError, match='read-only'):
            getattr(SPEC, column)[0] = 0


def test_to_dict_and_back_is_the_same_robot_also_through_json():
    data = json.loads(json.dumps(SPEC.to_dict()))
    again = robot_spec_from_dict(data, 'checkpoint')
    assert again == SPEC
    assert again.hash == SPEC.hash
    assert spec_differences(SPEC, again) == []


def test_the_hash_is_of_the_robot_and_not_of_the_file(tmp_path):
    copy = tmp_path / 'other.yaml'
    copy.write_text(FILE.read_text())
    assert load_robot_spec(copy).hash == SPEC.hash
    slower = dataclasses.replace(SPEC, rates=dataclasses.replace(SPEC.rates, control=25.0))
    assert slower.hash != SPEC.hash


@pytest.mark.parametrize(('ask', 'said'), [
    (lambda: SPEC.index('left_wrist_angel'), "did you mean 'left_wrist_angle'?"),
    (lambda: SPEC.index('waist'), "unknown joint 'waist' in sim_dual_arm"),
    (lambda: SPEC.arm('lefft'), "did you mean 'left'?"),
    (lambda: SPEC.arm_slice('middle'), 'Valid: left, right'),
    (lambda: SPEC.camera('wrist'), "unknown camera 'wrist'"),
])
def test_a_name_that_does_not_exist_lists_the_valid_ones(ask, said):
    with pytest.raises(SpecError, match=re.escape(said)):
        ask()


inside = hnp.arrays(np.float64, SPEC.dim, elements=st.floats(0, 1)).map(
    lambda part: (SPEC.lower + part * (SPEC.upper - SPEC.lower)).astype(np.float32)
)
anything = hnp.arrays(np.float32, SPEC.dim, elements=st.floats(-1e6, 1e6, width=32))


@given(inside)
def test_an_action_inside_the_limits_passes_unchanged(action):
    np.testing.assert_array_equal(SPEC.check_action(action), action)
    np.testing.assert_array_equal(SPEC.check_action(action, clip=True), action)


@given(anything)
def test_clipping_gives_the_nearest_action_that_passes(action):
    clipped = SPEC.check_action(action, clip=True)
    np.testing.assert_array_equal(SPEC.check_action(clipped), clipped)
    moved = clipped != action
    assert ((clipped == SPEC.lower) | (clipped == SPEC.upper))[moved].all()


@given(anything)
def test_an_action_outside_names_exactly_the_joints_that_are(action):
    outside = {n for n, a, lo, up in zip(SPEC.joint_names, action, SPEC.lower, SPEC.upper)
               if not lo <= a <= up}
    if not outside:
        SPEC.check_action(action)
        return
    with pytest.raises(ActionError) as error:
        SPEC.check_action(action)
    assert set(re.findall(r'(\w+) = ', str(error.value))) == outside


@pytest.mark.parametrize('clip', [False, True])
@pytest.mark.parametrize('bad', [np.nan, np.inf, -np.inf])
def test_an_action_that_is_no_number_is_never_clipped(bad, clip):
    action = SPEC.rest.copy()
    action[SPEC.index('right_elbow')] = bad
    with pytest.raises(ActionError, match='NaN or infinity for right_elbow'):
        SPEC.check_action(action, clip=clip)


@pytest.mark.parametrize('action', [np.zeros(13), np.zeros((1, 14)), 'abc', None])
def test_an_action_of_another_shape_is_refused(action):
    with pytest.raises(ActionError, match=r'action'):
        SPEC.check_action(action)


def changed(tmp_path: Path, *path_and_value) -> Path:
    """The simulated robot's file with one value replaced."""
    data = yaml.safe_load(FILE.read_text())
    *path, leaf, value = path_and_value
    target = data
    for step in path:
        target = target[step]
    target[leaf] = value
    file = tmp_path / 'robot.yaml'
    file.write_text(yaml.safe_dump(data))
    return file


@pytest.mark.parametrize(('change', 'said'), [
    (('joints', 1, 'name', 'waist'), 'joint named twice: left_waist, right_waist'),
    (('joints', 1, 'name', 'gripper'), 'joint named twice: left_gripper, right_gripper'),
    (('arms', 1, 'name', 'left'), 'arm named twice: left'),
    (('arms', 1, 'prefix', 'left_'), 'arm prefix named twice: left_'),
    (('cameras', 1, 'name', 'overhead'), 'camera named twice: overhead'),
    (('arms', []), 'at least one arm'),
    (('joints', []), 'at least one arm and one joint'),
    (('arms', 0, 'rest', [0.0, 0.0]), 'arm left: rest has 2 values, needs 7: waist, shoulder'),
    (('arms', 1, 'rest', 1, 2.5), 'rest of right_shoulder = 2.5 is outside [-1.9, 1.9]'),
    (('arms', 1, 'rest', 1, float('nan')), 'arms[1]: rest[1] must be float, got nan'),
    (('joints', 0, 'lower', 4.0), 'joint waist: lower 4.0 must be < upper 3.1'),
    (('joints', 0, 'velocity', 0.0), 'joint waist: velocity must be > 0'),
    (('gripper', 'effort', -1), 'joint gripper: effort must be > 0'),
    (('gripper', 'speed', 1), "unknown key 'speed'"),
    (('joint', []), "unknown key 'joint'"),
    (('joints', 2, 'velocty', 1.0), "joints[2]: did you mean 'velocity'?"),
    (('rates', 'control', 0), 'rates must be > 0'),
    (('rates', 'control', float('inf')), 'rates must be > 0'),
    (('rates', 'physics_substeps', 0), 'physics_substeps must be >= 1'),
    (('rates', 'physics_substeps', 4.0), 'physics_substeps must be int, got 4.0'),
    (('geometry', 'forearm', 0.0), 'geometry: lengths must be > 0'),
    (('cameras', 0, 'fovy', 180.0), 'camera overhead: needs 0 < fovy < 180'),
    (('cameras', 0, 'width', 0), 'camera overhead: needs'),
    (('cameras', 0, 'up', LINE_OF_SIGHT), 'camera overhead: up must not be parallel'),
    (('cameras', 0, 'xyz', [0, 0]), 'xyz must have 3 entries, got 2'),
])
def test_a_wrong_robot_file_is_one_error_that_names_file_and_value(tmp_path, change, said):
    file = changed(tmp_path, *change)
    with pytest.raises(ConfigError) as error:
        load_robot_spec(file)
    assert str(file) in str(error.value)
    assert said in str(error.value)


@pytest.mark.parametrize(('change', 'said'), [
    (('joints', 0, 'name', 'base_yaw'), 'joint_names: .*left_waist.* | .*left_base_yaw'),
    (('joints', 0, 'upper', 2.0), 'upper: .*3.1.* | .*2,'),
    (('rates', 'control', 25.0), r'control rate \[Hz\]: 50 \| 25'),
    (('arms', 0, 'name', 'port'), r"arms: \['left', 'right'\] \| \['port', 'right'\]"),
])
def test_differences_show_both_sides(tmp_path, change, said):
    lines = spec_differences(SPEC, load_robot_spec(changed(tmp_path, *change)))
    assert len(lines) == 1
    assert re.match(said, lines[0])


def test_a_longer_robot_differs(tmp_path):
    one_arm = load_robot_spec(changed(tmp_path, 'arms', DATA['arms'][:1]))
    assert [line.split(':')[0] for line in spec_differences(SPEC, one_arm)] \
        == ['arms', 'joint_names', 'lower', 'upper']
