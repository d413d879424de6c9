"""The RViz and Foxglove configurations name topics, cameras, objects and joints that exist."""

import json
import re

import pytest
import yaml

from il_robot.resources import named_config, resource
from il_robot.spec import load_robot_spec

topics = pytest.importorskip('il_robot.nodes.topics', reason='needs rclpy', exc_type=ImportError)
sim = pytest.importorskip('il_robot.sim')

SPEC = load_robot_spec(named_config('robots', 'sim_dual_arm'))
CAMERAS = [camera.name for camera in SPEC.cameras]


def objects():
    from il_robot.sim.tasks import make_task

    return [name for task in sim.task_names() for name in make_task(task).objects]


def known():
    yield from (topics.JOINT_STATES, topics.COMMAND, topics.MODE, topics.RECORDING,
                topics.SIM_EPISODE, topics.DIAGNOSTICS, 'robot_description')
    yield from map(topics.object_pose, objects())
    for camera in CAMERAS:
        yield from (topics.compressed(camera), topics.camera_info(camera))


def rviz(name):
    config = yaml.safe_load(resource('config', 'rviz', name).read_text())
    return config['Visualization Manager']['Displays']


def test_rviz_shows_every_object_and_camera():
    shown = [v['Value'].lstrip('/') for display in rviz('il_robot.rviz')
             for key, v in display.items() if key.endswith('Topic')]
    assert set(shown) <= {*known()}
    assert {*map(topics.object_pose, objects()), *map(topics.compressed, CAMERAS)} <= {*shown}


@pytest.mark.parametrize('name', ['il_robot.rviz', 'view_robot.rviz'])
def test_rviz_displays_are_of_kinds_that_ship_with_it(name):
    kinds = {d['Class'] for d in rviz(name)}
    assert kinds <= {f'rviz_default_plugins/{k}' for k in ('Grid', 'RobotModel', 'TF', 'Pose',
                                                          'Image')}


def layout():
    return json.loads(resource('config', 'foxglove', 'layout.json').read_text())


def panels(tree):
    return [tree] if isinstance(tree, str) else [
        *panels(tree['first']), *panels(tree['second'])]


def test_foxglove_arranges_each_panel_once():
    shown = panels(layout()['layout'])
    assert sorted(shown) == sorted(layout()['configById'])


def test_foxglove_reads_topics_that_exist():
    text = json.dumps(layout())
    named = {t.split('.')[0] for t in re.findall(r'"/([a-z_/]+[a-z](?:\.[^"]*)?)', text)}
    assert named <= {*known()}
    assert {*map(topics.compressed, CAMERAS), *map(topics.object_pose, objects())} <= named


def test_foxglove_plots_the_joint_that_the_label_says():
    configs = layout()['configById']
    for arm in SPEC.arms:
        for path in configs[f'Plot!{arm.name}_joints']['paths']:
            index = int(re.search(r'\[(\d+)\]', path['value'])[1])
            assert SPEC.joint_names[index] == arm.prefix + path['label']
    for path in configs['Plot!grippers']['paths']:
        index = int(re.search(r'\[(\d+)\]', path['value'])[1])
        arm = SPEC.arm(path['label'].split()[0])
        assert SPEC.joint_names[index] == arm.prefix + SPEC.gripper.name
