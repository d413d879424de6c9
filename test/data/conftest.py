"""Small synthetic datasets for the tests of ``il_robot.data``."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from il_robot.data.writer import DatasetWriter
from il_robot.spec import CameraSpec, RobotSpec
from il_robot.types import Outcome

sys.path.insert(0, str(Path(__file__).parent))  # for ros_messages
BENCHMARKS = Path(__file__).resolve().parents[2] / 'benchmarks'


def _load(name: str) -> ModuleType:
    """Import a file of ``benchmarks/`` (it is no package)."""
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f'{name}.py')
        assert spec and spec.loader
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


@pytest.fixture(scope='session')
def load_script() -> Callable[[str], ModuleType]:
    return _load


@pytest.fixture(scope='session')
def synthetic() -> ModuleType:
    return _load('synthetic_episodes')


@pytest.fixture(scope='session')
def spec(synthetic: ModuleType) -> RobotSpec:
    return synthetic.robot()


@pytest.fixture(scope='session')
def views(synthetic: ModuleType, spec: RobotSpec) -> list[CameraSpec]:
    """Two small cameras."""
    return synthetic.cameras(spec, 2, width=64, height=48)


Record = Callable[..., Path]


@pytest.fixture
def record(synthetic: ModuleType, spec: RobotSpec, tmp_path: Path) -> Record:
    """``record(lengths=(20, 30), views=()) -> path`` of a dataset with those episodes."""

    def make(lengths=(20, 30, 25), views=(), name='dataset', task=lambda e: 'transfer_cube',
             outcome=lambda e: Outcome.SUCCESS, round=lambda e: 0) -> Path:
        path = tmp_path / name
        with DatasetWriter.open(path, spec, synthetic.OBJECTS, views) as writer:
            for episode, length in enumerate(lengths):
                writer.begin(synthetic.info(episode, task(episode), round(episode)))
                for step in synthetic.steps(spec, length, episode, views=views):
                    writer.add(step)
                writer.end(outcome(episode))
        return path

    return make
