"""The hardware section of robot files: names are resolved, and what does not fit is refused."""

import copy
import re
from dataclasses import fields
from pathlib import Path

import pytest
import yaml

from il_robot.config import build
from il_robot.errors import ConfigError, SpecError
from il_robot.hardware_spec import HardwareSpec
from il_robot.resources import named_config
from il_robot.spec import RobotSpec, load_robot_spec, robot_spec_from_dict

PROFILES = ('aloha_viperx', 'dual_franka', 'openarm', 'dual_ur5e')
BASE = yaml.safe_load(named_config('robots', 'openarm').read_text())


def robot(**changes) -> RobotSpec:
    """OpenArm with other values in its hardware section."""
    data = copy.deepcopy(BASE)
    data['hardware'] |= changes
    return build(RobotSpec, data, 'robot.yaml')


@pytest.mark.parametrize('name', PROFILES)
def test_each_joint_of_a_profile_has_one_source_and_one_controller(name):
    spec = load_robot_spec(named_config('robots', name))
    wiring = spec.wiring
    assert tuple(j.name for j in wiring.joints) == spec.joint_names
    for ends in (wiring.sources, wiring.controllers):
        assert sorted(i for end in ends for i in end.joints) == list(range(spec.dim))
    assert spec.dim == 2 * (len(spec.joints) + 1)


@pytest.mark.parametrize('name', PROFILES)
def test_a_profile_moves_both_arms_through_the_same_topics_and_names(name):
    """Twins: what belongs to the right arm is the left one's with the name replaced."""
    wiring = load_robot_spec(named_config('robots', name)).wiring
    half = len(wiring.joints) // 2

    def of(arm, ends):
        return [(e.topic.replace(arm, '*'), tuple(i % half for i in e.joints)) for e in ends
                if arm in e.topic]

    for ends in (wiring.sources, wiring.controllers):
        assert of('left', ends) == of('right', ends)


def test_openarms_left_arm_is_mirrored_and_its_hand_halved():
    joints = {j.name: j for j in load_robot_spec(named_config('robots', 'openarm')).wiring.joints}
    assert [joints[f'left_joint{i}'].gain for i in (1, 2, 3)] == [-1, -1, 1]
    assert [joints[f'right_joint{i}'].gain for i in (1, 2, 3)] == [1, 1, 1]
    assert joints['left_gripper'].driver == 'openarm_left_finger_joint1'
    assert joints['left_gripper'].gain == 2


def test_the_robotiq_closes_where_its_driver_says():
    """0 rad is 85 mm open, 0.7929 rad is shut."""
    spec = load_robot_spec(named_config('robots', 'dual_ur5e'))
    joint = spec.wiring.joints[spec.index('right_gripper')]
    assert joint.driver == 'right_robotiq_85_left_knuckle_joint'
    assert joint.gain * 0.7929 + joint.offset == pytest.approx(0.0, abs=1e-6)
    assert joint.gain * 0.0 + joint.offset == 0.085


def test_frankas_hand_has_a_source_of_its_own():
    spec = load_robot_spec(named_config('robots', 'dual_franka'))
    hands = [s for s in spec.wiring.sources if 'gripper' in s.topic]
    assert [s.joints for s in hands] == [(7,), (15,)]
    assert [s.topic for s in hands] == [
        f'/{arm}/franka_gripper/joint_states' for arm in ('left', 'right')]


def test_the_wiring_is_no_part_of_the_robot_that_a_policy_knows():
    spec = load_robot_spec(named_config('robots', 'openarm'))
    stored = robot_spec_from_dict(spec.to_dict(), 'checkpoint')
    assert 'hardware' not in spec.to_dict()
    assert stored == spec
    assert stored.hash == spec.hash == robot(rate=250.0).hash


def test_a_simulated_robot_says_that_it_has_no_wires():
    spec = load_robot_spec(named_config('robots', 'sim_dual_arm'))
    with pytest.raises(SpecError, match='docs/real_robot.md'):
        _ = spec.wiring


def test_one_arms_entry_wins_over_the_one_for_all_arms():
    spec = robot(joints={'gripper': {'name': 'g', 'scale': 2.0}, 'right_gripper': {'name': 'h'}})
    found = {j.name: (j.driver, j.gain) for j in spec.wiring.joints}
    assert found['left_gripper'] == ('g', 2)
    assert found['right_gripper'] == ('h', 1)


def test_limits_can_be_narrowed_for_one_arm():
    spec = robot(joints={'left_joint3': {'upper': 1.0, 'velocity': 0.5}})
    joint = spec.wiring.joints[spec.index('left_joint3')]
    assert (joint.lower, joint.upper, joint.velocity) == (-1.570796, 1.0, 0.5)
    assert spec.wiring.joints[spec.index('right_joint3')].upper == 1.570796


ARM = [f'joint{i}' for i in range(1, 8)]
FORWARD = {'topic': '/{arm}/commands', 'kind': 'forward', 'joints': [*ARM, 'gripper']}


