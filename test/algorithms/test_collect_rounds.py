import numpy as np
import pytest
import toy

from il_robot.algorithms.collect_rounds import (
    Place,
    accounts,
    collect_demonstrations,
    collect_round,
    done_seeds,
)
from il_robot.algorithms.corrections import GatedFactory
from il_robot.algorithms.evaluate import EpisodeResult
from il_robot.data.dataset import open_dataset
from il_robot.errors import SimulationError
from il_robot.types import Outcome

ENV = toy.ToyFactory()
SEEDS = range(40, 46)


def demonstrate(path, workers=1, enough=lambda episodes, rows: episodes >= 5, **place):
    return collect_demonstrations(
        Place(place.pop('env', ENV), workers, **place), path, first_seed=7, enough=enough)


def rows_of(path):
    dataset = open_dataset(path)
    return ([(e.seed, e.round, e.outcome, len(e)) for e in dataset.episodes],
            {key: values.tobytes() for key, values in dataset.columns.items()})


def after(calls):
    """Stops after so many questions."""
    left = [calls]

    def should_stop():
        left[0] -= 1
        return left[0] < 0
    return should_stop


def test_a_dataset_does_not_depend_on_workers_or_on_stops(tmp_path):
    assert demonstrate(tmp_path / 'one')
    assert len(done_seeds(tmp_path / 'one', 0)) == 5
    assert demonstrate(tmp_path / 'three', workers=3)
    for _ in range(9):
        if demonstrate(tmp_path / 'stopped', should_stop=after(2)):
            break
    assert rows_of(tmp_path / 'one') == rows_of(tmp_path / 'three') == rows_of(
        tmp_path / 'stopped')


def test_rounds_go_behind_the_demonstrations_and_are_not_run_twice(tmp_path):
    place = Place(ENV)
    for name, stops in (('whole', [100]), ('parts', [3, 2, 100])):
        path = tmp_path / name
        demonstrate(path)
        written: list[EpisodeResult] = []
        for stop in stops:
            whole = collect_round(
                Place(ENV, should_stop=after(stop)), path, GatedFactory(), SEEDS, number=2,
                checkpoint='abc', on_result=written.append)
        assert whole and [result.seed for result in written] == list(SEEDS)
    assert rows_of(tmp_path / 'whole') == rows_of(tmp_path / 'parts')
    dataset = open_dataset(tmp_path / 'whole')
    assert [e.round for e in dataset.episodes] == [0] * 5 + [2] * len(SEEDS)
    assert dataset.episodes[-1].checkpoint == 'abc'
    assert collect_round(place, tmp_path / 'whole', GatedFactory(), SEEDS, number=2)


def test_only_successes_are_demonstrations_and_a_hopeless_expert_is_given_up(tmp_path):
    demonstrate(tmp_path / 'data')
    assert {e.outcome for e in open_dataset(tmp_path / 'data').episodes} == {Outcome.SUCCESS}
    with pytest.raises(SimulationError, match='make them smaller'):
        demonstrate(tmp_path / 'none', env=Hopeless)


def test_a_broken_episode_is_told_and_the_ones_before_are_safe(tmp_path):
    env = toy.ToyFactory({'raise_seeds': (43,)})
    with pytest.raises(SimulationError, match='seed 43 broke'):
        collect_round(Place(env), tmp_path / 'data', GatedFactory(), SEEDS, number=1)
    assert done_seeds(tmp_path / 'data', 1) == [40, 41, 42]


def test_accounts_say_what_the_rounds_cost(tmp_path):
    path = tmp_path / 'data'
    demonstrate(path)
    rows = len(open_dataset(path))
    collect_round(Place(ENV), path, GatedFactory(), SEEDS, number=1)
    dataset = open_dataset(path)
    assert accounts(dataset, 0) == {
        'episodes': 5, 'rows': rows, 'labels': rows, 'expert_seconds': pytest.approx(rows / 50),
        'switches': 0}
    assert accounts(dataset, 1)['rows'] == len(dataset) > rows
    dataset = open_dataset(path)
    intervention = np.zeros(len(dataset), dtype=bool)
    first = dataset.episodes[5]
    intervention[first.start:first.start + 2] = intervention[first.stop - 1] = True
    dataset.columns['intervention'] = intervention
    assert accounts(dataset, 1)['switches'] == 2


class Hopeless(toy.ToyEnv):
    """Its expert does not move."""

    def expert(self):
        return toy.Action(self.state)
