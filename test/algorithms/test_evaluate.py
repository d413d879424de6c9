import os
import signal
import threading
import time

import numpy as np
import pytest
import toy

from il_robot.algorithms.evaluate import (
    EpisodeResult,
    as_observation,
    evaluate,
    run_episode,
    summary,
)
from il_robot.algorithms.expert import expert_controller
from il_robot.errors import CheckpointError, ConfigError

SEEDS = list(range(6))


def test_the_expert_solves_the_toy_and_the_records_say_how():
    seen = []
    result = evaluate(toy.ToyFactory(), expert_controller, SEEDS, on_result=seen.append)
    assert [e.seed for e in result.episodes()] == SEEDS == [e.seed for e in seen]
    assert all(e.success and e.stage == 2 and e.stage_name == 'both arms' for e in seen)
    assert all(0 < e.length < 60 and e.reward > 0 for e in seen) and not result.remaining


def test_results_depend_on_the_seed_and_not_on_workers_or_order():
    here = evaluate(toy.ToyFactory(), toy.Wanderer(), SEEDS)
    backwards = evaluate(toy.ToyFactory(), toy.Wanderer(), SEEDS[::-1])
    spread = evaluate(toy.ToyFactory(), toy.Wanderer(), SEEDS, workers=2)
    assert here.episodes() == backwards.episodes() == spread.episodes()
    assert len({e.reward for e in here.episodes()}) > 1


@pytest.mark.parametrize('workers', [1, 2])
def test_a_broken_episode_is_reported_and_the_others_go_on(workers):
    result = evaluate(
        toy.ToyFactory({'raise_seeds': (2,)}), expert_controller, SEEDS, workers=workers)
    assert list(result.failures) == [2] and 'broken on purpose at 2' in result.failures[2]
    assert [e.seed for e in result.episodes()] == [0, 1, 3, 4, 5] and not result.remaining


def test_a_dead_worker_is_replaced():
    result = evaluate(
        toy.ToyFactory({'crash_seeds': (1,)}), expert_controller, SEEDS, workers=2)
    assert result.failures == {1: 'the worker process died with exit code 3'}
    assert [e.seed for e in result.episodes()] == [0, 2, 3, 4, 5]


def test_an_evaluation_in_which_everything_breaks_ends_soon():
    result = evaluate(toy.ToyFactory({'raise_seeds': SEEDS}), expert_controller, SEEDS)
    assert len(result.failures) == 3 and len(result.remaining) == 3


@pytest.mark.parametrize('workers', [1, 2])
def test_the_factories_own_errors_come_through(workers):
    with pytest.raises(CheckpointError, match='no such checkpoint'):
        evaluate(toy.ToyFactory(), toy.broken_factory, SEEDS, workers=workers)


def test_a_worker_that_cannot_start_is_told():
    with pytest.raises(RuntimeError, match='could not start[\\s\\S]*exit code 5'):
        evaluate(toy.ToyFactory(), toy.crashing_factory, SEEDS, workers=2)


def test_factories_that_cannot_be_sent_are_told():
    with pytest.raises(ConfigError, match='picklable'):
        evaluate(lambda: toy.ToyEnv(), expert_controller, SEEDS, workers=2)


@pytest.mark.parametrize('workers', [1, 2])
def test_stopping_keeps_what_there_is(workers):
    done = []
    result = evaluate(toy.ToyFactory(), expert_controller, range(50), workers=workers,
                      on_result=done.append, should_stop=lambda: len(done) >= 3)
    assert 3 <= len(result.results) < 50
    assert sorted([*result.results, *result.remaining]) == list(range(50))


def test_where_everybody_is_told_to_stop_no_episode_is_broken():
    """As a service manager does: the same signal to this process and to its workers."""
    stopped = threading.Event()

    def stop(*_):
        time.sleep(0.05)  # by then the worker is dead, and this process hears of both at once
        stopped.set()

    before = signal.signal(signal.SIGTERM, stop)
    try:
        result = evaluate(toy.ToyFactory({'terminate_seeds': (3,)}), expert_controller, [3],
                          workers=2, should_stop=stopped.is_set)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert stopped.is_set() and not result.failures and result.remaining == [3]


def test_workers_do_not_die_of_ctrl_c():
    """The terminal sends SIGINT to the whole group; only the parent may react."""
    stop = threading.Event()
    previous = signal.signal(signal.SIGINT, lambda *_: stop.set())
    try:
        done = []

        def interrupt(result):
            done.append(result)
            if len(done) == 2:
                import multiprocessing
                for child in multiprocessing.active_children():
                    os.kill(child.pid, signal.SIGINT)
                os.kill(os.getpid(), signal.SIGINT)

        result = evaluate(toy.ToyFactory(), expert_controller, range(30), workers=2,
                          on_result=interrupt, should_stop=stop.is_set)
    finally:
        signal.signal(signal.SIGINT, previous)
    assert not result.failures and 2 <= len(result.results) < 30


@pytest.mark.parametrize(('seeds', 'workers'), [([], 1), ([1, 1], 1), ([1], 0)])
def test_bad_requests_are_refused(seeds, workers):
    with pytest.raises(ConfigError, match='workers must be >= 1 and seeds differ'):
        evaluate(toy.ToyFactory(), expert_controller, seeds, workers=workers)


def test_an_environment_without_success_is_refused():
    class Mute(toy.ToyEnv):
        def _info(self):
            return {'stage': 0, 'success': False}

        def step(self, action):
            *rest, info = super().step(action)
            return *rest, {}

    env = Mute()
    with pytest.raises(ConfigError, match="must have 'success'"):
        run_episode(env, expert_controller(env), 0)


def test_the_dict_observation_becomes_ours():
    env = toy.ToyEnv()
    obs, _ = env.reset(seed=0)
    observation = as_observation({**obs, 'images': {'front': np.zeros((2, 2, 3), np.uint8)}}, 0.5)
    assert observation.stamp == 0.5 and observation.images['front'].shape == (2, 2, 3)
    assert observation.objects['ball'] is obs['objects']['ball']


def test_summary_counts():
    episodes = [
        EpisodeResult(0, True, 10, 1.0, 2, 'both'), EpisodeResult(1, False, 60, 0.5, 1, 'one'),
        EpisodeResult(2, False, 60, 0.0, 0, 'far'), EpisodeResult(3, True, 20, 1.0, 2, 'both'),
    ]
    s = summary(episodes)
    assert s['success_rate'] == 0.5 and s['episodes'] == 4 and s['successes'] == 2
    assert s['failures_by_stage'] == {'far': 1, 'one': 1}
    assert s['mean_length_of_successes'] == 15 and s['mean_length'] == 37.5
    assert summary([])['success_rate'] is None
