import os
import subprocess
import sys
from pathlib import Path

import pytest

from il_robot.errors import ConfigError
from il_robot.resources import named_config, resource

ROOT = Path(__file__).parent.parent
INSTALLED = sorted(
    str(p.relative_to(ROOT)) for folder in ('config', 'launch', 'urdf')
    for p in (ROOT / folder).rglob('*') if p.is_file() and p.suffix != '.pyc'
)


@pytest.mark.parametrize('file', ['urdf/dual_arm.urdf.xacro', 'config/robots/sim_dual_arm.yaml'])
def test_resources_are_found(file):
    assert resource(*file.split('/')).is_file()


def test_a_missing_resource_lists_where_it_was_looked_for(monkeypatch, tmp_path):
    monkeypatch.setenv('AMENT_PREFIX_PATH', f'{tmp_path}')
    with pytest.raises(ConfigError) as error:
        resource('urdf', 'no.xacro')
    assert 'urdf/no.xacro not found' in str(error.value)
    assert str(tmp_path / 'share' / 'il_robot') in str(error.value)


def test_a_config_has_a_name_or_is_a_file(tmp_path):
    own = tmp_path / 'own.yaml'
    own.touch()
    assert named_config('robots', 'sim_dual_arm').name == 'sim_dual_arm.yaml'
    assert named_config('robots', str(own)) == own
    with pytest.raises(ConfigError, match="did you mean 'sim_dual_arm'"):
        named_config('robots', 'dual_arm')
    with pytest.raises(ConfigError, match='no file .*mine.yaml'):
        named_config('robots', str(tmp_path / 'mine.yaml'))


def find(package: Path, *, cwd: Path, **environment: str) -> list[str]:
    """What an il_robot in the folder ``package`` finds, in a process of its own."""
    script = (
        'import sys; from il_robot import __file__ as at, resources\n'
        'print(at); [print(resources.resource(*f.split("/"))) for f in sys.argv[1:]]'
    )
    clean = {k: v for k, v in os.environ.items() if k != 'AMENT_PREFIX_PATH'}
    result = subprocess.run(
        [sys.executable, '-c', script, *INSTALLED], check=True, capture_output=True, text=True,
        cwd=cwd, env={**clean, 'PYTHONPATH': str(package), **environment},
    )
    at, *found = result.stdout.splitlines()
    assert Path(at).parent.parent == package
    return found


def test_found_from_the_source_tree_in_any_directory(tmp_path):
    assert find(ROOT, cwd=tmp_path) == [str(ROOT / f) for f in INSTALLED]


@pytest.mark.parametrize('packages', [
    'lib/python3.11/site-packages',  # pip, colcon build
    'local/lib/python3.12/dist-packages',  # Debian's layout
    '.',  # pip --target
])
def test_found_beside_an_installed_package(tmp_path, packages):
    site = (tmp_path / packages).resolve()
    site.mkdir(parents=True, exist_ok=True)
    (site / 'il_robot').mkdir()
    for module in ('__init__', 'errors', 'resources'):
        (site / 'il_robot' / f'{module}.py').write_bytes(
            (ROOT / 'il_robot' / f'{module}.py').read_bytes())
    share = tmp_path / 'share' / 'il_robot'
    for file in INSTALLED:
        (share / file).parent.mkdir(parents=True, exist_ok=True)
        (share / file).touch()
    assert find(site, cwd=tmp_path) == [str(share / f) for f in INSTALLED]

    elsewhere = tmp_path / 'elsewhere' / 'share'
    elsewhere.mkdir(parents=True)
    (tmp_path / 'share').rename(elsewhere.parent / 'share')
    prefix = str(elsewhere.parent)
    assert find(site, cwd=tmp_path, AMENT_PREFIX_PATH=f'/none:{prefix}') \
        == [str(elsewhere / 'il_robot' / f) for f in INSTALLED]
