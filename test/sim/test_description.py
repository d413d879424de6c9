import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import numpy as np
import pytest
import yaml

from il_robot.errors import SimulationError, SpecError
from il_robot.resources import named_config, resource
from il_robot.sim.description import urdf_text
from il_robot.spec import load_robot_spec

SPEC = load_robot_spec(named_config('robots', 'sim_dual_arm'))


def tree(*args):
    return ElementTree.fromstring(urdf_text(*args))


def moving(robot):
    return {j.get('name'): j for j in robot.iter('joint') if j.get('type') != 'fixed'}


def test_every_joint_of_the_spec_is_there_with_its_limits():
    joints = moving(tree(SPEC))
    for arm in SPEC.arms:
        for joint in SPEC.joints:
            limit = joints.pop(arm.prefix + joint.name).find('limit').attrib
            assert {k: float(v) for k, v in limit.items()} == {
                'lower': joint.lower, 'upper': joint.upper, 'velocity': joint.velocity,
                'effort': joint.effort}
        for number in (1, 2):
            finger = joints.pop(f'{arm.prefix}finger_{number}')
            assert float(finger.find('limit').get('upper')) == SPEC.gripper.upper / 2
            assert finger.get('type') == 'prismatic'
            mimic = finger.find('mimic')
            assert (mimic is None) == (number == 1)
    assert not joints, 'and nothing else moves'


def test_one_tree_of_links_that_can_be_simulated():
    robot = tree(SPEC)
    links = [link.get('name') for link in robot.iter('link')]
    children = [joint.find('child').get('link') for joint in robot.iter('joint')]
    assert len(set(links)) == len(links) and len(set(children)) == len(children)
    assert set(links) - set(children) == {'base'}, 'one root'
    assert {camera.parent for camera in SPEC.cameras} <= set(links)
    for inertial in robot.iter('inertial'):
        i = {k: float(v) for k, v in inertial.find('inertia').attrib.items()}
        moments = sorted([i['ixx'], i['iyy'], i['izz']])
        assert float(inertial.find('mass').get('value')) > 0 and moments[0] > 0
        assert moments[0] + moments[1] >= moments[2] - 1e-12, 'a body that can exist'


def test_one_arm_alone_is_that_part_of_the_whole():
    whole = moving(tree(SPEC))
    parts = [moving(tree(SPEC, arm.name)) for arm in SPEC.arms]
    assert [*whole] == [name for part in parts for name in part]
    for arm, part in zip(SPEC.arms, parts):
        assert all(name.startswith(arm.prefix) for name in part)


def test_the_bases_stand_where_the_spec_says():
    joints = {j.get('name'): j for j in tree(SPEC).iter('joint')}
    for arm in SPEC.arms:
        origin = joints[f'{arm.prefix}mount'].find('origin').attrib
        np.testing.assert_allclose([*map(float, origin['xyz'].split())], arm.base.xyz)
        np.testing.assert_allclose([*map(float, origin['rpy'].split())], arm.base.rpy)


def test_another_robot_has_other_names_lengths_and_limits():
    joints = (replace(SPEC.joints[0], name='yaw', upper=1.0), *SPEC.joints[1:])
    arms = (replace(SPEC.arms[0], name='solo', prefix='solo_'),)
    spec = replace(SPEC, joints=joints, arms=arms, cameras=(),
                   geometry=replace(SPEC.geometry, upper_arm=0.4))
    robot = tree(spec)
    assert float(moving(robot)['solo_yaw'].find('limit').get('upper')) == 1.0
    elbow = moving(robot)['solo_elbow'].find('origin').get('xyz')
    assert [*map(float, elbow.split())] == [0, 0, 0.4]


def test_the_xacro_tool_alone_gives_the_same_model():
    ours = urdf_text(SPEC)
    assert with_xacro(display='false') == ours
    assert max(map(len, ours.splitlines())) < 1024, 'PyBullet splits longer lines'


def with_xacro(**mappings):
    import xacro

    source = str(resource('urdf', 'dual_arm.urdf.xacro'))
    return xacro.process_file(source, mappings=mappings).toprettyxml(indent='  ')


def test_for_display_joint_states_alone_place_every_link():
    robot = ElementTree.fromstring(with_xacro())
    told = [n for n, joint in moving(robot).items() if joint.find('mimic') is None]
    assert sorted(told) == sorted(SPEC.joint_names)
    for arm in SPEC.arms:
        for number in (1, 2):
            mimic = moving(robot)[f'{arm.prefix}finger_{number}'].find('mimic').attrib
            assert mimic == {'joint': arm.prefix + SPEC.gripper.name, 'multiplier': '0.5'}


def rotation(rpy):
    """Fixed axes: about x, then y, then z."""
    (a, b, c), (d, e, f) = np.cos(rpy), np.sin(rpy)
    return (np.array([[c, -f, 0], [f, c, 0], [0, 0, 1]])
            @ np.array([[b, 0, e], [0, 1, 0], [-e, 0, b]])
            @ np.array([[1, 0, 0], [0, a, -d], [0, d, a]]))


def test_optical_frames_look_where_the_cameras_do(tmp_path):
    turned = replace(SPEC.cameras[0], name='turned', xyz=(0.0, 0.0, 0.5), target=(1.0, 0.0, 0.5),
                     up=(0.0, 1.0, 0.0))
    mirrored = replace(turned, name='mirrored', up=(0.0, -1.0, 0.0))
    spec = replace(SPEC, cameras=(*SPEC.cameras, turned, mirrored))
    path = tmp_path / 'robot.yaml'
    path.write_text(yaml.safe_dump(spec.to_dict()))
    robot = ElementTree.fromstring(with_xacro(spec=str(path)))
    mounts = {j.find('child').get('link'): j for j in robot.iter('joint')}
    for camera in spec.cameras:
        mount = mounts[f'{camera.name}_optical_frame']
        assert mount.find('parent').get('link') == camera.parent
        origin = {k: np.array([*map(float, v.split())])
                  for k, v in mount.find('origin').attrib.items()}
        R = rotation(origin['rpy'])
        forward = np.subtract(camera.target, camera.xyz)
        np.testing.assert_allclose(origin['xyz'], camera.xyz)
        np.testing.assert_allclose(R[:, 2], forward / np.linalg.norm(forward), atol=1e-9)
        assert abs(R[:, 0] @ camera.up) < 1e-9 and R[:, 1] @ camera.up < 0, camera.name


def test_what_cannot_be_described_is_refused():
    with pytest.raises(SimulationError, match='geometry'):
        urdf_text(replace(SPEC, geometry=None))
    with pytest.raises(SpecError, match="unknown arm 'lef'.*did you mean 'left'"):
        urdf_text(SPEC, 'lef')
