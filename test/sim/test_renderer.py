import itertools
import multiprocessing
import os
import struct
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pybullet as p
import pytest

from il_robot.errors import SimulationError
from il_robot.sim.renderer import make_renderer
from il_robot.sim.renderer_meshes import triangles
from il_robot.sim.renderer_scene import (
    FAR,
    inverse,
    metres,
    projection_matrix,
    transform,
    view_matrix,
)
from il_robot.spec import CameraSpec

BACKENDS = ['moderngl', 'tiny']
CAMERA = CameraSpec('test', 'base', (0.35, -1.0, 0.9), (0.0, 0.0, 0.1), (0, 0, 1), 45.0, 160, 120)
WRIST = CameraSpec('wrist', 'tip', (-0.1, -0.3, 0.1), (0.1, 0.0, 0.0), (0, 0, 1), 60.0, 160, 120)

# Inertial frames away from the link frames, turned visuals, two materials, an unused link.
ARM = """<robot name="arm">
  <material name="orange"><color rgba="0.9 0.5 0.1 1"/></material>
  <material name="blue"><color rgba="0.1 0.3 0.9 1"/></material>
  <link name="root">
    <inertial><origin xyz="0.03 0.02 0.05" rpy="0.2 0.1 0.4"/><mass value="1"/>
      <inertia ixx="0.01" iyy="0.01" izz="0.01" ixy="0" ixz="0" iyz="0"/></inertial>
    <visual><origin xyz="0 0 0.06"/>
      <geometry><cylinder radius="0.07" length="0.12"/></geometry><material name="blue"/></visual>
  </link>
  <link name="lever">
    <inertial><origin xyz="0 -0.02 0.1" rpy="0.3 0 0"/><mass value="1"/>
      <inertia ixx="0.01" iyy="0.01" izz="0.01" ixy="0" ixz="0" iyz="0"/></inertial>
    <visual><origin xyz="0 0 0.12" rpy="0 0 0.5"/>
      <geometry><box size="0.06 0.04 0.24"/></geometry><material name="orange"/></visual>
    <visual><origin xyz="0.05 0 0.24" rpy="0.4 1.2 0"/>
      <geometry><capsule radius="0.03" length="0.16"/></geometry><material name="blue"/></visual>
  </link>
  <link name="tip">
    <inertial><origin xyz="0.05 0 0"/><mass value="0.2"/>
      <inertia ixx="0.001" iyy="0.001" izz="0.001" ixy="0" ixz="0" iyz="0"/></inertial>
    <visual><origin xyz="0.09 0 0" rpy="0.7 0 0"/>
      <geometry><box size="0.1 0.05 0.02"/></geometry><material name="orange"/></visual>
    <visual><origin xyz="0.16 0 0"/>
      <geometry><sphere radius="0.035"/></geometry><material name="orange"/></visual>
  </link>
  <joint name="j1" type="revolute"><parent link="root"/><child link="lever"/>
    <origin xyz="0 0 0.12" rpy="0 0 0.3"/><axis xyz="0 1 0"/>
    <limit lower="-2" upper="2" effort="50" velocity="3"/></joint>
  <joint name="j2" type="revolute"><parent link="lever"/><child link="tip"/>
    <origin xyz="0 0 0.26"/><axis xyz="0 1 0"/>
    <limit lower="-2" upper="2" effort="50" velocity="3"/></joint>
</robot>"""


@pytest.fixture
def client():
    client = p.connect(p.DIRECT)
    yield client
    if p.isConnected(client):
        p.disconnect(client)


@pytest.fixture
def scene(client, tmp_path):
    fill(client, tmp_path)
    return client


@pytest.fixture(scope='module')
def missing():
    """Why OpenGL cannot be tested here; empty where it can."""
    try:
        from il_robot.sim.renderer_gl import create_context

        create_context().release()
    except (ImportError, SimulationError) as error:
        return str(error)
    return ''


@pytest.fixture
def opened(missing):
    renderers = []

    def make(client, backend='moderngl'):
        if backend != 'tiny' and missing:
            pytest.skip(f'no OpenGL: {missing}')
        renderers.append(make_renderer(client, backend))
        return renderers[-1]

    yield make
    for renderer in renderers:
        renderer.close()


