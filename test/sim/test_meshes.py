"""Files that a robot's model consists of: found, read, or said why not."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pybullet as p
import pybullet_data
import pytest
import trimesh

from il_robot.control.body import Body
from il_robot.control.clearance import Clearances
from il_robot.errors import SpecError
from il_robot.resources import named_config
from il_robot.safety_spec import Model
from il_robot.sim import default_robot
from il_robot.sim.description import urdf_text
from il_robot.sim.meshes import has_model, robot_model
from il_robot.spec import load_robot_spec

SPEC = default_robot()


@pytest.fixture
def robot(tmp_path):
    """A robot without geometry, whose model lies beside its file, with one mesh."""
    text = urdf_text(SPEC, 'left')
    begin = text.index('<box')
    end = text.index('/>', begin) + 2
    named = '<mesh filename="package://some_description/meshes/link.stl"/>'
    (tmp_path / 'arm.urdf').write_text(text[:begin] + named + text[end:])
    mesh = tmp_path / 'share' / 'some_description' / 'meshes' / 'link.stl'
    mesh.parent.mkdir(parents=True)
    trimesh.creation.box((0.1, 0.2, 0.3)).export(mesh)
    return replace(
        SPEC, geometry=None, source=str(tmp_path / 'robot.yaml'),
        safety=replace(SPEC.safety, model=Model('arm.urdf', 'left_{joint}')))


def test_a_mesh_of_a_ros_package_is_found_where_ros_has_it(robot, tmp_path, monkeypatch):
    monkeypatch.setenv('AMENT_PREFIX_PATH', f'/nowhere:{tmp_path}')
    assert has_model(robot)
    text, vertices = robot_model(robot)
    points = vertices('package://some_description/meshes/link.stl')
    np.testing.assert_allclose(np.ptp(points, axis=0), (0.1, 0.2, 0.3), atol=1e-6)
    body = Body(robot, text, vertices)
    assert len(body.shapes) == len(Body(SPEC, urdf_text(SPEC)).shapes)


@pytest.mark.parametrize('folder', ['share', 'share/some_description'])
def test_or_in_the_folder_that_the_robot_file_names(robot, folder, monkeypatch):
    monkeypatch.delenv('AMENT_PREFIX_PATH', raising=False)
    robot = replace(robot, safety=replace(
        robot.safety, model=replace(robot.safety.model, meshes=folder)))
    Body(robot, *robot_model(robot))


def test_what_is_missing_or_damaged_is_named(robot, tmp_path, monkeypatch):
    monkeypatch.setenv('AMENT_PREFIX_PATH', '/nowhere')
    with pytest.raises(SpecError, match=r'nowhere/share/some_description.*safety\.model\.meshes'):
        Body(robot, *robot_model(robot))
    mesh = tmp_path / 'share' / 'some_description' / 'meshes' / 'link.stl'
    monkeypatch.setenv('AMENT_PREFIX_PATH', str(tmp_path))
    for content in (b'', b'solid nothing', bytes(range(256)) * 4):
        mesh.write_bytes(content)
        with pytest.raises(SpecError, match=r'link\.stl'):
            Body(robot, *robot_model(robot))
    (tmp_path / 'arm.urdf').unlink()
    with pytest.raises(SpecError, match=r'cannot read .*arm\.urdf'):
        robot_model(robot)


def test_a_robot_with_geometry_has_our_own_model():
    assert has_model(SPEC)
    assert robot_model(SPEC)[0] == urdf_text(SPEC)
    assert not has_model(replace(SPEC, geometry=None))


@pytest.fixture(scope='module')
def pandas():
    """Two Franka Panda arms: their own URDF with its meshes, in the engine and as our model."""
    urdf = Path(pybullet_data.getDataPath()) / 'franka_panda' / 'panda.urdf'
    spec = load_robot_spec(named_config('robots', 'dual_franka'))
    spec = replace(spec, safety=replace(spec.safety, model=Model(
        str(urdf), 'panda_{joint}', tool='panda_hand', meshes=str(urdf.parent))))
    client = p.connect(p.DIRECT)
    bodies = [p.loadURDF(str(urdf), arm.base.xyz, p.getQuaternionFromEuler(arm.base.rpy),
                         useFixedBase=True, physicsClientId=client) for arm in spec.arms]
    yield spec, bodies, client
    p.disconnect(client)


def test_arms_of_another_maker_are_no_closer_than_the_model_says(pandas):
    spec, bodies, client = pandas
    c = {'physicsClientId': client}
    info = [p.getJointInfo(bodies[0], i, **c) for i in range(p.getNumJoints(bodies[0], **c))]
    links = {i[12].decode(): i[0] for i in info}
    moving = [i[0] for i in info if i[2] != p.JOINT_FIXED]
    watched = Clearances(Body(spec, *robot_model(spec)))
    rows = [(k, *n.split(' - ')) for k, n in enumerate(watched.names) if 'table' not in n]
    rng, loose = np.random.default_rng(0), []
    for _ in range(15):
        position = rng.uniform(spec.lower, spec.upper)
        for arm, body in zip(spec.arms, bodies):
            own = position[spec.arm_slice(arm.name)]
            for joint, value in zip(moving, (*own[:-1], own[-1] / 2, own[-1] / 2)):
                p.resetJointState(body, joint, value, **c)
        p.performCollisionDetection(**c)
        room = watched.exact(position)
        for row in rng.choice(len(rows), 25, replace=False):
            k, one, other = rows[row]
            a, b = one.removeprefix('left_'), other.removeprefix('right_')
            if 'left_' in other or 'right_' in one:
                continue  # the engine tells no distances within one body
            found = p.getClosestPoints(bodies[0], bodies[1], 5.0, links.get(a, -1),
                                       links.get(b, -1), **c)
            hands = all('hand' in w or 'finger' in w or 'link7' in w or 'link8' in w
                        for w in (one, other))
            clearance = spec.safety.clearance
            real = min(f[8] for f in found) - (clearance.hands if hands else clearance.links)
            assert room[k] <= real + 2e-3, watched.names[k]
            loose.append(real - room[k])
    assert len(loose) > 100
    assert 0 < np.median(loose) < 0.05