@pytest.mark.parametrize(('changes', 'said'), [
    ({'joints': {'joint9': {}}}, "unknown joint 'joint9' in joints"),
    ({'joints': {'joint1': {'scael': 1.0}}}, "unknown key 'scael'"),
    ({'joints': {'joint1': {'sign': 2}}}, "unknown value '2'"),
    ({'joints': {'joint1': {'scale': 0.0}}}, 'scale must be > 0'),
    ({'joints': {'joint1': {'scale': -1.0}}}, 'use sign: -1'),
    ({'joints': {'joint1': {'upper': 4.0}}}, 'upper 4 is wider'),
    ({'joints': {'joint1': {'lower': -2.0}}}, 'lower -2 is wider'),
    ({'joints': {'joint1': {'velocity': 4.0}}}, 'velocity 4 is wider'),
    ({'joints': {'joint1': {'velocity': 0.0}}}, 'velocity > 0'),
    ({'joints': {'joint1': {'lower': 3.0, 'upper': 2.0}}}, 'lower < upper'),
    ({'joint_name': '{side}_{joint}'}, "'side'; placeholders are {arm}, {prefix}, {joint}"),
    ({'joint_name': 'same'}, "are both called 'same'"),
    ({'sources': []}, 'sources and controllers'),
    ({'sources': [{'topic': '/a', 'min_rate': 5.0}]}, 'older than the timeout'),
    ({'sources': [{'topic': '', 'min_rate': 50.0}]}, 'topic is empty'),
    ({'sources': [{'topic': '/a', 'min_rate': 50.0, 'joints': ARM}]},
     'no source for left_gripper, right_gripper'),
    ({'sources': [{'topic': '/a', 'min_rate': 50.0}, {'topic': '/b', 'min_rate': 50.0}]},
     '/b: all its joints have another source'),
    ({'sources': [{'topic': '/a', 'min_rate': 50.0, 'joints': ['left_joint1']},
                  {'topic': '/b', 'min_rate': 50.0, 'joints': ['left_joint1']}]},
     'left_joint1 has two sources: /a and /b'),
    ({'controllers': [{**FORWARD, 'joints': ARM}]}, 'no controller for left_gripper'),
    ({'controllers': [{**FORWARD, 'joints': [*ARM, 'hand']}]}, "unknown joint 'hand'"),
    ({'controllers': [{**FORWARD, 'topic': '/commands'}]}, "unknown joint 'joint1'"),
    ({'controllers': [{**FORWARD, 'topic': '/{which}/x'}]}, 'placeholders are {arm}, {prefix}'),
    ({'controllers': [{**FORWARD, 'kind': 'action'}]}, "unknown value 'action'"),
    ({'controllers': [FORWARD, {**FORWARD, 'topic': '/x', 'joints': ['left_joint1']}]},
     'left_joint1 has two controllers'),
    ({'controllers': [{**FORWARD, 'kind': 'gripper_action'}]}, 'exactly one joint'),
    ({'controllers': [{**FORWARD, 'joints': []}]}, 'its joints in order'),
    ({'controllers': [{**FORWARD, 'joints': ['right_joint1']}]}, 'is not of arm left'),
    ({'rate': 0.0}, 'rate must be in'),
    ({'lookahead': -1.0}, 'lookahead must be in'),
    ({'start_speed': 0.0}, 'start_speed must be in'),
    ({'max_lead': 0.0}, 'max_lead'),
    ({'speed': 1.0}, "unknown key 'speed'"),
])
def test_what_does_not_fit_is_refused_by_name(changes, said):
    with pytest.raises(ConfigError) as error:
        robot(**changes)
    assert said in str(error.value)


def test_one_controller_and_one_topic_for_both_arms():
    both = [f'{arm}_{j}' for arm in ('right', 'left') for j in ('gripper', *ARM)]
    spec = robot(
        sources=[{'topic': '/joint_states', 'min_rate': 50.0}],
        controllers=[{'topic': '/commands', 'kind': 'forward', 'joints': both}])
    (controller,) = spec.wiring.controllers
    assert [spec.joint_names[i] for i in controller.joints] == both


DOCUMENT = (Path(__file__).parents[1] / 'docs/real_robot.md').read_text()


def test_the_documents_example_is_a_hardware_section():
    (text,) = re.findall(r'```yaml\n(.*?)```', DOCUMENT, re.DOTALL)
    section = build(HardwareSpec, yaml.safe_load(text)['hardware'], 'docs/real_robot.md')
    assert [c.kind for c in section.controllers] == ['forward', 'forward']


def test_the_document_names_every_number_and_its_default():
    table = dict(re.findall(r'^ *\| `(\w+)` \| ([\d.]+|one control period) \|', DOCUMENT, re.M))
    numbers = {f.name: f.default for f in fields(HardwareSpec) if isinstance(f.default, float)}
    assert table.pop('lookahead') == 'one control period'
    assert numbers.pop('lookahead') == 0
    assert {name: float(text) for name, text in table.items()} == numbers