def add_box(client, half, position, color, quaternion=(0, 0, 0, 1)):
    shape = p.createVisualShape(
        p.GEOM_BOX, halfExtents=half, rgbaColor=color, physicsClientId=client)
    return p.createMultiBody(0, -1, shape, position, quaternion, physicsClientId=client)


def fill(client, folder):
    """A table, an arm twice (once scaled), a cube; returns the first arm's body."""
    add_box(client, (0.5, 0.35, 0.02), (0, 0, -0.02), (0.8, 0.7, 0.55, 1))
    path = Path(folder) / 'arm.urdf'
    path.write_text(ARM)
    c = {'physicsClientId': client, 'flags': p.URDF_USE_INERTIA_FROM_FILE, 'useFixedBase': True}
    arm = p.loadURDF(str(path), (-0.25, 0.05, 0), p.getQuaternionFromEuler((0, 0, 0.4)), **c)
    p.loadURDF(str(path), (0.3, 0.1, 0), (0, 0, 0.6, 0.8), globalScaling=0.7, **c)
    for joint, angle in enumerate((0.5, 0.9)):
        p.resetJointState(arm, joint, angle, physicsClientId=client)
    add_box(client, (0.04,) * 3, (0.05, -0.15, 0.04), (0.9, 0.1, 0.1, 1), (0, 0, 0.3, 0.954))
    return arm


def disagreeing(a, b):
    """Share of pixels of the depth image ``a`` that no neighbour in ``b`` explains to 3 mm."""
    padded = np.pad(b, 1, mode='edge')
    around = [np.roll(padded, (i, j), (0, 1))[1:-1, 1:-1] for i in (-1, 0, 1) for j in (-1, 0, 1)]
    outside = (a < np.min(around, 0) - 3e-3) | (a > np.max(around, 0) + 3e-3)
    return outside.sum() / (a < FAR / 2).sum()


def assert_same_geometry(a, b):
    """The same solids, to a pixel and 3 mm; TinyRenderer's round shapes are coarse polyhedra."""
    assert (a < FAR / 2).mean() > 0.02
    assert disagreeing(a, b) < 0.02 and disagreeing(b, a) < 0.02


# -- geometry laws --------------------------------------------------------------------------
@pytest.mark.parametrize('shape, volume', [
    ('box', 1.0), ('cylinder', np.pi / 4), ('sphere', np.pi / 6)])
@pytest.mark.parametrize('bevel', [0.0, 0.1])
def test_unit_shapes_are_closed_and_face_outwards(shape, volume, bevel):
    vertices = triangles(shape).astype(float)
    corners = (vertices[:, :3] * (1 - 2 * bevel) + bevel * vertices[:, 3:]).reshape(-1, 3, 3)
    normals = vertices[:, 3:].reshape(-1, 3, 3).mean(1)
    area = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    assert ((area * normals).sum(1) > -1e-9).all()
    assert np.allclose(area.sum(0), 0, atol=1e-6)  # a closed surface
    measured = (corners[:, 0] * area).sum() / 6
    assert volume * (0.97 - bevel) < measured <= volume + 1e-6


@pytest.mark.parametrize('shape', ['box', 'cylinder', 'sphere', 'hemisphere', 'tube', 'plane'])
def test_normals_have_unit_length(shape):
    assert np.allclose(np.linalg.norm(triangles(shape)[:, 3:], axis=1), 1, atol=1e-6)


def test_a_camera_sees_its_target_in_the_middle_and_up_above():
    rng = np.random.default_rng(1)
    parent = transform(rng.normal(size=7))
    assert np.allclose(inverse(parent) @ parent, np.eye(4))
    view = view_matrix(CAMERA, parent)
    points = np.column_stack([CAMERA.target, np.add(CAMERA.target, (0, 0, 0.1))])
    world = parent @ np.vstack([points, np.ones(2)])
    clip = projection_matrix(CAMERA.fovy, 4 / 3) @ view @ world
    screen = clip[:3] / clip[3]
    assert np.allclose(screen[:2, 0], 0)
    assert screen[1, 1] > 0.05 and abs(screen[0, 1]) < 1e-9
    distance = np.linalg.norm(np.subtract(CAMERA.xyz, CAMERA.target))
    depth = ((screen[2, :1] + 1) / 2).astype(np.float32)
    assert metres(depth)[0] == pytest.approx(distance, rel=1e-3)


