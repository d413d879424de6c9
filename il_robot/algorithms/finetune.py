"""Imitation, then reinforcement: a checkpoint goes in, a better one of the same kind comes out.

The folder of a run::

    finetune.json         all that is needed to go on
    start/                what it begins with: the checkpoint as it is learned on
    checkpoints/000025000 every policy that was better than all before; the newest is the best
    state/                the newest state of the learner and what it has experienced, saved
                          before each evaluation and where somebody asked to stop
    records.json          every evaluation: what it took and what it brought

An evaluation runs the policy exactly as ``il_robot evaluate`` does, from its checkpoint. All of
them go over the same seeds; since the best is chosen by those, what is reported before and at the
end goes over other ones. A policy that has become much worse than the best one is taken back.
"""

from __future__ import annotations

import shutil
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from il_robot.algorithms.controller import PolicyFactory
from il_robot.algorithms.evaluate import evaluate
from il_robot.algorithms.finetune_config import (
    CONFIG,
    CORRECTING,
    RECORDS,
    TRYING,
    FinetuneConfig,
    read_finetune,
    read_records,
)
from il_robot.algorithms.methods import Method, make_method
from il_robot.algorithms.policy_env import executed_steps, residual_policy
from il_robot.algorithms.progress import evaluation_bar, finetune_bar
from il_robot.algorithms.run_state import DAMAGES, STATE, RunState, load_state, save_state
from il_robot.algorithms.workers import MakeEnv
from il_robot.algorithms.world_parts import Step
from il_robot.data.layout import write_json
from il_robot.errors import ConfigError, IlRobotError, SimulationError
from il_robot.policies.checkpoint import load_checkpoint, save_checkpoint
from il_robot.policies.residual import ResidualPolicy
from il_robot.statistics import wilson

START = 'start'
_FINAL_SEED = 100_000


@dataclass(frozen=True)
class Around:
    """What a run happens in, none of which decides what it learns but for the time it has.

    Attributes:
        make_env: Makes the environment.
        workers: Processes that evaluate.
        should_stop: Asked often; True ends at a point to go on from.
        on_record: Called with each new record.
        shown: Whether progress bars are.
    """

    make_env: MakeEnv
    workers: int = 1
    should_stop: Callable[[], bool] = lambda: False
    on_record: Callable[[Mapping[str, Any]], None] = lambda record: None
    shown: bool = True


class _StoppedError(Exception):
    """Somebody asked to stop; everything so far is safe."""


def finetune(output: Path, around: Around) -> bool:
    """Go on with the run in ``output`` until its end.

    Returns:
        Whether it is finished; False where it was stopped.

    Raises:
        ConfigError: no run there, or one that cannot be trained.
        SimulationError: worlds die again and again.
    """
    config, start, dataset, _ = read_finetune(output)
    fresh = not (output / START).exists()
    try:
        if fresh:
            _prepare(output, config, start)
        config = of_correction(config, output / START)
        method = make_method(config, output / START, around.make_env, dataset)
    except IlRobotError:
        if fresh:  # the same --output shall do for what was meant
            shutil.rmtree(output / START, ignore_errors=True)
            (output / CONFIG).unlink()
        raise
    try:
        _Run(output, config, around, method).go()
    except _StoppedError:
        return False
    finally:
        method.close()
    return True


def _prepare(output: Path, config: FinetuneConfig, start: Path) -> None:
    """The checkpoint that the run begins with.

    Raises:
        ConfigError: the algorithm is not for it.
    """
    checkpoint, policy = load_checkpoint(start)
    corrected = isinstance(policy, ResidualPolicy)
    if corrected and config.algorithm not in (*TRYING, *CORRECTING):
        raise ConfigError(
            f'{config.algorithm} changes a whole policy, and this one is corrected: take '
            f'--algorithm {" or ".join(CORRECTING)}, which go on with its correction')
    torch.manual_seed(config.seed)
    if config.algorithm in CORRECTING and not corrected:
        described, policy = residual_policy(
            checkpoint, policy, config.hidden, config.limit, config.hold)
    else:
        if config.algorithm not in (*TRYING, *CORRECTING):
            executed_steps(checkpoint, policy)
        described = replace(checkpoint, start=checkpoint.hash, hash='', step=0)
    save_checkpoint(output / START, described, policy)


