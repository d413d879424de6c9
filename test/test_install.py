"""The package as pip installs it; colcon's ways are in test/peers/colcon_build.sh."""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope='module')
def prefix(tmp_path_factory):
    """An installation by pip, from a copy so that no build products come here."""
    source = tmp_path_factory.mktemp('source')
    for folder in ('il_robot', 'config', 'launch', 'urdf', 'resource'):
        shutil.copytree(ROOT / folder, source / folder,
                        ignore=shutil.ignore_patterns('__pycache__'))
    for file in ('setup.py', 'setup.cfg', 'pyproject.toml', 'package.xml', 'LICENSE'):
        shutil.copy(ROOT / file, source)
    target = tmp_path_factory.mktemp('prefix')
    result = subprocess.run(
        [sys.executable, '-m', 'pip', 'install', '--no-deps', '--no-index', '--ignore-installed',
         '--no-build-isolation', '--no-compile', '--prefix', target, source],
        capture_output=True, text=True, cwd=source,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return target


def run(prefix, *command):
    site = sysconfig.get_path('purelib', vars={'base': str(prefix), 'platbase': str(prefix)})
    return subprocess.run(
        list(map(str, command)), check=True, capture_output=True, text=True, cwd=prefix,
        env={**os.environ, 'PYTHONPATH': site},
    ).stdout


def test_share_holds_config_launch_and_urdf(prefix):
    share = prefix / 'share' / 'il_robot'
    for folder in ('config', 'launch', 'urdf'):
        there = {p.relative_to(share): p.read_bytes()
                 for p in (share / folder).rglob('*') if p.is_file()}
        here = {p.relative_to(ROOT): p.read_bytes()
                for p in (ROOT / folder).rglob('*') if p.is_file() and p.suffix != '.pyc'}
        assert there == here
    assert (share / 'package.xml').is_file()
    assert (prefix / 'share/ament_index/resource_index/packages/il_robot').is_file()


def test_the_installed_package_finds_its_own_files(prefix):
    script = ('import il_robot; from il_robot.resources import named_config; '
              'print(il_robot.__file__); print(named_config("robots", "sim_dual_arm"))')
    package, config = run(prefix, sys.executable, '-c', script).splitlines()
    assert Path(package).is_relative_to(prefix)
    assert config == str(prefix / 'share/il_robot/config/robots/sim_dual_arm.yaml')


def test_the_command_runs_from_bin_and_from_where_ros2_run_looks(prefix):
    from il_robot import __version__

    for folder in ('bin', 'lib/il_robot'):
        assert run(prefix, prefix / folder / 'il_robot', '--version') \
            == f'il_robot {__version__}\n'


def test_every_command_in_bin_is_where_ros2_run_looks(prefix):
    names = {p.name for p in (prefix / 'bin').iterdir()}
    shims = list((prefix / 'lib' / 'il_robot').iterdir())
    assert {p.name for p in shims} == names
    assert all(os.access(p, os.X_OK) for p in shims)


def test_type_information_is_shipped(prefix):
    assert list(prefix.rglob('il_robot/py.typed'))