# -- the two backends -----------------------------------------------------------------------
@pytest.mark.parametrize('camera', [CAMERA, WRIST], ids=['fixed', 'wrist'])
def test_both_backends_show_the_same_geometry(scene, opened, camera):
    depths = [opened(scene, b).render(camera, depth=True)[1] for b in BACKENDS]
    assert_same_geometry(*depths)


def test_moving_joints_and_bases_moves_the_picture(scene, opened):
    gl, tiny = (opened(scene, b) for b in BACKENDS)
    before = gl.render(CAMERA, depth=True)[1]
    p.resetJointState(1, 0, -0.4, physicsClientId=scene)
    p.resetBasePositionAndOrientation(3, (0.1, -0.2, 0.1), (0.5, 0.5, 0.5, 0.5),
                                      physicsClientId=scene)
    after = gl.render(CAMERA, depth=True)[1]
    assert np.abs(after - before).max() > 0.05
    assert_same_geometry(after, tiny.render(CAMERA, depth=True)[1])


def test_a_camera_on_a_link_measures_the_distance_to_the_table(client, tmp_path, opened):
    arm = fill(client, tmp_path)
    for joint in (0, 1):
        p.resetJointState(arm, joint, 0.0, physicsClientId=client)
    down = CameraSpec('c', 'tip', (0.3, 0, 0), (0.3, 0, -1), (1, 0, 0), 5.0, 16, 12)
    height = p.getLinkState(arm, 1, computeForwardKinematics=1, physicsClientId=client)[4][2]
    for backend in BACKENDS:
        depth = opened(client, backend).render(down, depth=True)[1]
        assert np.allclose(depth, height, atol=1e-3)


@pytest.mark.parametrize('backend', BACKENDS)
def test_bodies_have_their_colours_where_pybullet_says_they_are(scene, opened, backend):
    view = view_matrix(CAMERA, np.eye(4)).T.ravel().tolist()
    projection = projection_matrix(CAMERA.fovy, 4 / 3).T.ravel().tolist()
    body = np.reshape(p.getCameraImage(
        160, 120, view, projection, renderer=p.ER_TINY_RENDERER, physicsClientId=scene)[4],
        (120, 160))
    image = opened(scene, backend).render(CAMERA).astype(float)
    red, green, blue = image[body == 3].mean(0)
    assert red > 2 * green and red > 2 * blue
    table = image[body == 0].mean(0)
    assert table[0] > table[1] > table[2] > 60
    assert (image[body == -1].mean(0) > 180).all()


def test_a_body_throws_a_shadow(client, opened):
    add_box(client, (0.3, 0.3, 0.01), (0, 0, -0.01), (0.7, 0.7, 0.7, 1))
    above = CameraSpec('c', 'base', (0, 0, 1), (0, 0, 0), (0, 1, 0), 40.0, 100, 100)
    renderer = opened(client)
    lit = renderer.render(above).astype(int)
    add_box(client, (0.03, 0.03, 0.03), (0, 0, 0.1), (0.7, 0.7, 0.7, 1))
    renderer.rebuild()
    darker = (lit - renderer.render(above)).sum(2) > 60
    assert 30 < darker.sum() < 400
    rows, columns = np.nonzero(darker)
    assert rows.mean() < 50 < columns.mean()  # away from the sun: to the back right


@pytest.mark.parametrize('backend', BACKENDS)
@pytest.mark.parametrize('size', [(1, 1), (33, 17), (64, 48)])
def test_shapes_types_and_repeatability(scene, opened, backend, size):
    renderer = opened(scene, backend)
    image, depth = renderer.render(CAMERA, *size, depth=True)
    assert image.shape == (size[1], size[0], 3) and image.dtype == np.uint8
    assert depth.shape == (size[1], size[0]) and depth.dtype == np.float32
    assert image.flags.c_contiguous and image.flags.writeable
    assert np.array_equal(image, renderer.render(CAMERA, *size))
    assert np.isfinite(depth).all() and depth.max() <= FAR * 1.001


