"""A suite: which methods, on which environments, with which seeds, and its results on disk.

The folder of a run::

    suite.json                            what is compared; another suite is refused there
    results/ENVIRONMENT/METHOD/SEED.json  one cell: what it took and brought, where and when
    failed/ENVIRONMENT/METHOD/SEED.txt    why there is no result
    work/ENVIRONMENT/METHOD/SEED/         files of a pipeline: it goes on there after a kill

A cell that has a result is never run again. Two runs in one folder are refused while the first is
alive; cells of another version of the package are refused, too, because they would be compared
with those of this one.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import il_robot
from il_robot import __version__
from il_robot.algorithms.dagger_config import DaggerConfig
from il_robot.algorithms.methods import default_options
from il_robot.bench import flat, flat_rl
from il_robot.bench.application import Application, MakeFlat
from il_robot.bench.clock import locked
from il_robot.bench.episodes import DELAY, FIRST_SEED, reference
from il_robot.bench.outcome import EXPERT, RANDOM, REFERENCES, Outcome
from il_robot.bench.pipelines import Work
from il_robot.bench.scenes import Pipeline, Scene
from il_robot.config import build, load_yaml, to_dict
from il_robot.data.layout import write_json
from il_robot.errors import ConfigError, unknown
from il_robot.sim.disturbances import Disturbances

SUITE, RESULTS, FAILED, WORK = 'suite.json', 'results', 'failed', 'work'
METHODS: dict[str, Callable[[flat.Task], Outcome]] = {
    'bc': flat.bc, 'dagger': flat.dagger, 'gail': flat_rl.gail, 'ppo': flat_rl.ppo,
    'bc_ppo': flat_rl.bc_ppo, 'sac_demos': flat_rl.sac_demos}
"""On applications."""
_ABOVE = 'apps', 'nodes'  # layers that import this one, never the other way round
_KINDS = 'applications', 'scenes', 'pipelines', 'recipes'
_ENDS = {EXPERT: flat.expert, RANDOM: flat.random}


@dataclass(frozen=True)
class Suite:
    """What is compared.

    Attributes:
        name: Of the suite.
        applications: Environments of Gymnasium by name.
        methods: Of :data:`METHODS`, on all of those.
        scenes: Bimanual tasks by name.
        pipelines: How policies for those come about, by name.
        strengths: Disturbances that the last policy of a pipeline is tried under, and how strong:
            fields of :class:`il_robot.sim.disturbances.Disturbances`, and ``delay`` [s].
        seeds: Training seeds of each.
        episodes: Of the evaluation at the end.
        on_the_way: Of those before; 0: as many on applications, a quarter on scenes.
        about: What it is for, a sentence of the report.
    """

    name: str
    applications: dict[str, Application] = field(default_factory=dict)
    methods: tuple[str, ...] = ('bc', 'dagger', 'gail', 'ppo', 'bc_ppo')
    scenes: dict[str, Scene] = field(default_factory=dict)
    pipelines: dict[str, Pipeline] = field(default_factory=dict)
    strengths: Mapping[str, Any] = field(default_factory=dict)
    seeds: tuple[int, ...] = (0, 1, 2)
    episodes: int = 200
    on_the_way: int = 0
    about: str = ''

    def __post_init__(self) -> None:
        for method in self.methods:
            if method not in METHODS:
                raise ValueError(unknown('method', method, list(METHODS)))
        if not (self.applications and self.methods or self.scenes and self.pipelines) \
                or not self.seeds:
            raise ValueError(
                'a suite needs seeds, and applications with methods or scenes with pipelines')
        if self.applications.keys() & self.scenes.keys():
            raise ValueError('an application and a scene have the same name')
        for name in (*REFERENCES, *METHODS):
            if name in self.pipelines and (name in REFERENCES or self.applications):
                raise ValueError(f'{name!r} is no name for a pipeline here: it is taken')
        if len(set(self.seeds)) < len(self.seeds) or min(self.seeds) < 0:
            raise ValueError(f'seeds must differ and be >= 0, got {self.seeds}')
        if self.episodes < 1 or not 0 <= self.on_the_way <= self.episodes:
            raise ValueError(f'episodes must be >= 1 and on_the_way at most as many, got '
                             f'{self.episodes} and {self.on_the_way}')
        for name, values in self.strengths.items():
            if not isinstance(values, list | tuple) or not values:
                raise ValueError(f'strengths: {name} must be a list, got {values!r}')
            if list(values) != sorted(set(values)) or values[0] < 0:
                raise ValueError(f'strengths: {name} must ascend from 0 on, got {values}')
            if name != DELAY:
                for value in values:
                    build(Disturbances, {name: value}, 'strengths')

    def cells(self) -> Iterator[Cell]:
        """Everything there is to run: seed by seed, so that a run cut short is still fair."""
        for name in (*self.applications, *self.scenes):
            for end in REFERENCES:
                yield self._cell(name, end, 0)
        for seed in self.seeds:
            for name, application in self.applications.items():
                for method in self.methods:
                    if not (method == 'sac_demos' and _has_choices(application)):
                        yield self._cell(name, method, seed)
            for name in self.scenes:
                for method, pipeline in self.pipelines.items():
                    if name in pipeline.scenes or not pipeline.scenes:
                        yield self._cell(name, method, seed)

    def _cell(self, name: str, method: str, seed: int) -> Cell:
        where = self.applications.get(name) or self.scenes[name]
        return Cell(name, method, seed, self.episodes, where, self.pipelines.get(method),
                    self.strengths, self.on_the_way)


def _has_choices(application: Application) -> bool:
    env = MakeFlat(application)()
    try:
        return hasattr(env.action_space, 'n')
    finally:
        env.close()


@dataclass(frozen=True)
class Cell:
    """One method on one environment with one seed; picklable."""

    environment: str
    method: str
    seed: int
    episodes: int
    where: Application | Scene
    how: Pipeline | None = None
    strengths: Mapping[str, Any] = field(default_factory=dict)
    on_the_way: int = 0

    @property
    def path(self) -> Path:
        """Of its result, below :data:`RESULTS`."""
        return Path(quote(self.environment, safe=':'), self.method, f'{self.seed}.json')

    def run(self, output: Path) -> dict[str, Any]:
        """Its result; what it needs in between is in the folder of the run."""
        begun = time.time()
        outcome = self._outcome((output / WORK / self.path).with_suffix(''))
        return {'environment': self.environment, 'method': self.method, 'seed': self.seed,
                'version': __version__, 'code': code_hash(), 'begun': begun,
                'wall_seconds': time.time() - begun,
                **about(), **outcome.to_dict()}

    def _outcome(self, folder: Path) -> Outcome:
        where, how = self.where, self.how
        if isinstance(where, Application):
            return (METHODS | _ENDS)[self.method](
                flat.Task(where, self.seed, range(self.episodes),
                          range(self.on_the_way or self.episodes)))
        if self.method in REFERENCES:
            return reference(self.method, where, self.episodes, self.strengths)
        assert how is not None, 'every other method of a scene is a pipeline'
        fewer = self.on_the_way or max(1, self.episodes // 4)
        if how.flat:
            return METHODS[how.flat](flat.Task(
                where.application(how.steps, how.begin or where.demonstrations[-1]), self.seed,
                range(FIRST_SEED, FIRST_SEED + self.episodes),
                range(FIRST_SEED, FIRST_SEED + fewer)))
        return Work(where, how, self.seed, self.episodes, folder, self.strengths, fewer).run()


@cache
def code_hash() -> str:
    """Of all sources that a cell can run: what a version number does not say between releases.

    That is the package without commands and nodes, which nothing here imports.
    """
    root, digest = Path(il_robot.__file__).parent, hashlib.sha256()
    for path in sorted(root.rglob('*.py')):
        name = path.relative_to(root)
        if name.parts[0] not in _ABOVE:
            digest.update(str(name).encode() + path.read_bytes())
    return digest.hexdigest()[:12]


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
    suite = build(Suite, {'name': path.stem, **load_yaml(path)}, str(path))
    for name, pipeline in suite.pipelines.items():
        for scene in pipeline.scenes:
            if scene not in suite.scenes:  # a part of a suite may lack some of them
                raise ConfigError(f'{path}: {name}: '
                                  f'{unknown("scene", scene, list(suite.scenes))}')
    return suite


@contextmanager
def opened(suite: Suite, output: Path) -> Iterator[None]:
    """The folder of a run, for this process alone.

    Raises:
        ConfigError: another suite, another version or another process is there.
    """
    with locked(output):
        write_json(output / SUITE, {'version': __version__, 'suite': _grown(suite, output)})
        yield


def _grown(suite: Suite, output: Path) -> dict[str, Any]:
    """What is compared in a folder, with what is added now.

    Everything that decides results is in it, the recipes of pipelines, too.

    Raises:
        ConfigError: what is there already is of another version, or other than now.
    """
    now = json.loads(json.dumps({**to_dict(suite), 'recipes': {
        f'{name} on {task}': {
            **to_dict(pipeline.recipe(task)),
            **({'dagger': to_dict(build(DaggerConfig, pipeline.dagger, name))}
               if pipeline.dagger else {}),
            **({'finetune': to_dict(pipeline.finetuning(0)),
                'options': default_options(pipeline.finetuning(0))} if pipeline.finetune else {})}
        for name, pipeline in suite.pipelines.items() if not pipeline.flat
        for task in sorted({scene.task for scene in suite.scenes.values()})}}))
    path = output / SUITE
    if not path.exists():
        return now
    there = json.loads(path.read_text())
    if there['version'] != __version__:
        raise ConfigError(
            f'the results in {output} are of version {there["version"]}, this is {__version__}: '
            'they would not be comparable; give another --output')
    before = there['suite']
    other = [name for kind in _KINDS for name, old in before[kind].items()
             if now[kind].get(name, old) != old]
    other += [key for key in ('episodes', 'on_the_way', 'strengths')
              if before.get(key) != now[key]]
    if other:
        raise ConfigError(f'{output} has results of another {", ".join(other)}; give another '
                          '--output')
    now |= {kind: before[kind] | now[kind] for kind in _KINDS}
    return now | {key: sorted({*before[key], *now[key]}) for key in ('seeds', 'methods')}


def read_results(output: Path) -> list[dict[str, Any]]:
    """All cells that are finished."""
    return [json.loads(path.read_text())
            for path in sorted((output / RESULTS).glob('*/*/*.json'))]


def read_failed(output: Path) -> dict[str, str]:
    """The last line of why a cell has no result, by environment, method and seed."""
    found = {}
    for path in sorted((output / FAILED).glob('*/*/*.txt')):
        name = f'{unquote(path.parts[-3])}, {path.parts[-2]}, seed {path.stem}'
        found[name] = path.read_text().strip().splitlines()[-1]
    return found
