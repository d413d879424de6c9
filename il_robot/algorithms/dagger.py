"""Rounds of correction: an expert labels what the policy visits, and the policy learns from it.

DAgger (Ross, Gordon and Bagnell, "A Reduction of Imitation Learning and Structured Prediction to
No-Regret Online Learning", AISTATS 2011) and those after it, which differ in who drives when: see
:mod:`il_robot.control.gates`. A policy of one step learns from every state visited; one that
predicts chunks from the spans that the expert drove
(:func:`il_robot.algorithms.samples.labels_of`).

The folder of a run::

    dagger.json           all that is needed to go on
    dataset/              demonstrations (round 0) and the episodes of every round
    rounds/03/run/        training of round 3 (il_robot.algorithms.runs); where the gate needs
                          it, the checkpoint has an assessor (il_robot.policies.assessor)
    rounds/03/evaluation.json
    rounds.json           what each round cost and brought
    bc/                   with ``compare``: the same rounds, with as many labels of
                          demonstrations only

Every stage of every round sees from its files whether it is done, so a run that was stopped or
killed at any point goes on there.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from il_robot.algorithms.assess import AssessTraining, train_assessor
from il_robot.algorithms.bc import train
from il_robot.algorithms.collect_rounds import (
    Place,
    accounts,
    collect_demonstrations,
    collect_round,
    done_seeds,
)
from il_robot.algorithms.controller import PolicyFactory
from il_robot.algorithms.corrections import GatedFactory
from il_robot.algorithms.dagger_config import DaggerConfig, read_dagger
from il_robot.algorithms.evaluate import Evaluation, evaluate, summary
from il_robot.algorithms.progress import evaluation_bar, training_bar
from il_robot.algorithms.recipe import Recipe
from il_robot.algorithms.report import read_report, write_report
from il_robot.algorithms.runs import RUN
from il_robot.algorithms.workers import MakeEnv
from il_robot.checkpoints import find_checkpoint, list_checkpoints
from il_robot.data.dataset import open_dataset
from il_robot.data.layout import write_json
from il_robot.errors import SimulationError
from il_robot.policies.assessor import ASSESSOR, load_assessor, save_assessor
from il_robot.policies.checkpoint import read_description

ROUNDS = 'rounds.json'
DATASET, BC = 'dataset', 'bc'


@dataclass(frozen=True)
class Surroundings:
    """What a run happens in, none of which decides its results.

    Attributes:
        make_env: Makes an environment with an expert, in which the policy drives.
        make_demonstrations: The one in which the expert demonstrates.
        workers: Processes.
        should_stop: Asked often; True ends at a point to go on from.
        on_round: Called with each new entry of ``rounds.json``.
        shown: Whether progress bars are.
    """

    make_env: MakeEnv
    make_demonstrations: MakeEnv
    workers: int = 1
    should_stop: Callable[[], bool] = lambda: False
    on_round: Callable[[Mapping[str, Any]], None] = lambda record: None
    shown: bool = True


class _StoppedError(Exception):
    """Somebody asked to stop; everything so far is safe."""


def dagger(output: Path, around: Surroundings) -> bool:
    """Go on with the run in ``output`` until its last round.

    Returns:
        Whether it is finished; False where it was stopped.

    Raises:
        ConfigError: no run there, or one that cannot be trained.
        SimulationError: an episode broke.
        DatasetError: the disk is full, or the dataset damaged.
    """
    config, recipe, _ = read_dagger(output)
    run = _Run(output, config, recipe, around)
    try:
        for number in range(config.rounds + 1):
            record = run.round(number)
            if config.compare and number:
                run.compare(number, record['labels'])
    except _StoppedError:
        return False
    return True


@dataclass(frozen=True)
class _Run:
    """One run; see the module."""

    output: Path
    config: DaggerConfig
    recipe: Recipe
    around: Surroundings

    def round(self, number: int) -> Mapping[str, Any]:
        """Collect, train and evaluate, or what of it is still missing; the round's record."""
        found = [r for r in read_rounds(self.output) if r['round'] == number
                 and r['method'] == self.config.gate]
        if found:
            return found[0]
        begun = time.monotonic()
        data = self.output / DATASET
        if number == 0:
            self._demonstrate(data, lambda episodes, rows: episodes >= self.config.demonstrations,
                              self.config.demonstrations)
        else:
            self._collect(data, number)
        collected = time.monotonic()
        return self._learn(self.output, data, number, self.config.gate, {
            **accounts(open_dataset(data), number),
            'collect_wall_seconds': round(collected - begun, 1)})

    def compare(self, number: int, labels: int) -> None:
        """The same with as many labels, all of demonstrations."""
        if any(r['round'] == number and r['method'] == BC for r in read_rounds(self.output)):
            return
        data = self.output / BC / DATASET
        self._demonstrate(data, lambda episodes, rows: rows >= labels)
        self._learn(self.output / BC, data, number, BC, accounts(open_dataset(data), 0))

    def _demonstrate(
        self, data: Path, enough: Callable[[int, int], bool], total: int | None = None
    ) -> None:
        around, done = self.around, len(done_seeds(data, 0))
        place = Place(around.make_demonstrations, around.workers, around.should_stop)
        with evaluation_bar(total, done, done, name='demonstrate', shown=around.shown) as bar:
            if not collect_demonstrations(
                    place, data, first_seed=self.config.first_seed(0), enough=enough,
                    on_result=bar):
                raise _StoppedError

    def _collect(self, data: Path, number: int) -> None:
        config, first = self.config, self.config.first_seed(number)
        checkpoint = find_checkpoint(self.output / 'rounds' / f'{number - 1:02d}' / 'run')
        assessor: Path | None = None
        thresholds: Mapping[str, float] = {}
        if config.assessed:
            alone = range(first, first + config.alone)
            first = alone.stop
            self._drive(data, number, GatedFactory(checkpoint, relabel=False), alone)
            assessor, thresholds = self._assess(checkpoint, data, number, alone)
        factory = GatedFactory(checkpoint, config.gate, config.gate_of(number, thresholds),
                               config.relabel, assessor, config.noise)
        self._drive(data, number, factory, range(first, first + config.episodes))

    def _drive(self, data: Path, number: int, factory: GatedFactory, seeds: range) -> None:
        """The episodes of these seeds, or those of them that are missing."""
        if not seeds:
            return
        assert factory.checkpoint is not None, 'the policy drives'
        around = self.around
        place = Place(around.make_env, around.workers, around.should_stop)
        done = len(set(done_seeds(data, number)).intersection(seeds))
        name = f'round {number}' + (' alone' if factory.gate == 'never' else '')
        with evaluation_bar(len(seeds), done, name=name, shown=around.shown) as bar:
            if not collect_round(
                    place, data, factory, seeds, number=number,
                    checkpoint=read_description(factory.checkpoint).hash, on_result=bar):
                raise _StoppedError

    def _assess(
        self, checkpoint: Path, data: Path, number: int, alone: range
    ) -> tuple[Path, Mapping[str, float]]:
        """The file of the assessor and its thresholds."""
        config = self.config
        path = checkpoint / ASSESSOR
        described = read_description(checkpoint)
        if not path.exists():
            training = AssessTraining(budget=config.budget or AssessTraining.budget)
            # on a resume, corrections of this round may be there already
            dataset = open_dataset(data)
            known = dataset.first_episodes(sum(
                e.round < number or e.seed in alone for e in dataset.episodes))
            save_assessor(path, train_assessor(checkpoint, known, training, config.seed))
        return path, load_assessor(path, described.hash).config.thresholds

    def _learn(
        self, folder: Path, data: Path, number: int, method: str, cost: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        """Train on what there is, evaluate, note."""
        place = folder / 'rounds' / f'{number:02d}'
        begun = time.monotonic()
        warm = number and self.config.warm_steps
        # demonstrations alone begin with the same policy
        before = self.output if number == 1 else folder
        self._train(data, place / 'run',
                    before / 'rounds' / f'{number - 1:02d}' / 'run' if warm else None)
        trained = time.monotonic()
        evaluation = self._evaluate(place)
        record = {
            'method': method, 'round': number, **cost, **summary(evaluation.episodes()),
            'episodes': cost['episodes'], 'evaluated': len(evaluation.results),
            'train_wall_seconds': round(trained - begun, 1),
            'evaluate_wall_seconds': round(time.monotonic() - trained, 1)}
        write_json(self.output / ROUNDS, {'rounds': [*read_rounds(self.output), record]})
        self.around.on_round(record)
        return record

    def _train(self, data: Path, run: Path, start: Path | None) -> None:
        config = self.recipe.training
        training = replace(
            config, seed=self.config.seed,
            steps=config.steps if start is None else self.config.warm_steps,
            # what the policy did wrong is what there is to learn from
            outcomes=('success', 'failure', 'unknown'))
        resume = (run / RUN).exists()
        done = list_checkpoints(run) if resume else []
        step = read_description(done[-1]).step if done else 0
        if step == training.steps:
            return
        with training_bar(training.steps, step, shown=self.around.shown) as bar:
            result = train(
                open_dataset(data), replace(self.recipe, training=training), run, resume=resume,
                start=start, on_log=bar.show, should_stop=self.around.should_stop)
        if not result.finished:
            raise _StoppedError

    def _evaluate(self, place: Path) -> Evaluation:
        around, count = self.around, self.config.evaluate_episodes
        checkpoint = find_checkpoint(place / 'run')
        report = place / 'evaluation.json'
        evaluation = read_report(report)[0] if report.exists() else Evaluation()
        settings = {'checkpoint': read_description(checkpoint).hash}
        solved = sum(e.success for e in evaluation.results.values())
        bar = evaluation_bar(count, len(evaluation.results), solved, shown=around.shown)
        with bar as show:
            try:
                evaluate(around.make_env, PolicyFactory(checkpoint), range(count),
                         workers=around.workers, evaluation=evaluation, on_result=show,
                         should_stop=around.should_stop)
            finally:
                write_report(report, evaluation, settings, {})
        for seed, why in evaluation.failures.items():
            raise SimulationError(f'the evaluation of {checkpoint} broke at seed {seed}: {why}')
        if evaluation.remaining:
            raise _StoppedError
        return evaluation


def read_rounds(output: Path) -> list[dict[str, Any]]:
    """The records of a run: what each round cost and brought; none before the first.

    Each has ``method`` (the gate, or ``bc``), ``round``, what :func:`accounts` says, and the
    summary of its evaluation (:func:`il_robot.algorithms.evaluate.summary`).
    """
    path = output / ROUNDS
    return json.loads(path.read_text())['rounds'] if path.exists() else []