@pytest.mark.parametrize('backend', BACKENDS)
def test_an_empty_world_is_background(client, opened, backend):
    image, depth = opened(client, backend).render(CAMERA, 16, 12, depth=True)
    assert image.mean() > 180
    assert np.allclose(depth, FAR, rtol=1e-3)


def test_a_picture_depends_on_nothing_that_was_before(scene, opened):
    old = opened(scene)
    old.render(CAMERA)
    p.resetJointState(1, 0, -0.4, physicsClientId=scene)
    p.resetBasePositionAndOrientation(3, (0.3, -0.4, -1), (0, 0, 0, 1), physicsClientId=scene)
    assert np.array_equal(old.render(CAMERA), opened(scene).render(CAMERA))


@pytest.mark.parametrize('backend', BACKENDS)
def test_rendering_leaves_the_simulation_alone(tmp_path, opened, backend):
    def run(render):
        client = p.connect(p.DIRECT)
        arm = fill(client, tmp_path)
        p.setGravity(0, 0, -9.81, physicsClientId=client)
        renderer = opened(client, backend) if render else None
        states = []
        for _ in range(40):
            p.stepSimulation(physicsClientId=client)
            states.append(p.getJointStates(arm, (0, 1), physicsClientId=client))
            if renderer:
                renderer.render(WRIST, 8, 8)
        p.disconnect(client)
        return states

    assert run(True) == run(False)


# -- meshes ---------------------------------------------------------------------------------
TETRAHEDRON = np.array([[0, 0, 0], [0.3, 0, 0], [0, 0.3, 0], [0, 0, 0.3]])
FACES = ((0, 2, 1), (0, 1, 3), (0, 3, 2), (1, 2, 3))


def write_mesh(path, kind):
    corners = [TETRAHEDRON[list(face)] for face in FACES]
    if kind == 'obj':
        lines = ['# made by hand', 'vn 0 0 1']
        lines += ['v {} {} {}'.format(*v) for v in TETRAHEDRON]
        styles = ('{}', '{}/1', '{}//1', '{}')
        lines += ['f ' + ' '.join(style.format(i - (0 if k else -1) - (4 if k else 0))
                                  if style == '{}' else style.format(i + 1) for i in face)
                  for k, (face, style) in enumerate(zip(FACES, styles))]
        path.write_text('\n'.join(lines) + '\n')
    elif kind == 'stl':
        data = b'binary'.ljust(80) + struct.pack('<I', len(corners))
        for c in corners:
            data += struct.pack('<12fH', 0, 0, 0, *c.ravel(), 0)
        path.write_bytes(data)
    else:
        facets = ''.join(
            'facet normal 0 0 0\nouter loop\n'
            + ''.join('vertex {} {} {}\n'.format(*v) for v in c) + 'endloop\nendfacet\n'
            for c in corners)
        path.write_text('solid x\n' + facets + 'endsolid x\n')


@pytest.mark.parametrize('kind', ['obj', 'stl', 'ascii stl'])
def test_mesh_files_are_read(tmp_path, kind):
    path = tmp_path / f'mesh.{kind[-3:]}'
    write_mesh(path, kind)
    corners = triangles(str(path))[:, :3].reshape(-1, 3, 3)
    assert np.allclose(corners, [TETRAHEDRON[list(face)] for face in FACES])


@pytest.mark.parametrize('kind', ['obj', 'stl'])
def test_meshes_are_drawn_where_tiny_renderer_draws_them(client, opened, tmp_path, kind):
    path = tmp_path / f'mesh.{kind}'
    write_mesh(path, kind)
    shape = p.createVisualShape(
        p.GEOM_MESH, fileName=str(path), meshScale=(1.2, 0.8, 1.0), rgbaColor=(0.2, 0.8, 0.3, 1),
        visualFramePosition=(-0.1, 0.05, 0), physicsClientId=client)
    p.createMultiBody(0, -1, shape, (0, 0, 0), (0, 0, 0.6, 0.8), physicsClientId=client)
    depths = [opened(client, b).render(CAMERA, depth=True)[1] for b in BACKENDS]
    assert_same_geometry(*depths)


