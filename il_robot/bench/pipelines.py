"""A pipeline at work on a scene: cloning, then perhaps corrections or reinforcement.

Everything lies in one folder, by the very functions that the commands ``record``, ``train``,
``dagger`` and ``finetune`` call, each of which goes on where it was; so a cell that was killed
does, too. Evaluations are those of the suite: on seeds that neither training nor any choice of a
checkpoint has seen, the same for every method.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from il_robot.algorithms.bc import train
from il_robot.algorithms.collect_rounds import Place, accounts, collect_demonstrations
from il_robot.algorithms.controller import PolicyFactory
from il_robot.algorithms.dagger import Surroundings, dagger, read_rounds
from il_robot.algorithms.dagger_config import CONFIG as DAGGER_FILE
from il_robot.algorithms.dagger_config import DaggerConfig, open_dagger
from il_robot.algorithms.evaluate import as_observation, run_episode
from il_robot.algorithms.expert import expert_controller
from il_robot.algorithms.finetune import Around, finetune, read_records
from il_robot.algorithms.finetune_config import CONFIG as FINETUNE_FILE
from il_robot.algorithms.finetune_config import FinetuneConfig, open_finetune
from il_robot.algorithms.runs import RUN
from il_robot.algorithms.workers import MakeController, run_seeds
from il_robot.bench.outcome import EXPERT, Outcome, Point
from il_robot.bench.scenes import Pipeline, Scene
from il_robot.checkpoints import find_checkpoint, list_checkpoints
from il_robot.config import build
from il_robot.data.dataset import open_dataset
from il_robot.data.layout import write_json
from il_robot.errors import SimulationError
from il_robot.policies.checkpoint import load_checkpoint, read_description
from il_robot.types import Float32, Observation

CHECKPOINT, POINTS = 'checkpoint', 'points.json'
FIRST_SEED = 500_000
"""Of evaluations: rounds and demonstrations take those from 1 000 000, choices those from 0."""
DELAY = 'delay'
"""A disturbance that is none of the scene's: of the policy's answers [s]."""
_SEEDS_PER_RUN = 10_000
_ASKED = 300  # answers that the latency is measured over


@dataclass(frozen=True)
class MakeScene:
    """Makes the environment; picklable."""

    arguments: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self) -> Any:
        """A fresh one."""
        from il_robot import sim

        return sim.make(**self.arguments)


class Work:
    """A pipeline on a scene with one seed.

    Args:
        scene: What is to be done.
        pipeline: How.
        seed: Of everything.
        episodes: Of the evaluation at the end; those on the way have a quarter.
        folder: Of all files; what is there is not done again.
        strengths: Disturbances that the last policy is tried under, and how strong.
    """

    def __init__(
        self, scene: Scene, pipeline: Pipeline, seed: int, episodes: int, folder: Path,
        strengths: Mapping[str, Sequence[float]],
    ) -> None:
        self._scene, self._pipeline, self._seed = scene, pipeline, seed
        self._episodes, self._folder, self._strengths = episodes, folder, strengths
        self._make = MakeScene(scene.arguments())
        self._shown = MakeScene(scene.arguments(action_noise=scene.noise))
        self._recipe = pipeline.recipe(scene.task)
        folder.mkdir(parents=True, exist_ok=True)

    def run(self) -> Outcome:
        """From where it is to its end."""
        torch.set_num_threads(1)
        how = self._pipeline
        if how.dagger:
            last = self._correct()
        elif how.finetune:
            last = self._tune()
        else:
            last = self._clone()
        kept = self._folder / CHECKPOINT
        if not kept.exists():
            shutil.copytree(last, kept)
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
        begun = time.monotonic()
        if not collect_demonstrations(
                Place(self._shown), data, enough=lambda episodes, _: episodes >= number,
                first_seed=1_000_000 + _SEEDS_PER_RUN * self._seed):
            raise SimulationError('demonstrations ended early')
        dataset = open_dataset(data).first_episodes(number)
        collected = self._clock('demonstrations', time.monotonic() - begun)
        begun, steps = time.monotonic(), self._recipe.training.steps
        found = list_checkpoints(run)
        if not found or read_description(found[-1]).step < steps:
            recipe = replace(self._recipe, training=replace(
                self._recipe.training, seed=self._seed))
            train(dataset, recipe, run, resume=(run / RUN).exists())
        trained = self._clock(run.name, time.monotonic() - begun)
        cost = accounts(dataset, 0)
        return {'labels': cost['labels'], 'steps': cost['rows'],
                'seconds': collected + trained}, find_checkpoint(run)

    def _correct(self) -> Path:
        """Rounds of DAgger."""
        run, scene = self._folder / 'dagger', self._scene
        if not (run / DAGGER_FILE).exists():
            # the rounds are judged here: one episode is the least that the run itself must see
            config = build(DaggerConfig, {
                'demonstrations': self._begin, 'noise': scene.noise, **self._pipeline.dagger,
                'evaluate_episodes': 1, 'seed': self._seed}, 'dagger')
            open_dagger(run, config, self._recipe, {
                'env': self._make.arguments, 'demonstrations': self._shown.arguments})
        dagger(run, Surroundings(self._make, self._shown, shown=False))
        seconds, rounds, last = 0.0, read_rounds(run), run
        for record in rounds:
            seconds += record['collect_wall_seconds'] + record['train_wall_seconds']
            last = find_checkpoint(run / 'rounds' / f'{record["round"]:02d}' / 'run')
            self._judge(f'round_{record["round"]}', last, {
                'labels': record['labels'], 'steps': record['rows'], 'seconds': seconds,
                'switches': record['switches']}, record is rounds[-1])
        return last

    def _tune(self) -> Path:
        """Cloning, then reinforcement; every checkpoint that was better than all before."""
        cost, start = self._cloned(self._begin)
        self._judge('start', start, cost, False)
        run = self._folder / 'finetune'
        if not (run / FINETUNE_FILE).exists():
            config = build(FinetuneConfig, {
                'worlds': 1, 'evaluate_episodes': 100, 'final_episodes': 1,
                **self._pipeline.finetune, 'seed': self._seed}, 'finetune')
            open_finetune(run, config, start, self._folder / 'dataset', {})
        finetune(run, Around(self._make, shown=False))
        records = [r for r in read_records(run) if r['kind'] == 'during']

        def spent(record: Mapping[str, Any]) -> dict[str, Any]:
            return {'labels': cost['labels'], 'steps': cost['steps'] + record['steps'],
                    'seconds': cost['seconds'] + 60.0 * record['minutes']}

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

    def _clock(self, name: str, seconds: float) -> float:
        """Seconds that a stage took, over all times that it was gone on with."""
        path = self._folder / 'seconds.json'
        known = json.loads(path.read_text()) if path.exists() else {}
        known[name] = known.get(name, 0.0) + seconds
        write_json(path, known)
        return float(known[name])

    # -- how good it is ----------------------------------------------------------------------
    def _judge(self, name: str, checkpoint: Path, cost: Mapping[str, Any], last: bool) -> None:
        """Another point of the curve, if it is not there yet."""
        known = self._points()
        if name not in known:
            count = self._episodes if last else max(1, self._episodes // 4)
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
            outcome.robustness[name] = [
                (float(value), self._under(name, value, checkpoint)) for value in values]
        return outcome

    def _under(self, name: str, value: float, checkpoint: Path) -> list[float]:
        """Scores of the last policy under one disturbance, in files of its own."""
        path = self._folder / 'robustness' / f'{name}_{value:g}.json'
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            delay = float(value) if name == DELAY else 0.0
            make = self._make if name == DELAY else MakeScene(
                self._scene.arguments(**{name: value}))
            write_json(path, {'scores': measure(
                make, PolicyFactory(checkpoint, delay=delay), self._episodes)[0]})
        scores: list[float] = json.loads(path.read_text())['scores']
        return scores


def reference(name: str, scene: Scene, episodes: int) -> Outcome:
    """The expert, or joint targets at random: the ends of the scale."""
    make = MakeScene(scene.arguments())
    controller = expert_controller if name == EXPERT else RandomController
    scores, jerk = measure(make, controller, episodes)
    return Outcome([Point(0, 0, 0.0, scores)], jerk=jerk)


class RandomController:
    """Joint targets at random within the limits, a new one each control step."""

    def __init__(self, env: Any) -> None:
        self._robot = env.unwrapped.robot

    def reset(self, rng: np.random.Generator) -> None:
        """Whatever it draws follows from this."""
        self._rng = rng

    def act(self, observation: Observation) -> Float32:
        """``(D,)`` [rad, m]."""
        action: Float32 = self._rng.uniform(
            self._robot.lower, self._robot.upper).astype(np.float32)
        return action


class _Noted:
    """A controller whose commands are noted."""

    def __init__(self, controller: Any) -> None:
        self._controller, self.commands = controller, list[Float32]()

    def reset(self, rng: np.random.Generator) -> None:
        self._controller.reset(rng)

    def act(self, observation: Observation) -> Float32:
        self.commands.append(self._controller.act(observation))
        return self.commands[-1]


def _measured(env: Any, controller: Any, seed: int) -> tuple[float, float, int]:
    """Success of an episode, the sum of squares of its commands' jerk, and of how many."""
    noted = _Noted(controller)
    result = run_episode(env, noted, seed)
    robot = env.unwrapped.robot
    arms = [i for i, name in enumerate(robot.joint_names) if name not in robot.gripper_names]
    third = np.diff(np.stack(noted.commands)[:, arms].astype(float), 3, axis=0) / robot.dt**3
    return float(result.success), float((third**2).sum()), third.size


