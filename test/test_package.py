"""What package.xml, setup.py, constraints.txt and the launch files say of each other."""

import ast
import os
import re
import runpy
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement

import il_robot

ROOT = Path(__file__).parent.parent
MANIFEST = ET.parse(ROOT / 'package.xml').getroot()
LAUNCH_FILES = sorted((ROOT / 'launch').glob('*.launch.py'))


def depends(tag):
    return [element.text for element in MANIFEST.findall(tag)]


@pytest.fixture(scope='module')
def metadata():
    """The arguments that setup.py gives to setup()."""
    recorded = {}
    fake = ModuleType('setuptools')
    fake.setup = recorded.update
    fake.find_packages = lambda **options: []
    before, cwd = sys.modules.get('setuptools'), Path.cwd()
    sys.modules['setuptools'] = fake
    os.chdir(ROOT)
    try:
        runpy.run_path('setup.py')
    finally:
        os.chdir(cwd)
        sys.modules.pop('setuptools')
        if before is not None:
            sys.modules['setuptools'] = before
    return recorded


def requirements(metadata):
    texts = [*metadata['install_requires'], *sum(metadata['extras_require'].values(), [])]
    return [Requirement(text) for text in texts]


def test_there_is_one_version(metadata):
    assert MANIFEST.findtext('version') == il_robot.__version__ == metadata['version']
    assert re.search(r'^## \[Unreleased\]', (ROOT / 'CHANGELOG.md').read_text(), re.MULTILINE)


def test_the_manifest_is_of_an_ament_python_package(metadata):
    assert MANIFEST.get('format') == '3'
    assert MANIFEST.findtext('name') == metadata['name'] == 'il_robot'
    assert MANIFEST.findtext('license') == metadata['license'] == 'Apache-2.0'
    assert MANIFEST.findtext('export/build_type') == 'ament_python'
    assert (ROOT / 'resource' / 'il_robot').exists()


def test_no_dependency_is_named_twice():
    names = depends('exec_depend') + depends('test_depend')
    assert len(names) == len(set(names))


def test_the_manifest_and_setup_need_the_same(metadata):
    """Every ROS wheel and every package with a rosdep key stands in package.xml."""
    manifest = set(depends('exec_depend') + depends('test_depend'))
    keys = {
        'pyyaml': 'python3-yaml', 'torch': 'python3-pytorch-pip', 'xacro': 'xacro',
        'gymnasium': 'python3-gymnasium-pip', 'pybullet': 'python3-pybullet-pip',
        'pillow': 'python3-pil', 'mcap-ros2-support': 'mcap-ros2-support',
        'trimesh': 'python3-trimesh-pip',
    }
    no_key = {'av', 'moderngl', 'pyarrow', 'safetensors', 'mcap', 'lz4', 'zstandard', 'onnx',
              'onnxruntime', 'openvino', 'highway-env', 'PyFlyt', 'gymnasium-robotics', 'ray'}
    tools = {'ruff', 'mypy', 'types-PyYAML', 'setuptools', 'rosbags'}
    rmw = {'ros-rmw-fastrtps-cpp'}  # a ROS installation chooses its own
    wanted = set()
    for name in {r.name for r in requirements(metadata)} - no_key - tools - rmw:
        ros = name.removeprefix('ros-').replace('-', '_') if name.startswith('ros-') else None
        wanted.add(ros or keys.get(name, f'python3-{name}'))
    assert wanted <= manifest
    assert {n for n in manifest if n.startswith('python3-')} <= wanted


def test_everything_imported_is_declared(metadata):
    names = {'pyyaml': 'yaml', 'pillow': 'PIL', 'mcap_ros2_support': 'mcap_ros2',
             'pyflyt': 'PyFlyt'}
    declared = {r.name.lower().replace('-', '_').removeprefix('ros_')
                for r in requirements(metadata)}
    declared = {names.get(name, name) for name in declared}
    ros = set(depends('exec_depend'))  # some are on no index: they come with a ROS installation
    for file in (ROOT / 'il_robot').rglob('*.py'):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                modules = [node.module]
            else:
                continue
            tops = {m.split('.')[0] for m in modules} - sys.stdlib_module_names - {'il_robot'}
            assert tops <= declared | ros, f'{file}:{node.lineno}'


def test_the_locked_versions_lie_within_the_ranges(metadata):
    locked = {}
    for line in (ROOT / 'constraints.txt').read_text().splitlines():
        if line and not line.startswith('#'):
            pin = Requirement(line)
            [version] = [s.version for s in pin.specifier if s.operator == '==']
            locked.setdefault(pin.name.lower(), []).append(version)
    assert locked['torch'] == ['2.13.0']
    for requirement in requirements(metadata):
        versions = locked[requirement.name.lower()]
        assert all(v in requirement.specifier for v in versions), requirement


def test_everything_in_share_is_installed(metadata):
    installed = {file for _, files in metadata['data_files'] for file in files}
    for folder in ('config', 'launch', 'urdf'):
        files = {p.relative_to(ROOT).as_posix() for p in (ROOT / folder).rglob('*')
                 if p.is_file() and p.suffix != '.pyc'}
        assert files
        assert files <= installed
    for folder, files in metadata['data_files']:
        assert not Path(folder).is_absolute()
        for file in files:
            assert (ROOT / file).is_file()
            if folder.startswith('share/il_robot/'):
                assert Path(folder) == Path('share/il_robot', file).parent


def test_every_node_is_a_command(metadata):
    """Each module of nodes/ with a ``main`` is started as ``ros2 run il_robot <module>``."""
    commands = dict(text.split(' = ') for text in metadata['entry_points']['console_scripts'])
    assert commands.pop('il_robot') == 'il_robot.apps.main:main'
    nodes = {
        file.stem for file in (ROOT / 'il_robot' / 'nodes').glob('*.py')
        if 'main' in {getattr(n, 'name', '') for n in ast.parse(file.read_text()).body}
    }
    assert commands == {name: f'il_robot.nodes.{name}:main' for name in nodes}


@pytest.mark.parametrize('file', LAUNCH_FILES, ids=lambda p: p.name)
def test_launch_files_start_packages_that_the_manifest_names(file):
    tree = ast.parse(file.read_text())
    assert 'generate_launch_description' in {
        n.name for n in tree.body if isinstance(n, ast.FunctionDef)}
    calls = [n for n in ast.walk(tree) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)]
    packages = {
        keyword.value.value for call in calls for keyword in call.keywords
        if keyword.arg == 'package'
    }
    assert packages <= {*depends('exec_depend'), 'il_robot'}
    for call in calls:
        if call.func.id == 'PathJoinSubstitution':
            parts = [e.value for e in call.args[0].elts if isinstance(e, ast.Constant)]
            assert ROOT.joinpath(*parts).exists(), f'{file}:{call.lineno}'


@pytest.mark.parametrize('file', LAUNCH_FILES, ids=lambda p: p.name)
def test_launch_files_load(file):
    pytest.importorskip('launch_ros', reason='launch comes with a ROS installation only')
    description = runpy.run_path(str(file))['generate_launch_description']()
    assert description.entities