@pytest.mark.parametrize('name, content, message', [
    ('a.dae', b'<x/>', 'only .obj, .stl'), ('a.obj', b'v 1 2\nf 1 2 3\n', 'cannot read'),
    ('a.obj', b'# empty\n', 'no triangle'), ('a.stl', b'', 'no triangle'),
    ('missing.obj', None, 'cannot read')])
def test_a_mesh_that_cannot_be_read_says_why(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(SimulationError, match=message):
        triangles(str(tmp_path / name))


# -- life cycle -----------------------------------------------------------------------------
def test_rebuild_shows_bodies_that_came_went_or_changed_colour(scene, opened):
    renderer = opened(scene)
    first = renderer.render(CAMERA)
    box = add_box(scene, (0.05, 0.05, 0.05), (0, 0, 0.4), (0.1, 0.8, 0.2, 1))
    assert np.array_equal(renderer.render(CAMERA), first)
    renderer.rebuild()
    green = renderer.render(CAMERA).astype(int)
    assert (green[..., 1] - green[..., 0] > 60).sum() > 50
    p.changeVisualShape(box, -1, rgbaColor=(0.1, 0.2, 0.9, 1), physicsClientId=scene)
    renderer.rebuild()
    blue = renderer.render(CAMERA).astype(int)
    assert (blue[..., 2] - blue[..., 0] > 60).sum() > 50
    p.removeBody(box, physicsClientId=scene)
    with pytest.raises(SimulationError, match='rebuild'):
        renderer.render(CAMERA)
    renderer.rebuild()
    assert np.array_equal(renderer.render(CAMERA), first)


@pytest.mark.parametrize('backend', BACKENDS)
def test_close_is_final_and_may_be_repeated(scene, opened, backend):
    renderer = opened(scene, backend)
    renderer.close()
    renderer.close()
    with pytest.raises(SimulationError, match='closed'):
        renderer.render(CAMERA)
    with pytest.raises(SimulationError, match='closed'):
        renderer.rebuild()


def test_unknown_links_and_impossible_sizes_are_refused(scene, opened):
    renderer = opened(scene)
    with pytest.raises(SimulationError, match="did you mean 'lever'"):
        renderer.render(CameraSpec('c', 'levr', (0, 0, 1), (0, 0, 0), (0, 1, 0), 45, 8, 8))
    with pytest.raises(SimulationError, match='>= 1'):
        renderer.render(CAMERA, 0, 10)


def test_several_renderers_keep_apart(tmp_path, opened):
    clients = [p.connect(p.DIRECT) for _ in range(3)]
    for k, client in enumerate(clients):
        fill(client, tmp_path)
        add_box(client, (0.05,) * 3, (0, 0, 0.2 + 0.1 * k), (0, 1, 0, 1))
    renderers = [opened(client) for client in clients]
    alone = [r.render(CAMERA) for r in renderers]
    assert not np.array_equal(alone[0], alone[1])
    renderers[1].close()
    for k in (2, 0, 2):
        assert np.array_equal(renderers[k].render(CAMERA), alone[k])
    for client in clients:
        p.disconnect(client)


def test_a_renderer_may_be_used_from_another_thread(scene, opened):
    renderer = opened(scene)
    pictures = []
    thread = threading.Thread(target=lambda: pictures.append(renderer.render(CAMERA)))
    thread.start()
    thread.join()
    assert np.array_equal(pictures[0], renderer.render(CAMERA))


def render_to(path, renderer=None):
    """What a worker does: its own world and renderer, or those it inherited."""
    if renderer is None:
        client = p.connect(p.DIRECT)
        fill(client, path.parent)
        renderer = make_renderer(client, 'moderngl')
    np.save(path, renderer.render(CAMERA))
    renderer.close()


@pytest.mark.parametrize('inherited', [False, True])
def test_forked_workers_render_the_same_picture(scene, opened, tmp_path, inherited):
    renderer = opened(scene)
    here = renderer.render(CAMERA)
    context = multiprocessing.get_context('fork')
    paths = [tmp_path / name / 'picture.npy' for name in 'ab']
    workers = []
    for path in paths:
        path.parent.mkdir()
        arguments = (path, renderer) if inherited else (path,)
        workers.append(context.Process(target=render_to, args=arguments))
        workers[-1].start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0]
    assert all(np.array_equal(np.load(path), here) for path in paths)
    assert np.array_equal(renderer.render(CAMERA), here)