def of_correction(config: FinetuneConfig, start: Path) -> FinetuneConfig:
    """With the limit and the time of the correction that there is, which may be older."""
    policy = load_checkpoint(start)[1]
    if not isinstance(policy, ResidualPolicy):
        return config
    return replace(config, limit=policy.limit, hold=policy.hold)


class _Run:
    """One run; see the module."""

    def __init__(
        self, output: Path, config: FinetuneConfig, around: Around, method: Method
    ) -> None:
        self.output, self.config, self.around, self.method = output, config, around, method
        self.records = read_records(output)
        self._of_decision = steps_of_decision(config, output / START)
        self.recent: deque[bool] = deque(maxlen=200)
        self.episodes = self.crashes = 0  # crashes of earlier sessions
        self.spent = self.learned = 0.0  # [min]
        self.losses: dict[str, torch.Tensor] = {}

    def go(self) -> None:
        """From where it is to the end."""
        due = self._load()
        if not self._of('start'):
            self._final('start', self.output / START)
        if due:
            self._judge()
        while not (why := self._ended()):
            self._learn()
            self._judge()
        if not self._of('end'):
            self._final('end', self._best(), why)

    def _of(self, kind: str) -> list[dict[str, Any]]:
        return [r for r in self.records if r['kind'] == kind]

    def _ended(self) -> str:
        """Why there is nothing more to do; empty where there is."""
        config, during = self.config, self._of('during')
        rates = [r['success_rate'] for r in during]
        best = int(np.argmax(rates))
        if rates[best] >= config.target:
            return f'{100 * rates[best]:.1f} % is the target'
        if during[-1]['minutes'] >= config.minutes:
            return f'{config.minutes:g} minutes are over'
        if during[-1]['steps'] >= config.steps:
            return f'{config.steps} steps are done'
        if config.patience and len(rates) - 1 - best >= config.patience:
            return f'{config.patience} evaluations brought nothing better'
        return ''

    def _learn(self) -> None:
        """Until the next evaluation, or the end of the time."""
        config, method = self.config, self.method
        begun = time.monotonic()
        until = min(config.steps, (method.steps // config.every + 1) * config.every)

        def spent() -> float:
            return self.spent + (time.monotonic() - begun) / 60

        def over() -> bool:
            return spent() >= config.minutes

        def count(step: Step, losses: dict[str, torch.Tensor]) -> None:
            self._count(step, losses)
            bar.show(method.steps, spent(), self.recent, self.losses)

        with finetune_bar(until, method.steps, config.minutes, shown=self.around.shown) as bar:
            done = method.run(until, count, lambda: over() or self.around.should_stop())
        took = (time.monotonic() - begun) / 60
        self.spent, self.learned = self.spent + took, self.learned + took
        self._save(due=done or over())
        if self.around.should_stop():
            raise _StoppedError

    def _count(self, step: Step, losses: dict[str, torch.Tensor]) -> None:
        ended = step.ended
        self.recent.extend(step.success[ended].tolist())
        self.episodes += int(ended.sum())
        self.losses |= losses

    def _judge(self) -> None:
        """Evaluate the policy as it is; keep it, or take it back."""
        config, method = self.config, self.method
        begun = time.monotonic()
        folder = self.output / f'.{method.steps:09d}'
        shutil.rmtree(folder, ignore_errors=True)
        self._write(folder)
        solved, count = self._evaluate(folder, range(config.evaluate_episodes))
        during = self._of('during')
        best = max((r['successes'] for r in during), default=-1)
        better = solved > best
        back = solved < best - config.tolerance * count
        record = self._record('during', solved, count) | {
            'minutes': self.spent + (time.monotonic() - begun) / 60,
            'learning_minutes': self.learned,
            'training_episodes': self.episodes, 'better': better, 'taken_back': back,
            'training_success': float(np.mean(self.recent)) if self.recent else None,
            **{k: float(v) for k, v in self.losses.items()}}
        if better:
            place = self.output / 'checkpoints' / f'{method.steps:09d}'
            place.parent.mkdir(exist_ok=True)
            shutil.rmtree(place, ignore_errors=True)
            folder.rename(place)
        else:
            shutil.rmtree(folder)
        self.spent = record['minutes']
        self._add(record)
        if back:
            self._take_back()

    def _take_back(self) -> None:
        self.method.take_back(load_checkpoint(self._best())[1])
        self._save(due=False)

    def _final(self, kind: str, checkpoint: Path, why: str = '') -> None:
        count = self.config.final_episodes
        solved, _ = self._evaluate(
            checkpoint, range(_FINAL_SEED, _FINAL_SEED + count))
        record = self._record(kind, solved, count)
        during = self._of('during')
        self._add(record | {'minutes': during[-1]['minutes'] if during else 0.0,
                            'checkpoint': str(checkpoint.relative_to(self.output)), 'why': why,
                            'crashes': self.crashes + self.method.crashes})

    def _record(self, kind: str, solved: int, count: int) -> dict[str, Any]:
        return {'kind': kind, 'algorithm': self.config.algorithm, 'seed': self.config.seed,
                'steps': self.method.steps,
                'control_steps': self.method.steps * self._of_decision,
                'successes': solved, 'evaluated': count,
                'success_rate': solved / count, 'interval_95': list(wilson(solved, count))}

    def _add(self, record: dict[str, Any]) -> None:
        self.records.append(record)
        write_json(self.output / RECORDS, {'records': self.records})
        self.around.on_record(record)

    def _evaluate(self, checkpoint: Path, seeds: range) -> tuple[int, int]:
        around = self.around
        with evaluation_bar(len(seeds), shown=around.shown) as bar:
            found = evaluate(around.make_env, PolicyFactory(checkpoint), seeds,
                             workers=around.workers, on_result=bar,
                             should_stop=around.should_stop)
        for seed, why in found.failures.items():
            raise SimulationError(f'the evaluation of {checkpoint} broke at seed {seed}: {why}')
        if found.remaining:
            raise _StoppedError
        return sum(e.success for e in found.results.values()), len(seeds)

    def _best(self) -> Path:
        """The newest that was better than all before: what a kill left is not always the last."""
        better = [r for r in self._of('during') if r['better']]
        return self.output / 'checkpoints' / f'{better[-1]["steps"]:09d}'

    def _write(self, folder: Path) -> None:
        """The policy as it is now."""
        checkpoint, policy = load_checkpoint(self.output / START)
        self.method.write_into(policy)
        save_checkpoint(folder, replace(
            checkpoint, step=self.method.steps, start=checkpoint.start, hash='',
            training={**checkpoint.training, 'finetune': self.config.algorithm}), policy)

    def _save(self, *, due: bool) -> None:
        """All that is needed to go on, the next evaluation first where it is due."""
        save_state(self.output, RunState(*self.method.state(), {
            'due': due, 'evaluations': len(self._of('during')), 'minutes': self.spent,
            'learning_minutes': self.learned, 'training_episodes': self.episodes,
            'recent': list(self.recent), 'crashes': self.crashes + self.method.crashes}))

    def _load(self) -> bool:
        """Take up what was saved; whether an evaluation is due."""
        during = self._of('during')
        try:
            state = load_state(self.output)
            if state is not None:
                progress = state.progress
                self.spent, self.learned = progress['minutes'], progress['learning_minutes']
                self.episodes, self.crashes = progress['training_episodes'], progress['crashes']
                self.recent.extend(progress['recent'])
                due, judged = progress['due'], len(during) > progress['evaluations']
                self.method.restore(state.tensors, state.arrays)
        except DAMAGES as error:
            raise ConfigError(self._lost(f'is damaged ({error!r})')) from None
        if state is None:
            if during and during[-1]['steps']:
                raise ConfigError(self._lost('is gone'))
            return not during
        if judged:
            self.spent = max(self.spent, during[-1]['minutes'])
            if during[-1]['taken_back']:  # but it was killed before
                self._take_back()
        return due and not judged

    def _lost(self, why: str) -> str:
        text = f'{self.output / STATE} {why}, so that this run cannot go on'
        if not self._of('during'):
            return f'{text}; begin it anew in another --output'
        return (f'{text}; begin another with the best policy of this one: il_robot finetune '
                f'--from {self._best()} --output ANOTHER')


def steps_of_decision(config: FinetuneConfig, start: Path) -> int:
    """Control steps that a decision of the algorithm is executed for."""
    if config.algorithm in TRYING:
        return 1
    if config.algorithm in CORRECTING:
        return config.hold
    return executed_steps(*load_checkpoint(start))
