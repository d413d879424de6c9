"""What a run of correction rounds is (:mod:`il_robot.algorithms.dagger`), and its file."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from il_robot.algorithms.recipe import Recipe, make_recipe
from il_robot.config import build, to_dict
from il_robot.control.gate_thresholds import with_thresholds
from il_robot.control.gates import BetaGate, make_gate
from il_robot.data.layout import write_json
from il_robot.errors import ConfigError
from il_robot.policies.assessor import ASSESSOR

CONFIG = 'dagger.json'
FIRST_ROUND = 'rounds/00'
_SEEDS_PER_RUN, _SEEDS_PER_ROUND = 100_000, 1_000
_FIRST_SEED = 1_000_000
"""Of the rounds; evaluation takes those from 0, trials of checkpoints those from 900 000."""
_LEAST_PERIOD = 0.2
"""A shorter span holds no chunk worth learning [s]."""


@dataclass(frozen=True)
class DaggerConfig:
    """A run.

    Attributes:
        rounds: Of correction, after the demonstrations.
        demonstrations: Episodes of round 0.
        episodes: Of each further round.
        gate: Key of :data:`il_robot.control.gates.GATES`.
        options: The gate's.
        budget: Where not 0, the gate's thresholds are found anew for each round, so that the
            expert is asked for in about this share of the states
            (:func:`il_robot.algorithms.assess.train_assessor`).
        alone: Episodes at the beginning of a round, beside ``episodes``, that the policy drives
            without help and nobody labels, where the gate learns from them what is usual
            and what is risky; other gates have none.
        decay: The ``beta`` of round i is the gate's times ``decay ** (i - 1)``.
        relabel: Whether the expert labels every state visited; else only where he drives.
        noise: On the joints while the expert corrects [rad], see
            :class:`il_robot.algorithms.corrections.GatedFactory`.
        compare: Also train on demonstrations alone, as many as there are labels, in every round.
        warm_steps: Steps of every further round, which then starts from the policy of the round
            before; 0: each trains from fresh weights, with the recipe's steps.
        evaluate_episodes: After each round, on the seeds from 0.
        seed: Of demonstrations, rounds and training.
    """

    rounds: int = 5
    demonstrations: int = 10
    episodes: int = 20
    gate: str = 'beta'
    options: Mapping[str, Any] = field(default_factory=dict)
    budget: float = 0.0
    alone: int = 10
    decay: float = 0.5
    relabel: bool = True
    noise: float = 0.0
    compare: bool = False
    warm_steps: int = 0
    evaluate_episodes: int = 200
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ('rounds', 'demonstrations', 'episodes', 'evaluate_episodes'):
            if getattr(self, name) < 1:
                raise ValueError(f'{name} must be >= 1, got {getattr(self, name)}')
        most = _SEEDS_PER_RUN // _SEEDS_PER_ROUND - 1
        if self.episodes + self.alone > _SEEDS_PER_ROUND or self.rounds > most:
            raise ValueError(
                f'at most {_SEEDS_PER_ROUND} episodes (with those alone) in each of {most} rounds')
        if not 0 <= self.decay <= 1:
            raise ValueError(f'decay must be from 0 to 1, got {self.decay}')
        if not 0 <= self.noise <= 0.1:
            raise ValueError(f'noise must be 0 to 0.1 rad, got {self.noise}')
        if not 0 <= self.budget < 1:
            raise ValueError(f'budget must be from 0 to below 1, got {self.budget}')
        for name in ('seed', 'warm_steps', 'alone'):
            if getattr(self, name) < 0:
                raise ValueError(f'{name} must be >= 0, got {getattr(self, name)}')
        make_gate(self.gate, self.options)

    @property
    def assessed(self) -> bool:
        """Whether an assessor is trained in each round."""
        return bool(self.budget) or bool(
            {'doubt', 'risk'} & make_gate(self.gate, self.options).needs)

    def first_seed(self, number: int) -> int:
        """Of the episodes of a round; no two rounds of any two runs share one."""
        return _FIRST_SEED + _SEEDS_PER_RUN * self.seed + _SEEDS_PER_ROUND * number

    def gate_of(self, number: int, thresholds: Mapping[str, float]) -> dict[str, Any]:
        """The gate's options in a round.

        Args:
            number: Of the round.
            thresholds: What the budget makes of them; they count where it is not 0.
        """
        options = with_thresholds(
            self.gate, self.options, thresholds if self.budget else {})
        if self.gate == 'beta':
            options['beta'] = options.get('beta', 0.5) * self.decay ** (number - 1)
        return options


def open_dagger(
    output: Path, config: DaggerConfig, recipe: Recipe, environment: Mapping[str, Any],
    first: Path | None = None,
) -> None:
    """Make the folder of a new run.

    Args:
        output: The folder.
        config: The run.
        recipe: Of its policies.
        environment: What it drives in.
        first: Folder of a run with the same demonstrations: its policy of round 0, and that
            one's evaluation, are taken instead of being made once more.

    Raises:
        ConfigError: it is not empty, the recipe has cameras, the gate needs signals that the
            policy does not give, it leaves nothing to learn from, or the first run differs.
    """
    check_gate(config, recipe)
    if recipe.observation.cameras:
        raise ConfigError(
            'dagger collects joints and object poses only: observation.cameras=[] is needed')
    if output.exists() and (output.is_file() or any(output.iterdir())):
        raise ConfigError(
            f'{output} is not empty; add --resume to go on with the run there, or give another '
            f'--output')
    if first is not None:
        _check_same_beginning(first, config, recipe, environment)
        # what its gate learned of the policy is not the policy
        shutil.copytree(first / FIRST_ROUND, output / FIRST_ROUND,
                        ignore=shutil.ignore_patterns(ASSESSOR))
    output.mkdir(parents=True, exist_ok=True)
    write_json(output / CONFIG, {
        'config': to_dict(config), 'recipe': to_dict(recipe), 'environment': dict(environment)})


def _check_same_beginning(
    first: Path, config: DaggerConfig, recipe: Recipe, environment: Mapping[str, Any]
) -> None:
    """Refuse the first policy of a run that did not begin as this one would.

    Raises:
        ConfigError: names what differs.
    """
    other, its_recipe, its_environment = read_dagger(first)
    differing = [name for name in ('seed', 'demonstrations', 'evaluate_episodes')
                 if getattr(other, name) != getattr(config, name)]
    if to_dict(its_recipe) != to_dict(recipe):
        differing.append('recipe')
    if its_environment != json.loads(json.dumps(dict(environment))):
        differing.append('task, its options or disturbances')
    if differing:
        raise ConfigError(
            f'{first} did not begin as this run would: another {", another ".join(differing)}')
    if not (first / FIRST_ROUND / 'evaluation.json').exists():
        raise ConfigError(f'{first} has not finished its round 0; go on with it first')


def check_gate(config: DaggerConfig, recipe: Recipe) -> None:
    """Refuse a gate that cannot do anything for this policy.

    Raises:
        ConfigError: says what would be right.
    """
    gate = make_gate(config.gate, config.options)
    if 'novelty' in gate.needs and recipe.policy != 'ensemble':
        raise ConfigError(
            f'gate {config.gate} looks at how far the members of an ensemble disagree, but the '
            f'policy is {recipe.policy}: take --policy ensemble or ensemble_mlp')
    model = recipe.model.get('model', recipe.model)  # of the members
    if model.get('chunk_size', 1) == 1:
        return
    if config.gate == 'never' or (isinstance(gate, BetaGate) and gate.period < _LEAST_PERIOD):
        raise ConfigError(
            f'{recipe.policy} predicts chunks, which are learned from spans that the expert '
            f'drives: take --gate human, or --gate beta --gate-option period=1.0')


def read_dagger(output: Path) -> tuple[DaggerConfig, Recipe, dict[str, Any]]:
    """What :func:`open_dagger` wrote.

    Raises:
        ConfigError: no run there, or a damaged one.
    """
    try:
        data = json.loads((output / CONFIG).read_text())
        return (build(DaggerConfig, data['config'], CONFIG),
                make_recipe(data['recipe'], (), CONFIG), data['environment'])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f'no run to go on with in {output}: {error!r}') from None
