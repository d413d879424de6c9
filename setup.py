"""Metadata and dependencies of il_robot: read by pip and by colcon (ament_python) alike.

The ranges below are the one declaration of what is needed; constraints.txt locks one set of
versions within them.
"""

import re
import sys
from pathlib import Path

from setuptools import find_packages, setup

package_name = 'il_robot'
version = re.search(r"__version__ = '(.+)'", Path(package_name, '__init__.py').read_text())[1]


def share(folder):
    """(destination, files) of every folder below ``folder`` that holds files."""
    files = sorted(p for p in Path(folder).rglob('*') if p.is_file() and p.suffix != '.pyc')
    for parent in sorted({p.parent for p in files}):
        yield (
            f'share/{package_name}/{parent.as_posix()}',
            [p.as_posix() for p in files if p.parent == parent],
        )


def shims(names):
    """(destination, files): for each command a script in lib/<package> that calls bin/<command>.

    A wheel ignores install_scripts in setup.cfg: without these, `ros2 run` and `ros2 launch`
    would find nothing after `pip install`. colcon makes its own scripts there.
    """
    folder = Path('build', 'shims')
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_text(f'#!/bin/sh\nexec "$(dirname "$0")/../../bin/{name}" "$@"\n')
        (folder / name).chmod(0o755)
    return f'lib/{package_name}', [(folder / name).as_posix() for name in names]


nodes = [p.stem for p in sorted(Path(package_name, 'nodes').glob('*.py'))
         if '\ndef main(' in p.read_text()]
commands = {
    package_name: f'{package_name}.apps.main:main',
    **{name: f'{package_name}.nodes.{name}:main' for name in nodes},
}

# a faster runtime for small networks on a CPU, and export; optional
onnx = ['onnx>=1.16', 'onnxruntime>=1.18', 'torch>=2.5']
# another one
openvino = ['openvino>=2024.6', 'onnx>=1.16', 'torch>=2.5']
# environments of the suite "applications"; PyFlyt from 0.22 on asks for a numpy below 2
applications = ['gymnasium[box2d]>=1.0', 'highway-env>=1.10', 'PyFlyt>=0.15,<0.22',
                'gymnasium-robotics>=1.3']
# il_robot bench --ray
ray = ['ray>=2.9']
# setuptools: test_install.py builds the package as pip does, without a network
test = ['pytest>=7.0', 'pytest-xdist>=3.0', 'hypothesis>=6.0', 'rosbags>=0.10',
        'setuptools>=70.1', *onnx, *openvino, *applications, *ray]

setup(
    name=package_name,
    version=version,
    description='Imitation learning for bimanual manipulation on ROS 2',
    long_description=Path('README.md').read_text() if Path('README.md').exists() else '',
    long_description_content_type='text/markdown',
    author='il_robot maintainers',
    license='Apache-2.0',
    python_requires='>=3.10',
    packages=find_packages(include=[package_name, f'{package_name}.*']),
    package_data={package_name: ['py.typed']},
    data_files=[
        ('share/ament_index/resource_index/packages', [f'resource/{package_name}']),
        (f'share/{package_name}', ['package.xml']),
        *share('config'), *share('launch'), *share('urdf'),
        *([shims(commands)] if 'bdist_wheel' in sys.argv else []),
    ],
    zip_safe=False,
    # every command reads or writes datasets and plots; bags are read without ROS
    install_requires=[
        'numpy>=1.23', 'pyyaml>=5.4', 'rich>=12.0', 'pyarrow>=14.0', 'av>=12.0', 'matplotlib>=3.5',
        'numba>=0.55', 'pillow>=9.0', 'mcap>=1.5', 'mcap-ros2-support>=0.5', 'lz4>=4.0',
        'zstandard>=0.18', 'trimesh>=4.0',
    ],
    extras_require={
        'sim': ['pybullet>=3.2.5', 'gymnasium>=1.0', 'xacro>=2.0', 'moderngl>=5.8'],
        'train': ['torch>=2.2', 'safetensors>=0.4'],
        'onnx': onnx,
        'openvino': openvino,
        'applications': applications,
        'ray': ray,
        # ROS 2 from PyPI, for machines without a ROS installation; never beside one
        'ros': [
            'ros-rclpy==9.1.2', 'ros-rmw-fastrtps-cpp', 'ros-std-msgs', 'ros-std-srvs',
            'ros-sensor-msgs', 'ros-trajectory-msgs', 'ros-geometry-msgs', 'ros-diagnostic-msgs',
            'ros-lifecycle-msgs', 'ros-visualization-msgs', 'ros-builtin-interfaces',
            'ros-rcl-interfaces', 'ros-rosgraph-msgs', 'ros-ament-index-python',
        ],
        'test': test,
        'dev': [*test, 'ruff>=0.6', 'mypy>=1.11', 'types-PyYAML'],
    },
    entry_points={'console_scripts': [f'{name} = {function}'
                                      for name, function in commands.items()]},
)
