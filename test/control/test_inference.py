import threading

import numpy as np
import pytest

from il_robot.control.inference import InferenceWorker
from il_robot.errors import SpecError
from il_robot.types import ActionChunk, Observation

DT = 0.02


class Runner:
    """Counts what it sees; predicts only while the gate is open."""

    def __init__(self):
        self.seen, self.seeds = [], []
        self.gate, self.entered = threading.Event(), threading.Event()
        self.gate.set()
        self.error = None

    def reset(self, rng):
        self.seeds.append(rng.integers(100))

    def observe(self, observation):
        self.seen.append(round(observation.stamp / DT))

    def predict(self):
        stamp = self.seen[-1] * DT
        self.entered.set()
        assert self.gate.wait(10)
        if self.error:
            raise self.error
        return ActionChunk(stamp, stamp + DT * np.arange(3), np.zeros((3, 2), np.float32))


class Bench:
    """A worker, its runner, and what came out."""

    def __init__(self):
        self.chunks, self.errors, self.timings = [], [], []
        self._more = threading.Condition()
        self.now = 0.0
        self.worker = InferenceWorker(DT, self._on_chunk, self._on_error, lambda: self.now)
        self.runner = Runner()
        self.worker.replace(self.runner)

    def _on_chunk(self, chunk, timing):
        with self._more:
            self.chunks.append(round(chunk.stamp / DT))
            self.timings.append(timing)
            self._more.notify()

    def _on_error(self, text):
        with self._more:
            self.errors.append(text)
            self._more.notify()

    def show(self, *ticks):
        for k in ticks:
            self.worker.submit(Observation(k * DT, np.zeros(2, np.float32)))

    def wait(self, condition):
        with self._more:
            assert self._more.wait_for(condition, 10)


@pytest.fixture
def bench():
    made = Bench()
    yield made
    made.runner.gate.set()
    made.worker.close()
    made.worker.close()


def test_each_observation_is_answered_with_its_own_stamp(bench):
    for k in range(1, 5):
        bench.show(k)
        bench.wait(lambda k=k: bench.chunks[-1:] == [k])
    assert bench.chunks == bench.runner.seen == [1, 2, 3, 4]


def test_a_slow_network_sees_all_and_answers_the_newest(bench):
    bench.runner.gate.clear()
    bench.show(1)
    assert bench.runner.entered.wait(10)
    bench.show(2, 3, 4)
    bench.runner.gate.set()
    bench.wait(lambda: bench.chunks == [1, 4])
    assert bench.runner.seen == [1, 2, 3, 4]


def test_only_what_is_due_is_answered(bench):
    bench.worker.replace(bench.runner, n_action_steps=3)
    for k in range(1, 8):
        bench.show(k)
        bench.wait(lambda k=k: bench.chunks[-1:] == [k] if k % 3 == 1 else True)
    bench.wait(lambda: len(bench.chunks) == 3)
    assert bench.chunks == [1, 4, 7]


def test_a_reset_makes_the_next_observation_due_and_seeds_the_policy(bench):
    bench.worker.replace(bench.runner, n_action_steps=100)
    bench.show(1)
    bench.wait(lambda: bench.chunks == [1])
    bench.worker.reset(np.random.default_rng(3))
    bench.show(2)
    bench.wait(lambda: bench.chunks == [1, 2])
    assert bench.runner.seeds == [np.random.default_rng(3).integers(100)]


def test_time_that_went_back_is_answered(bench):
    bench.show(100)
    bench.wait(lambda: bench.chunks == [100])
    bench.show(1)
    bench.wait(lambda: bench.chunks == [100, 1])


def test_the_old_policy_says_nothing_after_the_new_one_was_announced(bench):
    other, said = Runner(), []
    bench.runner.gate.clear()
    bench.show(1)
    assert bench.runner.entered.wait(10)
    swap = threading.Thread(target=bench.worker.replace, args=(
        other, 1, lambda: said.append(list(bench.chunks))))
    swap.start()
    bench.runner.gate.set()
    swap.join(10)
    assert said == [[1]]
    bench.show(2)
    bench.wait(lambda: bench.chunks == [1, 2])
    assert other.seen == [2] and bench.runner.seen == [1]


def test_after_clear_nothing_pending_is_answered(bench):
    bench.runner.gate.clear()
    bench.show(1)
    assert bench.runner.entered.wait(10)
    bench.show(2)
    clearing = threading.Thread(target=bench.worker.clear)
    clearing.start()
    bench.runner.gate.set()
    clearing.join(10)
    bench.show(5)
    bench.wait(lambda: bench.chunks[-1:] == [5])
    assert 2 not in bench.chunks or bench.runner.seen == [1, 2, 5]


@pytest.mark.parametrize('error', [SpecError('no cube'), RuntimeError('out of memory')])
def test_a_failed_prediction_is_told_and_the_next_one_is_tried(bench, error):
    bench.runner.error = error
    bench.show(1)
    bench.wait(lambda: bench.errors)
    assert str(error) in bench.errors[0]
    bench.runner.error = None
    bench.show(2)
    bench.wait(lambda: bench.chunks == [2])


def test_without_a_policy_nothing_happens(bench):
    bench.worker.replace(None)
    bench.show(1)
    bench.worker.replace(bench.runner)
    bench.show(2)
    bench.wait(lambda: bench.chunks == [2])
    assert bench.runner.seen == [2]


def test_the_runner_hears_how_many_steps_the_slowest_answer_took(bench):
    bench.runner.gate.clear()
    bench.show(1)
    assert bench.runner.entered.wait(10)
    bench.now = 2.5 * DT
    bench.runner.gate.set()
    bench.wait(lambda: bench.chunks == [1])
    for k in (2, 3):  # fast ones do not make it forget
        bench.show(k)
        bench.wait(lambda k=k: bench.chunks[-1:] == [k])
        assert bench.runner.frozen == 3


@pytest.mark.parametrize(('until', 'late'), [(0.035, False), (0.045, True)])
def test_an_answer_says_how_long_each_part_took_and_whether_it_came_too_late(bench, until, late):
    bench.worker.replace(bench.runner, n_action_steps=2)  # the next one is due after 40 ms
    bench.runner.gate.clear()
    bench.show(0)
    assert bench.runner.entered.wait(10)
    bench.now = until
    bench.runner.gate.set()
    bench.wait(lambda: bench.timings)
    timing = bench.timings[0]
    assert timing.latency == pytest.approx(until) and timing.late is late
    assert timing.wait + timing.inference == pytest.approx(timing.latency)
