"""Success rates over many episodes, in parallel worlds, on seeds that every policy shares.

An episode depends on its seed alone: not on the worker that ran it, nor on how many there are.
A worker that dies costs its episode, which is reported; the others go on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from il_robot.algorithms.workers import MakeController, MakeEnv, run_seeds
from il_robot.errors import ConfigError
from il_robot.protocols import Controller
from il_robot.statistics import wilson
from il_robot.types import Float32, Observation

_MOST_FAILURES = 3


@dataclass(frozen=True)
class EpisodeResult:
    """How one episode went.

    Attributes:
        seed: Reset seed.
        success: What the environment says at the end.
        length: Control steps.
        reward: Sum of rewards.
        stage: Highest stage reached, and its name (0 and empty where there are none).
        simulated: Control steps that finding it took, where that is more than its length.
    """

    seed: int
    success: bool
    length: int
    reward: float
    stage: int = 0
    stage_name: str = ''
    simulated: int = 0


@dataclass
class Evaluation:
    """What has been run so far.

    Attributes:
        results: Finished episodes by seed.
        failures: Seeds whose episode broke (an exception, a dead worker), with the reason.
        remaining: Seeds not run: the evaluation was stopped.
    """

    results: dict[int, EpisodeResult] = field(default_factory=dict)
    failures: dict[int, str] = field(default_factory=dict)
    remaining: list[int] = field(default_factory=list)

    def episodes(self) -> list[EpisodeResult]:
        """In the order of the seeds, whatever order they finished in."""
        return [self.results[seed] for seed in sorted(self.results)]


def evaluate(
    make_env: MakeEnv,
    make_controller: MakeController,
    seeds: Sequence[int],
    *,
    workers: int = 1,
    evaluation: Evaluation | None = None,
    on_result: Callable[[EpisodeResult], None] = lambda result: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Evaluation:
    """Run one episode per seed.

    Args:
        make_env: Makes an environment; with more than one worker it must be picklable (a
            function or a dataclass of a module), and so must the next.
        make_controller: Makes the controller that drives a given environment.
        seeds: Reset seeds.
        workers: Processes; 1 runs everything in this one.
        evaluation: Filled as episodes finish, and returned; what it has is not run again.
        on_result: Called with each finished episode.
        should_stop: Asked often; True ends the evaluation with what there is.

    Raises:
        ConfigError: bad seeds or workers, factories that cannot be sent to a worker, or an
            environment that does not say whether it succeeded.
        IlRobotError: whatever the factories raise; no episode can run then.
        RuntimeError: the same for other exceptions.
    """
    if workers < 1 or len(set(seeds)) != len(seeds) or not seeds:
        raise ConfigError(f'workers must be >= 1 and seeds differ, got {workers} and {seeds}')
    evaluation = Evaluation() if evaluation is None else evaluation
    seeds = evaluation.remaining = [s for s in seeds if s not in evaluation.results]
    failures = evaluation.failures = {}

    def finish(seed: int, outcome: EpisodeResult | str) -> bool:
        """Note an episode; whether to go on."""
        evaluation.remaining.remove(seed)
        if isinstance(outcome, str):
            failures[seed] = outcome
        else:
            evaluation.results[seed] = outcome
            on_result(outcome)
        return len(failures) < _MOST_FAILURES

    run_seeds(make_env, make_controller, run_episode, list(seeds), finish, workers=workers,
              should_stop=should_stop)
    return evaluation


def run_episode(env: Any, controller: Controller, seed: int) -> EpisodeResult:
    """One episode; ``env`` and ``controller`` are reset first.

    Raises:
        ConfigError: the environment's info lacks ``success``.
    """
    dt = env.unwrapped.robot.dt
    obs, info = env.reset(seed=seed)
    controller.reset(np.random.default_rng([seed, 1]))
    length, reward, stage, stage_name, ended = 0, 0.0, 0, '', False
    while not ended:
        action = controller.act(as_observation(obs, length * dt))
        obs, step_reward, terminated, truncated, info = env.step(action)
        length, reward = length + 1, reward + float(step_reward)
        if info.get('stage', 0) >= stage:
            stage, stage_name = int(info.get('stage', 0)), str(info.get('stage_name', ''))
        ended = terminated or truncated
    if 'success' not in info:
        raise ConfigError(
            f"the environment's info must have 'success' (bool) to be evaluated; it has "
            f'{", ".join(info) or "nothing"}')
    return EpisodeResult(seed, bool(info['success']), length, reward, stage, stage_name)


def as_observation(obs: dict[str, Any], stamp: float) -> Observation:
    """The Dict observation of an environment as the package's own type."""
    state: Float32 = obs['state']
    return Observation(stamp, state, obs.get('objects', {}), obs.get('images', {}))


def summary(episodes: Sequence[EpisodeResult]) -> dict[str, Any]:
    """Success rate with its interval, lengths, and where the failed episodes ended."""
    solved = [e for e in episodes if e.success]
    low, high = wilson(len(solved), len(episodes))
    stages: dict[str, int] = {}
    for e in sorted(episodes, key=lambda e: e.stage):
        if not e.success:
            name = e.stage_name or str(e.stage)
            stages[name] = stages.get(name, 0) + 1
    return {
        'episodes': len(episodes),
        'successes': len(solved),
        'success_rate': len(solved) / len(episodes) if episodes else None,
        'interval_95': [low, high],
        'mean_length': float(np.mean([e.length for e in episodes])) if episodes else None,
        'mean_length_of_successes': float(np.mean([e.length for e in solved])) if solved else None,
        'mean_reward': float(np.mean([e.reward for e in episodes])) if episodes else None,
        'failures_by_stage': stages,
    }
