"""Bimanual tasks as a suite poses them, and how policies for them come about.

A suite's YAML has ``scenes`` (what is to be done, how much is demonstrated) and ``pipelines`` (a
recipe of config/train, and what follows the cloning: rounds of correction, or reinforcement).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from il_robot.algorithms.dagger_config import DaggerConfig
from il_robot.algorithms.finetune_config import FinetuneConfig
from il_robot.algorithms.recipe import Recipe, load_recipe
from il_robot.bench.application import Application
from il_robot.config import build
from il_robot.demonstrations import shaken, steady_noise
from il_robot.errors import ConfigError, unknown
from il_robot.resources import named_config
from il_robot.sim import task_names
from il_robot.sim.disturbances import Disturbances
from il_robot.sim.registration import ENV_IDS

_HALF_RANGE = 3.0  # about, of a joint [rad]: actions of applications go from -1 to 1
FLAT = ('gail', 'ppo', 'sac_demos', 'bc_ppo')
"""Methods of applications that a pipeline may name."""


@dataclass(frozen=True)
class Scene:
    """A bimanual task.

    Attributes:
        task: One of :func:`il_robot.sim.task_names`.
        width: Of the reset: ``narrow``, ``nominal``, ``wide``.
        disturbances: Fields of :class:`il_robot.sim.disturbances.Disturbances`.
        task_options: Of the task, for example ``clearance`` [m].
        demonstrations: Numbers of episodes that are cloned, ascending; whatever follows the
            cloning begins with the first.
        noise: On what the expert does when he demonstrates, not on his labels [rad]; None: as
            ``il_robot record`` has it for the task (:mod:`il_robot.demonstrations`).
    """

    task: str = 'transfer_cube'
    width: str = 'nominal'
    disturbances: Mapping[str, Any] = field(default_factory=dict)
    task_options: Mapping[str, Any] = field(default_factory=dict)
    demonstrations: tuple[int, ...] = (10, 20, 50)
    noise: float | None = None

    def __post_init__(self) -> None:
        if self.task not in task_names():
            raise ValueError(unknown('task', self.task, task_names()))
        if not self.demonstrations or list(self.demonstrations) != sorted(
                set(self.demonstrations)) or self.demonstrations[0] < 1:
            raise ValueError(f'demonstrations must ascend from 1, got {self.demonstrations}')
        build(Disturbances, self.disturbances, 'disturbances')

    @property
    def shaken(self) -> dict[str, float]:
        """Disturbances of the demonstrations, beside the scene's own."""
        return shaken(self.task, self.noise)

    @property
    def steady_noise(self) -> float:
        """On an expert who is shaken in every step [rad]: none where he could not finish so."""
        return steady_noise(self.task, self.noise)

    def arguments(self, **disturbances: float) -> dict[str, Any]:
        """Of :func:`il_robot.sim.make`, with these disturbances instead of the scene's own."""
        return {'task': self.task, 'width': self.width, 'task_options': dict(self.task_options),
                'disturbances': {**self.disturbances, **disturbances}}

    def application(self, steps: int, demonstrations: int) -> Application:
        """The same for methods that see a row of numbers: joints and poses of the objects."""
        env_id = next(name for name, task in ENV_IDS.items() if task == self.task)
        options = {k: v for k, v in self.arguments().items() if k != 'task'}
        return Application(
            f'il_robot.sim:{env_id}', 'il_robot.bench.experts:bimanual', options, 'success',
            gamma=0.99, steps=steps, demonstrations=demonstrations,
            noise=self.steady_noise / _HALF_RANGE)


@dataclass(frozen=True)
class Pipeline:
    """How a policy comes about.

    Attributes:
        policy: A recipe of config/train; where there is one named POLICY_TASK, that.
        changes: ``KEY=VALUE`` of the recipe.
        dagger: Rounds of correction after the cloning: fields of
            :class:`il_robot.algorithms.dagger_config.DaggerConfig`.
        finetune: Fine-tuning after it: fields of
            :class:`il_robot.algorithms.finetune_config.FinetuneConfig`.
        begin: Demonstrations that ``dagger`` and ``finetune`` begin with; 0: the scene's fewest.
        curve: Clone every number of demonstrations; else only the largest.
        flat: One of :data:`FLAT` instead of all that.
        steps: Of the environment that ``flat`` may take.
        scenes: On which alone; empty for all.
    """

    policy: str = 'mlp'
    changes: tuple[str, ...] = ()
    dagger: Mapping[str, Any] = field(default_factory=dict)
    finetune: Mapping[str, Any] = field(default_factory=dict)
    begin: int = 0
    curve: bool = True
    flat: str = ''
    steps: int = 200_000
    scenes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if sum(map(bool, (self.dagger, self.finetune, self.flat))) > 1:
            raise ValueError('dagger, finetune and flat exclude one another')
        if self.dagger.get('compare'):
            raise ValueError('dagger: compare is what another pipeline is for; leave it out')
        if self.flat and self.flat not in FLAT:
            raise ValueError(unknown('flat', self.flat, FLAT))
        build(DaggerConfig, self.dagger, 'dagger')
        build(FinetuneConfig, self.finetune, 'finetune')

    def finetuning(self, seed: int) -> FinetuneConfig:
        """The whole configuration; one core works on it."""
        return build(FinetuneConfig, {
            'worlds': 1, 'processes': 0, 'evaluate_episodes': 100, 'final_episodes': 1,
            **self.finetune, 'seed': seed}, 'finetune')

    def recipe(self, task: str) -> Recipe:
        """For one task.

        Raises:
            ConfigError: there is none.
        """
        try:
            path = named_config('train', f'{self.policy}_{task}')
        except ConfigError:
            path = named_config('train', self.policy)
        return load_recipe(path, [*self.changes, 'training.threads=1'])