def measure(
    make: MakeScene, make_controller: MakeController, episodes: int
) -> tuple[list[float], float]:
    """Success of each episode, in the order of seeds, and the jerk over all [rad/s^3].

    Raises:
        SimulationError: one broke.
    """
    found: dict[int, tuple[float, float, int]] = {}
    broken: dict[int, str] = {}

    def finish(seed: int, outcome: Any) -> bool:
        (broken if isinstance(outcome, str) else found)[seed] = outcome
        return not broken

    run_seeds(make, make_controller, _measured,
              range(FIRST_SEED, FIRST_SEED + episodes), finish)
    for seed, why in broken.items():
        raise SimulationError(f'the evaluation broke at seed {seed}: {why}')
    successes, squares, sizes = zip(*(found[seed] for seed in sorted(found)))
    return list(successes), float(np.sqrt(sum(squares) / max(sum(sizes), 1)))


def latency(make: MakeScene, checkpoint: Path) -> tuple[float, float]:
    """p50 and p99 of one answer of the network [ms], as Outcome has it."""
    env = make()
    try:
        runner = PolicyFactory(checkpoint)(env).runner
        observation = as_observation(env.reset(seed=FIRST_SEED)[0], 0.0)
        runner.reset(np.random.default_rng(0))
        took = []
        for _ in range(_ASKED):
            runner.observe(observation)
            begun = time.thread_time()
            runner.predict()
            took.append(1e3 * (time.thread_time() - begun))
    finally:
        env.close()
    p50, p99 = np.quantile(took[_ASKED // 10:], (0.5, 0.99)).tolist()
    return p50, p99
