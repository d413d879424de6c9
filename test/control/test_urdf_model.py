"""Any robot's URDF: the same distances as from our own, and nothing of it outside its shapes."""

from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from il_robot.control.body import Body
from il_robot.control.clearance import Clearances
from il_robot.control.shapes import frame, shape
from il_robot.control.urdf_model import no_meshes
from il_robot.errors import SpecError
from il_robot.safety_spec import Model, Workspace
from il_robot.sim import default_robot
from il_robot.sim.description import urdf_text

SPEC = default_robot()
BOX = Workspace((-.7, -.5, 0), (.7, .5, .6))


def described(**model):
    return replace(SPEC, safety=replace(
        SPEC.safety, workspace=BOX, model=Model(urdf='-', tool='eef', **model)))


def renamed():
    """One arm, its joints called as a driver would, without prefix, on a link of another name."""
    root = ElementTree.fromstring(urdf_text(SPEC, 'left'))
    for element in root.iter():
        for key in ('name', 'link'):
            word = element.get(key, '')
            if word.startswith('left_'):
                word = word.removeprefix('left_')
                element.set(key, 'arm_link0' if word == 'base' else word)
        if element.tag == 'joint' and element.get('name') in {j.name for j in SPEC.joints}:
            element.set('name', f'vx_{element.get("name")}')
    return ElementTree.tostring(root, encoding='unicode')


def rooms(body):
    watched = Clearances(body)
    rng = np.random.default_rng(0)
    return np.array([watched.exact(rng.uniform(SPEC.lower, SPEC.upper)) for _ in range(20)])


OURS = rooms(Body(replace(SPEC, safety=replace(SPEC.safety, workspace=BOX)), urdf_text(SPEC)))


def test_one_arm_under_other_names_has_the_same_distances_as_our_own_model():
    found = rooms(Body(described(joint_name='vx_{joint}'), renamed()))
    np.testing.assert_allclose(found, OURS, atol=1e-9)


def test_a_model_of_all_arms_is_read_by_its_first():
    found = rooms(Body(replace(described(joint_name='{prefix}{joint}'), safety=replace(
        SPEC.safety, workspace=BOX, model=Model('-', '{prefix}{joint}', tool='left_eef'))),
        urdf_text(SPEC)))
    np.testing.assert_allclose(found, OURS, atol=1e-9)


def test_fingers_that_close_at_another_place_or_in_the_other_direction():
    """As on ViperX: 0.021 to 0.057 m, and -0.057 to -0.021 m."""
    root = ElementTree.fromstring(renamed())
    fingers = [j for j in root.iter('joint') if j.get('type') == 'prismatic']
    assert len(fingers) == 2
    for sign, joint in zip((1, -1), fingers):
        assert joint.find('origin') is None, 'fingers meet in the frame of the hand'
        axis, limit = joint.find('axis'), joint.find('limit')
        way = np.array([float(v) for v in axis.get('xyz').split()])
        ElementTree.SubElement(joint, 'origin', xyz=' '.join(map(str, -0.021 * way)))
        axis.set('xyz', ' '.join(str(sign * v) for v in way))
        ends = sorted((sign * 0.021, sign * 0.061))
        limit.set('lower', str(ends[0]))
        limit.set('upper', str(ends[1]))
    found = rooms(Body(described(joint_name='vx_{joint}'), ElementTree.tostring(root, 'unicode')))
    np.testing.assert_allclose(found, OURS, atol=1e-9)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1),
       st.sampled_from(['mesh', 'box', 'cylinder', 'capsule', 'sphere']))