def test_another_process_renders_the_same_picture(scene, opened, tmp_path):
    here = opened(scene).render(CAMERA)
    code = (f'import pathlib, runpy; runpy.run_path({str(__file__)!r})["render_to"]'
            f'(pathlib.Path({str(tmp_path / "picture.npy")!r}))')
    subprocess.run([sys.executable, '-c', code], check=True, timeout=60)
    assert np.array_equal(np.load(tmp_path / 'picture.npy'), here)


def memory():
    return int(Path('/proc/self/statm').read_text().split()[1]) * os.sysconf('SC_PAGE_SIZE')


@pytest.mark.skipif(not Path('/proc/self/statm').exists(), reason='reads memory from /proc')
def test_rebuilding_and_reopening_do_not_leak(scene, opened):
    renderer = opened(scene)

    def rebuild():
        renderer.rebuild()
        renderer.render(CAMERA)

    def reopen():
        other = make_renderer(scene, 'moderngl')
        other.render(CAMERA)
        other.close()

    def resize():
        renderer.render(CAMERA, 300 + next(widths), 200)

    widths = itertools.count()
    for action, times, allowed in ((rebuild, 60, 2e6), (reopen, 10, 4e6), (resize, 40, 4e6)):
        for _ in range(10):
            action()
        before = memory()
        for _ in range(times):
            action()
        assert memory() - before < allowed


# -- choosing -------------------------------------------------------------------------------
def test_moderngl_is_chosen_where_it_works(scene, opened, monkeypatch):
    monkeypatch.delenv('IL_ROBOT_RENDERER', raising=False)
    assert opened(scene, 'auto').backend.startswith('moderngl (EGL, ')


def test_tiny_renderer_stands_in_and_says_why(scene, monkeypatch):
    monkeypatch.delenv('IL_ROBOT_RENDERER', raising=False)
    monkeypatch.delitem(sys.modules, 'il_robot.sim.renderer_gl', raising=False)
    monkeypatch.setitem(sys.modules, 'moderngl', None)
    renderer = make_renderer(scene)
    assert renderer.backend.startswith('TinyRenderer: moderngl not available: ')
    assert renderer.render(CAMERA, 8, 6).shape == (6, 8, 3)
    with pytest.raises(SimulationError, match='pip install moderngl'):
        make_renderer(scene, 'moderngl')


def test_no_egl_device_falls_back_and_says_why(scene, monkeypatch):
    monkeypatch.delenv('IL_ROBOT_RENDERER', raising=False)
    monkeypatch.setenv('GLCONTEXT_DEVICE_INDEX', '99')
    assert make_renderer(scene).backend.startswith('TinyRenderer: moderngl not available: ')


def test_a_mesh_that_opengl_cannot_read_is_left_to_tiny_renderer(client, tmp_path, monkeypatch):
    monkeypatch.delenv('IL_ROBOT_RENDERER', raising=False)
    path = tmp_path / 'mesh.obj'
    write_mesh(path, 'obj')
    shape = p.createVisualShape(p.GEOM_MESH, fileName=str(path), physicsClientId=client)
    p.createMultiBody(0, -1, shape, physicsClientId=client)
    path.unlink()
    renderer = make_renderer(client)
    assert renderer.backend.startswith('TinyRenderer: moderngl not available: ')
    assert (renderer.render(CAMERA, depth=True)[1] < FAR / 2).any()


def test_the_environment_overrides(scene, monkeypatch):
    monkeypatch.setenv('IL_ROBOT_RENDERER', 'tiny')
    assert make_renderer(scene, 'moderngl').backend == 'TinyRenderer: asked for'
    monkeypatch.setenv('IL_ROBOT_RENDERER', 'tinny')
    with pytest.raises(SimulationError, match="IL_ROBOT_RENDERER: did you mean 'tiny'"):
        make_renderer(scene)
