"""Episodes of a round from parallel worlds into one dataset, in the order of their seeds.

A dataset made so does not depend on the number of workers, nor on which of them was faster, and
can be gone on with after a kill: a seed that is in it is not run again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from il_robot.algorithms.corrections import Corrected, GatedFactory, run_corrected
from il_robot.algorithms.evaluate import EpisodeResult
from il_robot.algorithms.workers import MakeEnv, run_seeds
from il_robot.data.dataset import Dataset, open_dataset
from il_robot.data.writer import DatasetWriter
from il_robot.errors import SimulationError
from il_robot.types import EpisodeInfo, Outcome, Source

_PATIENCE = 20
"""Failed demonstrations after which the expert is given up, if they are the most."""


@dataclass(frozen=True)
class Place:
    """Where episodes are run and written.

    Attributes:
        make_env: Makes an environment with an expert.
        workers: Processes.
        should_stop: Asked often; True ends the collection with what there is.
    """

    make_env: MakeEnv
    workers: int = 1
    should_stop: Callable[[], bool] = lambda: False


@contextmanager
def _writer(place: Place, path: Path) -> Iterator[tuple[DatasetWriter, EpisodeInfo]]:
    """A writer for this environment's robot, and what every episode has in common."""
    env = place.make_env()
    own = env.unwrapped
    info = EpisodeInfo(own.task.name, own.task.language)
    robot, objects = own.robot, own.task.objects
    env.close()
    with DatasetWriter.open(path, robot, objects) as writer:
        yield writer, info


def done_seeds(path: Path, number: int) -> list[int]:
    """Seeds of the episodes of round ``number`` in a dataset; none where there is no dataset."""
    if not (path / 'meta' / 'info.json').exists():
        return []
    return [e.seed for e in open_dataset(path).episodes if e.round == number]


def collect_round(
    place: Place, path: Path, factory: GatedFactory, seeds: Sequence[int], *, number: int,
    checkpoint: str = '', on_result: Callable[[EpisodeResult], None] = lambda result: None,
) -> bool:
    """Add one episode per seed to a dataset, failed ones too.

    Args:
        place: Where.
        path: The dataset; made where there is none.
        factory: Who drives.
        seeds: Of the whole round; those in the dataset already are not run.
        number: The DAgger round.
        checkpoint: Hash of the policy that drives.
        on_result: Called with each episode when it is written.

    Returns:
        Whether all are there now.

    Raises:
        SimulationError: an episode broke.
        DatasetError: one could not be written.
    """
    done = set(done_seeds(path, number))
    todo = [seed for seed in seeds if seed not in done]
    if not todo:
        return True
    with _writer(place, path) as (writer, info):
        def write(corrected: Corrected) -> None:
            seed, success = corrected.result.seed, corrected.result.success
            outcome = Outcome.SUCCESS if success else Outcome.FAILURE
            writer.begin(EpisodeInfo(
                info.task, info.language, outcome, seed, number, checkpoint))
            for step in corrected.steps:
                writer.add(step)
            writer.end()
            on_result(corrected.result)

        left = _in_order(place, factory, todo, write)
        writer.flush()
    return not left


def collect_demonstrations(
    place: Place, path: Path, *, first_seed: int,
    enough: Callable[[int, int], bool],
    on_result: Callable[[EpisodeResult], None] = lambda result: None,
) -> bool:
    """Add the expert's successes to a dataset until there are enough of them.

    Args:
        place: Where.
        path: The dataset; made where there is none.
        first_seed: The others count up.
        enough: Told the numbers of episodes and rows there are.
        on_result: Called with each episode when it is written.

    Returns:
        Whether there are enough now.

    Raises:
        SimulationError: an episode broke, or the expert fails most of the time.
        DatasetError: one could not be written.
    """
    seeds = done_seeds(path, 0)
    with _writer(place, path) as (writer, info):
        seed, failed = max([first_seed, *(s + 1 for s in seeds)]), 0
        while not enough(writer.n_episodes, writer.n_frames):
            if failed > _PATIENCE and failed > 3 * writer.n_episodes:
                raise SimulationError(
                    f'{failed} of {failed + writer.n_episodes} demonstrations failed: the expert '
                    f'cannot do this task with these disturbances; make them smaller')
            kept: list[Corrected] = []
            batch = range(seed, seed + max(1, 2 * place.workers))
            left = _in_order(place, GatedFactory(), batch, kept.append)
            for corrected in kept:
                failed += not corrected.result.success
                if corrected.result.success and not enough(writer.n_episodes, writer.n_frames):
                    writer.begin(EpisodeInfo(
                        info.task, info.language, Outcome.SUCCESS, corrected.result.seed))
                    for step in corrected.steps:
                        writer.add(step)
                    writer.end()
                    writer.flush()  # the numbers of what is committed decide
                    on_result(corrected.result)
            if left:
                return False
            seed = batch.stop
    return True


def _in_order(
    place: Place, factory: GatedFactory, seeds: Sequence[int],
    take: Callable[[Corrected], None],
) -> list[int]:
    """Run the seeds and hand over the episodes in their order; what was not run.

    Raises:
        SimulationError: an episode broke.
    """
    waiting, left, broken = dict[int, Corrected](), list(seeds), dict[int, str]()

    def finish(seed: int, outcome: Corrected | str) -> bool:
        if isinstance(outcome, str):
            broken[seed] = outcome
            return False
        waiting[seed] = outcome
        while left and left[0] in waiting:
            take(waiting.pop(left.pop(0)))
        return True

    run_seeds(place.make_env, factory, run_corrected, seeds, finish, workers=place.workers,
              should_stop=place.should_stop)
    for seed, why in broken.items():
        raise SimulationError(f'the episode of seed {seed} broke; the ones before are safe: {why}')
    return left


def accounts(dataset: Dataset, rounds: int) -> dict[str, Any]:
    """What the episodes up to a round have cost.

    Args:
        dataset: Of the run.
        rounds: The last round that counts.

    Returns:
        ``episodes``; ``rows``; ``labels``: rows with an expert's label; ``expert_seconds``: rows
        that he drove, in seconds; ``switches``: how often he took over.
    """
    episodes = [e for e in dataset.episodes if e.round <= rounds]
    rows = np.zeros(len(dataset), dtype=bool)
    for e in episodes:
        rows[e.start:e.stop] = True
    labels = np.isfinite(dataset.expert).all(1) & rows
    driven = (dataset.source == int(Source.EXPERT)).any(1) & rows
    switches = sum(
        int(np.sum(np.diff(dataset.intervention[e.start:e.stop].astype(int), prepend=0) == 1))
        for e in episodes)
    return {'episodes': len(episodes), 'rows': int(rows.sum()), 'labels': int(labels.sum()),
            'expert_seconds': float(driven.sum() / dataset.fps), 'switches': switches}