def test_every_point_of_a_shape_is_in_its_capsule_and_in_its_box(seed, kind):
    rng = np.random.default_rng(seed)
    size = rng.uniform(0.001, 0.4, 3)
    points = rng.normal(size=(300, 3))
    points /= np.maximum(np.linalg.norm(points, axis=1, keepdims=True), 1e-9)
    if kind == 'mesh':
        points = points[:rng.integers(1, 300)] * size + rng.normal(size=3)
        inner = '<mesh filename="m" scale="0.5 0.5 0.5"/>'
        inside = 0.5 * points
    elif kind == 'box':
        inner = f'<box size="{size[0]} {size[1]} {size[2]}"/>'
        inside = np.clip(points * 9, -1, 1) * size / 2
    elif kind == 'sphere':
        inner, inside = f'<sphere radius="{size[0]}"/>', points * size[0]
    else:
        inner = f'<{kind} radius="{size[0]}" length="{size[1]}"/>'
        flat = points * (1, 1, 0)
        inside = np.where(rng.random((300, 1)) < 0.5, flat, points * (kind == 'capsule'))
        inside = size[0] * inside + rng.choice([-1, 0, 1], (300, 1)) * (0, 0, size[1] / 2)
    element = ElementTree.fromstring(
        '<collision><origin xyz="0.1 -0.2 0.3" rpy="0.4 1.0 -2.0"/>'
        f'<geometry>{inner}</geometry></collision>')
    found = shape('link', element, lambda name: points)
    at = frame(element.find('origin'))
    world = inside @ at[:3, :3].T + at[:3, 3]
    along = found.ends[1] - found.ends[0]
    share = np.clip((world - found.ends[0]) @ along / max(along @ along, 1e-12), 0, 1)
    away = np.linalg.norm(world - found.ends[0] - share[:, None] * along, axis=1)
    assert away.max() <= found.radius + 1e-9
    assert (np.abs((world - found.centre) @ found.rotation) <= found.half + 1e-9).all()
    assert np.linalg.norm(world, axis=1).max() <= found.reach + 1e-9


def test_a_capsule_around_a_long_mesh_is_not_much_wider_than_the_mesh():
    rng = np.random.default_rng(3)
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    angle, z = rng.uniform(0, 2 * np.pi, 500), rng.uniform(-0.2, 0.2, 500)
    points = np.stack([0.04 * np.cos(angle), 0.04 * np.sin(angle), z], axis=1) @ turn.T
    found = shape('link', ElementTree.fromstring(
        '<collision><geometry><mesh filename="m"/></geometry></collision>'), lambda name: points)
    assert found.radius < 0.045
    assert np.linalg.norm(found.ends[0] - found.ends[1]) < 0.41


@pytest.mark.parametrize(('model', 'urdf', 'words'), [
    ({'joint_name': 'ur_{joint}'}, renamed(), 'no joint ur_waist; it has .*vx_waist'),
    ({'joint_name': 'vx_{joint}', 'base': 'elbow'}, renamed(), 'no joint'),
    ({'joint_name': 'vx_{joint}'}, 'no xml', 'no URDF'),
    ({'joint_name': 'vx_{joint}'}, renamed().replace('"eef"', '"other"'), 'no link eef'),
    ({'joint_name': 'vx_{joint}'},
     renamed().replace('<geometry>', '<geometry><cone/></geometry><geometry>'), 'got cone'),
    ({'joint_name': 'vx_{joint}'},
     renamed().replace('<geometry>', '<geometry><mesh filename="a.stl"/></geometry><geometry>'),
     'a.stl: a mesh'),
])
def test_what_does_not_fit_is_said(model, urdf, words):
    with pytest.raises(SpecError, match=words):
        Body(described(**model), urdf, no_meshes)


def test_a_workspace_needs_the_tool_point():
    spec = replace(SPEC, safety=replace(
        SPEC.safety, workspace=BOX, model=Model('-', 'vx_{joint}')))
    with pytest.raises(SpecError, match=r'safety\.model\.tool'):
        Clearances(Body(spec, renamed()))


@pytest.mark.parametrize('name', ['left_', '{joint', '{other}{joint}', '{}'])
def test_a_joint_name_without_the_joint_is_refused(name):
    with pytest.raises(ValueError, match='needs {joint}'):
        Model('-', name)
