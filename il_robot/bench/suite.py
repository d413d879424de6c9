"""A suite: which methods, on which environments, with which seeds, and its results on disk.

The folder of a run::

    suite.json                            what is compared; another suite is refused there
    results/ENVIRONMENT/METHOD/SEED.json  one cell: what it took and brought, where and when
    failed/ENVIRONMENT/METHOD/SEED.txt    why there is no result

A cell that has a result is never run again. Two runs in one folder are refused while the first is
alive; cells of another version of the package are refused, too, because they would be compared
with those of this one.
"""

from __future__ import annotations

import fcntl
import json
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from il_robot import __version__
from il_robot.bench.application import Application
from il_robot.bench.flat import EVALUATED, METHODS, REFERENCES, Task
from il_robot.config import build, load_yaml, to_dict
from il_robot.data.layout import write_json
from il_robot.errors import ConfigError, unknown

SUITE, RESULTS, FAILED, LOCK = 'suite.json', 'results', 'failed', '.lock'


@dataclass(frozen=True)
class Suite:
    """What is compared.

    Attributes:
        name: Of the suite.
        applications: Environments by name.
        methods: Of :data:`il_robot.bench.flat.METHODS`.
        seeds: Training seeds of each.
        episodes: Of every evaluation.
        about: What it is for, a sentence of the report.
    """

    name: str
    applications: dict[str, Application] = field(default_factory=dict)
    methods: tuple[str, ...] = ('bc', 'dagger', 'gail', 'ppo', 'bc_ppo')
    seeds: tuple[int, ...] = (0, 1, 2)
    episodes: int = len(EVALUATED)
    about: str = ''

    def __post_init__(self) -> None:
        for method in self.methods:
            if method not in METHODS:
                raise ValueError(unknown('method', method, list(METHODS)))
        if not self.applications or not self.methods or not self.seeds:
            raise ValueError('a suite needs applications, methods and seeds')
        if self.episodes < 1:
            raise ValueError(f'episodes must be >= 1, got {self.episodes}')

    def cells(self) -> Iterator[Cell]:
        """Everything there is to run: seed by seed, so that a run cut short is still fair."""
        for name, application in self.applications.items():
            for reference in REFERENCES:
                yield Cell(name, application, reference, 0, self.episodes)
        for seed in self.seeds:
            for name, application in self.applications.items():
                for method in self.methods:
                    if not (method == 'rlpd' and _has_choices(application)):
                        yield Cell(name, application, method, seed, self.episodes)


def _has_choices(application: Application) -> bool:
    from il_robot.bench.application import MakeFlat

    env = MakeFlat(application)()
    try:
        return hasattr(env.action_space, 'n')
    finally:
        env.close()


@dataclass(frozen=True)
class Cell:
    """One method on one environment with one seed; picklable."""

    environment: str
    application: Application
    method: str
    seed: int
    episodes: int

    @property
    def path(self) -> Path:
        """Of its result, below :data:`RESULTS`."""
        return Path(self.environment) / self.method / f'{self.seed}.json'

    def run(self) -> dict[str, Any]:
        """Its result."""
        begun = time.time()
        task = Task(self.application, self.seed, range(self.episodes))
        outcome = (METHODS | REFERENCES)[self.method](task)
        return {'environment': self.environment, 'method': self.method, 'seed': self.seed,
                'version': __version__, 'begun': begun, 'wall_seconds': time.time() - begun,
                **about(), **outcome.to_dict()}


def about() -> dict[str, Any]:
    """Where and with what this runs."""
    return {'machine': f'{platform.machine()}, {os.cpu_count()} cores, '
                       f'Python {platform.python_version()}',
            'packages': {name: version(name) for name in ('gymnasium', 'numpy', 'torch')}}


def load_suite(path: Path) -> Suite:
    """From a YAML file.

    Raises:
        ConfigError: missing, or a wrong key or value.
    """
    return build(Suite, {'name': path.stem, **load_yaml(path)}, str(path))


@contextmanager
def opened(suite: Suite, output: Path) -> Iterator[None]:
    """The folder of a run, for this process alone.

    Raises:
        ConfigError: another suite, another version or another process is there.
    """
    output.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(output / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ConfigError(f'another run writes into {output}; wait, or give another '
                              '--output') from None
        _check(suite, output)
        write_json(output / SUITE, {'version': __version__, 'suite': to_dict(suite)})
        yield
    finally:
        os.close(descriptor)


def _check(suite: Suite, output: Path) -> None:
    path = output / SUITE
    if not path.exists():
        return
    there = json.loads(path.read_text())
    if there['version'] != __version__:
        raise ConfigError(
            f'the results in {output} are of version {there["version"]}, this is {__version__}: '
            'they would not be comparable; give another --output')
    before, now = there['suite'], to_dict(suite)
    other = [name for name, old in before['applications'].items()
             if now['applications'].get(name, old) != old]
    if before['episodes'] != now['episodes']:
        other.append('episodes')
    if other:
        raise ConfigError(f'{output} has results of another {", ".join(other)}; give another '
                          '--output')


def read_results(output: Path) -> list[dict[str, Any]]:
    """All cells that are finished."""
    return [json.loads(path.read_text())
            for path in sorted((output / RESULTS).glob('*/*/*.json'))]
