"""A pipeline at work on a scene: cloning, then perhaps corrections or reinforcement.

Everything lies in one folder, by the very functions that the commands ``train``, ``dagger`` and
``finetune`` call, each of which goes on where it was; so a cell that was killed does, too. Its
seconds are those in which it was at work, written every few seconds. Evaluations are those of the
suite: on seeds that neither training nor any choice of a checkpoint has seen, the same for every
method.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from il_robot.algorithms.bc import train
from il_robot.algorithms.collect_rounds import Place, accounts, collect_demonstrations
from il_robot.algorithms.controller import PolicyFactory
from il_robot.algorithms.dagger import Surroundings, dagger, read_rounds
from il_robot.algorithms.dagger_config import CONFIG as DAGGER_FILE
from il_robot.algorithms.dagger_config import DaggerConfig, open_dagger
from il_robot.algorithms.finetune import Around, finetune
from il_robot.algorithms.finetune_config import CONFIG as FINETUNE_FILE
from il_robot.algorithms.finetune_config import open_finetune, read_records
from il_robot.algorithms.runs import RUN
from il_robot.bench.clock import Clock, locked
from il_robot.bench.episodes import DELAY, MakeScene, latency, measure, under
from il_robot.bench.outcome import Outcome, Point
from il_robot.bench.scenes import Pipeline, Scene
from il_robot.checkpoints import find_checkpoint, list_checkpoints
from il_robot.config import build
from il_robot.data.dataset import open_dataset
from il_robot.data.layout import write_json
from il_robot.errors import SimulationError
from il_robot.policies.checkpoint import load_checkpoint, read_description

CHECKPOINT, POINTS = 'checkpoint', 'points.json'


class Work:
    """A pipeline on a scene with one seed.

    Args:
        scene: What is to be done.
        pipeline: How.
        seed: Of everything.
        episodes: Of the evaluation at the end.
        folder: Of all files; what is there is not done again.
        strengths: Disturbances that the last policy is tried under, and how strong.
        on_the_way: Episodes of the evaluations before.
    """

    def __init__(
        self, scene: Scene, pipeline: Pipeline, seed: int, episodes: int, folder: Path,
        strengths: Mapping[str, Sequence[float]], on_the_way: int = 1,
    ) -> None:
        self._scene, self._pipeline, self._seed = scene, pipeline, seed
        self._episodes, self._on_the_way = episodes, on_the_way
        self._folder, self._strengths = folder, strengths
        self._make = MakeScene(scene.arguments())
        self._shown = MakeScene(scene.arguments(**scene.shaken))
        self._recipe = pipeline.recipe(scene.task)
        folder.mkdir(parents=True, exist_ok=True)

    def run(self) -> Outcome:
        """From where it is to its end.

        Raises:
            ConfigError: another process is at work there.
        """
        torch.set_num_threads(1)
        with locked(self._folder):
            how = self._pipeline
            last = (self._correct() if how.dagger else self._tune() if how.finetune
                    else self._clone())
            kept, fresh = self._folder / CHECKPOINT, self._folder / f'.{CHECKPOINT}'
            if not kept.exists():
                shutil.rmtree(fresh, ignore_errors=True)
                shutil.copytree(last, fresh)
                fresh.rename(kept)
            return self._finish(kept)

    # -- how it comes about ------------------------------------------------------------------
    def _clone(self) -> Path:
        """Every number of demonstrations; the checkpoint of the largest."""
        numbers = self._scene.demonstrations if self._pipeline.curve else \
            self._scene.demonstrations[-1:]
        last = self._folder
        for number in numbers:
            cost, last = self._cloned(number)
            self._judge(f'cloned_{number}', last, cost, number == numbers[-1])
        return last

    def _cloned(self, number: int) -> tuple[dict[str, Any], Path]:
        """What a policy of so many demonstrations cost, and its checkpoint."""
        data, run = self._folder / 'dataset', self._folder / f'cloned_{number}'
        showing = Clock(self._folder / 'demonstrations.json')
        with showing.running():
            if not collect_demonstrations(
                    Place(self._shown, should_stop=showing.tick), data,
                    first_seed=DaggerConfig(seed=self._seed).first_seed(0),
                    enough=lambda episodes, _: episodes >= number):
                raise SimulationError('demonstrations ended early')
        dataset = open_dataset(data).first_episodes(number)
        learning = Clock(self._folder / f'{run.name}.json')
        found, steps = list_checkpoints(run), self._recipe.training.steps
        if not found or read_description(found[-1]).step < steps:
            recipe = replace(self._recipe, training=replace(
                self._recipe.training, seed=self._seed))
            with learning.running():
                train(dataset, recipe, run, resume=(run / RUN).exists(),
                      should_stop=learning.tick)
        cost = accounts(dataset, 0)
        return {'labels': cost['labels'], 'steps': cost['rows'],
                'seconds': showing.seconds + learning.seconds}, find_checkpoint(run)

    def _correct(self) -> Path:
        """Rounds of DAgger."""
        run, scene = self._folder / 'dagger', self._scene
        if not (run / DAGGER_FILE).exists():
            # the rounds are judged here: one episode is the least that the run itself must see
            config = build(DaggerConfig, {
                'demonstrations': self._begin, 'noise': scene.steady_noise,
                **self._pipeline.dagger,
                'evaluate_episodes': 1, 'seed': self._seed}, 'dagger')
            open_dagger(run, config, self._recipe, {
                'env': self._make.arguments, 'demonstrations': self._shown.arguments})
        clock, spent = Clock(self._folder / 'clock.json'), self._folder / 'seconds.json'
        seconds: dict[str, float] = json.loads(spent.read_text()) if spent.exists() else {}

        def note(record: Mapping[str, Any]) -> None:
            seconds[str(record['round'])] = clock.seconds
            write_json(spent, seconds)

        with clock.running():
            dagger(run, Surroundings(self._make, self._shown, should_stop=clock.tick,
                                     on_round=note, shown=False))
        rounds, last = read_rounds(run), run
        for record in rounds:
            number = record['round']
            last = find_checkpoint(run / 'rounds' / f'{number:02d}' / 'run')
            took = seconds.get(str(number), clock.seconds)  # else killed between the two files
            self._judge(f'round_{number}', last, {
                'labels': record['labels'], 'steps': record['rows'], 'seconds': took,
                'switches': record['switches']}, record is rounds[-1])
        return last

    def _tune(self) -> Path:
        """Cloning, then reinforcement; every checkpoint that was better than all before."""
        cost, start = self._cloned(self._begin)
        self._judge('start', start, cost, False)
        run = self._folder / 'finetune'
        if not (run / FINETUNE_FILE).exists():
            config = self._pipeline.finetuning(self._seed)
            # a recording does not say how far its task was at each step
            data = None if config.reward == 'progress' else self._folder / 'dataset'
            open_finetune(run, config, start, data, {})
        finetune(run, Around(self._make, shown=False))
        records = [r for r in read_records(run) if r['kind'] == 'during']

        def spent(record: Mapping[str, Any]) -> dict[str, Any]:
            return {'labels': cost['labels'], 'steps': cost['steps'] + record['control_steps'],
                    'seconds': cost['seconds'] + 60.0 * record['learning_minutes']}

        best = find_checkpoint(run)
        for record in records[1:]:
            checkpoint = run / 'checkpoints' / f'{record["steps"]:09d}'
            if record['better'] and checkpoint != best:
                self._judge(f'steps_{record["steps"]}', checkpoint, spent(record), False)
        # what the best one cost is the whole run: nobody knew before its end that it was
        self._judge('end', best, spent(records[-1]), True)
        return best

    @property
    def _begin(self) -> int:
        return self._pipeline.begin or self._scene.demonstrations[0]

    # -- how good it is ----------------------------------------------------------------------
    def _judge(self, name: str, checkpoint: Path, cost: Mapping[str, Any], last: bool) -> None:
        """Another point of the curve, if it is not there yet."""
        known = self._points()
        if name not in known:
            count = self._episodes if last else self._on_the_way
            found = measure(self._make, PolicyFactory(checkpoint), count)
            known[name] = {**cost, 'scores': found[0], 'jerk': found[1]}
            write_json(self._folder / POINTS, known)

    def _points(self) -> dict[str, dict[str, Any]]:
        path = self._folder / POINTS
        found: dict[str, dict[str, Any]] = json.loads(path.read_text()) if path.exists() else {}
        return found

    def _finish(self, checkpoint: Path) -> Outcome:
        points = list(self._points().values())
        _, policy = load_checkpoint(checkpoint)
        outcome = Outcome(
            [Point(p['labels'], p['steps'], p['seconds'], p['scores'], p.get('switches', 0))
             for p in points],
            sum(p.numel() for p in policy.parameters()),
            latency(self._make, checkpoint), points[-1]['jerk'])
        for name, values in self._strengths.items():
            own = float(self._scene.disturbances.get(name, 0.0))
            outcome.robustness[name] = [
                (own, points[-1]['scores']),
                *((float(value), self._under(name, value, checkpoint)) for value in values
                  if value != own)]
        return outcome

    def _under(self, name: str, value: float, checkpoint: Path) -> list[float]:
        """Scores of the last policy under one disturbance, in files of its own."""
        path = self._folder / 'robustness' / f'{name}_{value:g}.json'
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            delay = float(value) if name == DELAY else 0.0
            write_json(path, {'scores': measure(
                under(self._scene, name, value), PolicyFactory(checkpoint, delay=delay),
                self._episodes)[0]})
        scores: list[float] = json.loads(path.read_text())['scores']
        return scores
