"""Filtered behavioural cloning: the policy tries, and what succeeded is imitated, again and again.

Reward-weighted regression (Peters and Schaal, "Reinforcement Learning by Reward-weighted
Regression for Operational Space Control", ICML 2007) where the reward of an episode is 0 or 1;
with a learned policy in between also known as expert iteration (Anthony et al., NeurIPS 2017) and
ReST (Gulcehre et al. 2023). All it needs of a policy is that it can be cloned, so it is for every
kind, chunks and generative ones included, and nothing is bootstrapped that could diverge: the
demonstrations stay, and each round adds what the policy itself did in episodes that succeeded.
Successes alone would come ever more from the scenes that are easy anyway. So a try that gets
nowhere goes back to where it still got on, and does something else from there, until it succeeds
(:mod:`il_robot.algorithms.returning`). In environments that do not say how far it is, scenes in
which it failed are tried again with some noise, so that it finds there what it would not do.

The episodes lie in OUTPUT/dataset beside the demonstrations, in the format of all datasets.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray

from il_robot.algorithms.advantage import Tries, advantages, values, weights
from il_robot.algorithms.bc import train
from il_robot.algorithms.collect_rounds import Place, collect_round
from il_robot.algorithms.corrections import GatedFactory
from il_robot.algorithms.evaluate import EpisodeResult
from il_robot.algorithms.finetune_config import FinetuneConfig
from il_robot.algorithms.recipe import Recipe, Training, make_recipe
from il_robot.algorithms.workers import MakeEnv
from il_robot.algorithms.world_parts import Step
from il_robot.checkpoints import find_checkpoint
from il_robot.config import build, to_dict
from il_robot.data import keys
from il_robot.data.dataset import Dataset, open_dataset
from il_robot.errors import ConfigError
from il_robot.policies.checkpoint import (
    Checkpoint,
    load_checkpoint,
    read_description,
    save_checkpoint,
)
from il_robot.policies.features import batch_features, robot_hands
from il_robot.policies.policy import Policy
from il_robot.types import Outcome

DATASET, TRIES, DRIVES, TRAINED = 'dataset', 'tries.jsonl', '.drives', '.trained'
_FIRST_SEED = 2_000_000
_SEEDS_PER_RUN = 100_000
_LENGTH = 250  # [control steps] of an episode, before one is known


@dataclass(frozen=True)
class FilteredConfig:
    """Of a round.

    Attributes:
        returns: How often a try that gets nowhere goes back, at most, and does something else
            from there (:mod:`il_robot.algorithms.returning`); for this the environment has to
            say how far it is (``progress()``). 0, or in one that does not: noise instead.
        offset: Deviation of what it does else, on the joints [rad].
        explore: Deviation of the noise on the joints where it failed before [rad].
        explore_new: In scenes that it has not tried.
        cut: A try ends after this many times the length that 95 % of the successes so far stay
            below: who is stuck stays stuck; 0: as the environment ends it.
        last_rounds: How many of the newest rounds are imitated beside the demonstrations: what
            an older policy did pulls back to it; 0: all.
        temperature: Above 0, every step of all tries is imitated by its advantage
            (:mod:`il_robot.algorithms.advantage`), with this temperature in deviations of the
            advantage; 0: successes, all the same.
        gamma: Discount of the advantages per control step.
        trace: How far ahead they look, see there.
        value_steps: Gradient steps of each of the networks behind them.
        demonstrations: Share of demonstrations in all weights then.
        again: Share of the tries in scenes where it failed in an earlier round.
        train_steps: Of the imitation after each round, which goes on from the weights that tried.
        learning_rate: Of it.
    """

    returns: int = 12
    offset: float = 0.005
    explore: float = 0.002
    explore_new: float = 0.0
    cut: float = 0.0
    last_rounds: int = 0
    temperature: float = 0.0
    gamma: float = 0.99
    trace: float = 0.9
    value_steps: int = 1500
    demonstrations: float = 0.1
    again: float = 0.5
    train_steps: int = 3000
    learning_rate: float = 5e-4

    def __post_init__(self) -> None:
        for name in ('offset', 'explore', 'explore_new'):
            if not 0 <= getattr(self, name) <= 0.1:
                raise ValueError(f'{name} must be 0 to 0.1 rad, got {getattr(self, name)}')
        for name in ('again', 'gamma', 'trace', 'demonstrations'):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f'{name} must be 0 to 1, got {getattr(self, name)}')
        for name in ('returns', 'cut', 'last_rounds', 'temperature'):
            if not getattr(self, name) >= 0:
                raise ValueError(f'{name} must be >= 0, got {getattr(self, name)}')
        if self.train_steps < 1 or not self.learning_rate > 0:
            raise ValueError(
                f'train_steps must be >= 1 and learning_rate > 0, got {self.train_steps} and '
                f'{self.learning_rate}')


AWR = {'returns': 0, 'explore': 0.001, 'explore_new': 0.001, 'cut': 1.5, 'last_rounds': 2,
       'temperature': 1.0}
"""What ``awr`` changes: all tries have noise, and each step of them counts by its advantage."""


class Filtered:
    """The algorithm at work (:class:`il_robot.algorithms.methods.Method`).

    Args:
        config: Of the run.
        start: Checkpoint that it begins with, in the run's folder.
        make_env: Makes the environment.
        dataset: Demonstrations and corrections.

    Raises:
        ConfigError: no dataset, or a policy that was not trained here.
    """

    crashes = 0

    def __init__(
        self, config: FinetuneConfig, start: Path, make_env: MakeEnv, dataset: Path | None
    ) -> None:
        if dataset is None:
            raise ConfigError(f'{config.algorithm} imitates demonstrations and its own tries: '
                              '--dataset is needed')
        self._config, self._make_env, self._folder = config, make_env, start.parent
        default = AWR if config.algorithm == 'awr' else {}
        self._own = build(
            FilteredConfig, {**default, **config.options}, f'{config.algorithm}: options')
        self._described, self._policy = load_checkpoint(start)
        self._recipe = recipe_of(self._described, config.seed, self._own)
        if not (self._folder / DATASET).exists():
            fresh = self._folder / f'.{DATASET}'
            shutil.rmtree(fresh, ignore_errors=True)
            shutil.copytree(dataset, fresh)
            fresh.rename(self._folder / DATASET)
        self.steps = self._episodes = self._fresh = 0
        # its own rounds follow those of corrections that it was given
        self._given = self._round = max(
            (e.round for e in open_dataset(dataset).episodes), default=0)
        self._failed: list[int] = []

    def run(
        self, until: int, on_step: Callable[[Step, dict[str, torch.Tensor]], None],
        should_stop: Callable[[], bool],
    ) -> bool:
        """Try until so many control steps are done, then learn; False where it was stopped."""
        before = self._counts()
        self._round += 1
        losses: dict[str, torch.Tensor] = {}
        again, failed = list(self._failed), list[int]()

        def count(seed: int, success: bool, length: int) -> None:
            self.steps += length
            self._episodes += 1
            if not success:
                failed.append(seed)
            on_step(_ended(success), losses)

        drives = self._write(self._folder / DRIVES)
        finished = True
        while finished and self.steps < until:
            old, fresh = self._seeds(until - self.steps, again)
            known = {e.seed: e for e in open_dataset(self._folder / DATASET).episodes
                     if e.round == self._round}
            took = self._took()
            for seed in (*old, *fresh):
                if seed in known:  # of this round, before it was stopped or killed
                    count(seed, known[seed].outcome is Outcome.SUCCESS,
                          took.get(seed, len(known[seed])))
            for seeds, explore in ((old, self._own.explore), (fresh, self._own.explore_new)):
                finished = finished and not should_stop() and self._try(
                    seeds, explore, drives, count, should_stop)
        finished = finished and self._learn(losses, should_stop)
        if finished:
            self._failed = again + failed
        else:  # the round begins again, with what is in the dataset
            self._set(before)
        return finished

    def _seeds(self, steps: int, again: list[int]) -> tuple[list[int], list[int]]:
        """Old ones (of ``again``) and new ones; together about so many steps."""
        length = self.steps / self._episodes if self._episodes else _LENGTH
        count = max(2 * self._config.worlds, math.ceil(steps / length))
        old = again[:int(self._own.again * count)]
        del again[:len(old)]
        first = _FIRST_SEED + _SEEDS_PER_RUN * self._config.seed + self._fresh
        self._fresh += count - len(old)
        return old, list(range(first, first + count - len(old)))

    def _try(
        self, seeds: list[int], explore: float, drives: str,
        count: Callable[[int, bool, int], None], should_stop: Callable[[], bool],
    ) -> bool:
        factory = GatedFactory(self._folder / DRIVES, relabel=False, explore=explore,
                               returns=self._own.returns, offset=self._own.offset)
        make_env = self._make_env
        if self._own.cut:
            made = [len(e) for e in open_dataset(self._folder / DATASET).episodes
                    if e.outcome is Outcome.SUCCESS]
            make_env = _Shorter(make_env, math.ceil(self._own.cut * np.quantile(made, 0.95)))
        place = Place(make_env, self._config.worlds, should_stop)

        def note(result: EpisodeResult) -> None:
            steps = max(result.length, result.simulated)
            with (self._folder / TRIES).open('a') as file:
                file.write(json.dumps([self._round, result.seed, steps]) + '\n')
            count(result.seed, result.success, steps)

        return collect_round(place, self._folder / DATASET, factory, seeds, number=self._round,
                             checkpoint=drives, on_result=note)

    def _took(self) -> dict[int, int]:
        """Control steps that each try of this round took, with those that went back."""
        path, found = self._folder / TRIES, dict[int, int]()
        for line in path.read_text().splitlines() if path.exists() else []:
            try:
                number, seed, steps = json.loads(line)
            except ValueError:  # killed while it was written
                continue
            if number == self._round:
                found[seed] = steps
        return found

    def _learn(self, losses: dict[str, torch.Tensor], should_stop: Callable[[], bool]) -> bool:
        """Go on from the weights that tried, on everything that succeeded."""
        run = self._folder / TRAINED
        shutil.rmtree(run, ignore_errors=True)

        def note(record: Any) -> None:
            losses['loss'] = torch.tensor(float(record['loss']))

        dataset = open_dataset(self._folder / DATASET)
        if self._own.temperature:
            dataset = weighted(
                dataset, self._described, self._own, self._config.seed, self._given)
        result = train(dataset, self._recipe, run,
                       start=self._folder / DRIVES, on_log=note, should_stop=should_stop)
        if result.finished:
            self._policy = load_checkpoint(find_checkpoint(run))[1]
        shutil.rmtree(run, ignore_errors=True)
        return result.finished

    def _write(self, folder: Path) -> str:
        """The policy as it is; its hash."""
        shutil.rmtree(folder, ignore_errors=True)
        save_checkpoint(folder, replace(self._described, hash='', step=self.steps), self._policy)
        return read_description(folder).hash

    def write_into(self, policy: Policy) -> None:
        """See :class:`il_robot.algorithms.methods.Method`."""
        policy.load_state_dict(self._policy.state_dict())

    def take_back(self, policy: Policy) -> None:
        """See there: the next round tries with this one."""
        self._policy.load_state_dict(policy.state_dict())

    def state(self) -> tuple[dict[str, torch.Tensor], dict[str, NDArray[Any]]]:
        """See there; the episodes are in the dataset."""
        return dict(self._policy.state_dict()), self._counts()

    def restore(
        self, tensors: Mapping[str, torch.Tensor], arrays: Mapping[str, NDArray[Any]]
    ) -> None:
        """The inverse of :meth:`state`."""
        self._policy.load_state_dict(dict(tensors))
        self._set(arrays)

    def _counts(self) -> dict[str, NDArray[Any]]:
        return {'counts': np.array([self.steps, self._episodes, self._fresh, self._round]),
                'failed': np.array(self._failed, np.int64)}

    def _set(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        self.steps, self._episodes, self._fresh, self._round = arrays['counts'].tolist()
        self._failed = arrays['failed'].tolist()

    def close(self) -> None:
        """Nothing is left running."""
        for name in (DRIVES, TRAINED):
            shutil.rmtree(self._folder / name, ignore_errors=True)


def recipe_of(described: Checkpoint, seed: int, config: FilteredConfig) -> Recipe:
    """How a policy was trained, changed to what is imitated here.

    Raises:
        ConfigError: it does not say.
    """
    known = {k: v for k, v in described.training.items() if k in Training.__dataclass_fields__}
    if not known:
        raise ConfigError('the checkpoint does not say how it was trained; this needs one of '
                          '"il_robot train"')
    training = replace(
        build(Training, known, 'checkpoint: training'), seed=seed, policy_successes=True,
        outcomes=('success', 'unknown', 'failure') if config.temperature else (
            'success', 'unknown'),
        recombine=0.0 if config.temperature else known.get('recombine', 0.0),
        # where rows have weights, these decide
        last_rounds=0 if config.temperature else config.last_rounds, steps=config.train_steps,
        learning_rate=config.learning_rate, evaluate_every=0)
    return make_recipe({
        'policy': described.policy, 'model': to_dict(described.model),
        'training': to_dict(training), 'execution': dict(described.execution),
        'observation': to_dict(described.observation)}, where='checkpoint')


def weighted(
    dataset: Dataset, described: Checkpoint, config: FilteredConfig, seed: int, given: int = 0
) -> Dataset:
    """The same with weights: tries of the newest rounds by advantage, and what was given.

    Tries are of the rounds after ``given``.
    """
    rounds = sorted({e.round for e in dataset.episodes if e.round > given})
    rounds = rounds[-(config.last_rounds or len(rounds)):]
    episodes = [e for e in dataset.episodes if e.round in rounds]
    rows = np.concatenate([np.arange(e.start, e.stop) for e in episodes])
    hands = robot_hands(dataset.spec)
    objects = {name: dataset.objects[rows, i] for i, name in enumerate(dataset.object_names)}
    seen = described.normalizer.normalize('features', batch_features(
        dataset.state[rows], objects, described.layout, hands))
    tries = Tries(seen, np.cumsum([len(e) for e in episodes]),
                  np.array([e.outcome is Outcome.SUCCESS for e in episodes]))
    value = values(tries, config.gamma, config.value_steps, seed)
    weight = np.zeros(len(dataset), np.float32)
    weight[rows] = (1 - config.demonstrations) * weights(
        advantages(tries, value, config.gamma, config.trace), config.temperature)
    shown = np.concatenate([np.arange(e.start, e.stop) for e in dataset.episodes
                            if e.round <= given and e.outcome is not Outcome.FAILURE])
    weight[shown] = config.demonstrations * len(rows) / max(1, len(shown))
    return replace(dataset, columns={**dataset.columns, keys.WEIGHT: weight})


@dataclass(frozen=True)
class _Shorter:
    """Makes environments whose episodes end earlier; picklable."""

    make_env: MakeEnv
    steps: int

    def __call__(self) -> Any:
        return gym.wrappers.TimeLimit(self.make_env(), self.steps)


def _ended(success: bool) -> Step:
    """An episode of one world that has ended, for those who count them."""
    none, yes = np.zeros((1, 0), np.float32), np.ones(1, bool)
    return Step(none, np.zeros(1, np.float32), none, yes, ~yes, np.array([success]))
