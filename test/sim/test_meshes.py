"""Files that a robot's model consists of: found, read, or said why not."""

from dataclasses import replace

import numpy as np
import pytest
import trimesh

from il_robot.control.body import Body
from il_robot.errors import SpecError
from il_robot.safety_spec import Model
from il_robot.sim import default_robot
from il_robot.sim.description import urdf_text
from il_robot.sim.meshes import has_model, robot_model

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
