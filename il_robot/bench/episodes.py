"""How good whoever drives is on a scene: success, jerk, latency, on the seeds of the suite."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from il_robot.algorithms.controller import PolicyFactory
from il_robot.algorithms.evaluate import as_observation, run_episode
from il_robot.algorithms.expert import expert_controller
from il_robot.algorithms.workers import MakeController, run_seeds
from il_robot.bench.outcome import EXPERT, Outcome, Point
from il_robot.bench.scenes import Scene
from il_robot.errors import SimulationError
from il_robot.types import Float32, Observation

FIRST_SEED = 500_000
"""Of evaluations: rounds and demonstrations take those from 1 000 000, choices those from 0."""
DELAY = 'delay'
"""A disturbance that is none of the scene's: of the policy's answers [s]."""
_ASKED = 300  # answers that the latency is measured over


@dataclass(frozen=True)
class MakeScene:
    """Makes the environment; picklable."""

    arguments: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self) -> Any:
        """A fresh one."""
        from il_robot import sim

        return sim.make(**self.arguments)


def under(scene: Scene, name: str, value: float) -> MakeScene:
    """The scene with one disturbance; a delay is the policy's, not the scene's."""
    return MakeScene(scene.arguments(**({} if name == DELAY else {name: value})))


def reference(
    name: str, scene: Scene, episodes: int, strengths: Mapping[str, Sequence[float]]
) -> Outcome:
    """The expert, or joint targets at random: the ends of the scale.

    The expert is tried under the disturbances, too; no answer of his is late.
    """
    controller = expert_controller if name == EXPERT else RandomController
    scores, jerk = measure(MakeScene(scene.arguments()), controller, episodes)
    outcome = Outcome([Point(0, 0, 0.0, scores)], jerk=jerk)
    for kind, values in strengths.items() if name == EXPERT else ():
        if kind != DELAY:
            own = float(scene.disturbances.get(kind, 0.0))
            outcome.robustness[kind] = [(own, scores), *(
                (float(v), measure(under(scene, kind, v), controller, episodes)[0])
                for v in values if v != own)]
    return outcome


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
    """p50 and p99 of one answer [ms], as Outcome has it.

    Each in another control period: a correction that stays, on a plan that is followed, answers
    in most of them without a network.
    """
    env = make()
    try:
        runner = PolicyFactory(checkpoint)(env).runner
        observation = as_observation(env.reset(seed=FIRST_SEED)[0], 0.0)
        runner.reset(np.random.default_rng(0))
        took = []
        for k in range(_ASKED):
            runner.observe(replace(observation, stamp=k * env.unwrapped.robot.dt))
            begun = time.thread_time()
            runner.predict()
            took.append(1e3 * (time.thread_time() - begun))
    finally:
        env.close()
    p50, p99 = np.quantile(took[_ASKED // 10:], (0.5, 0.99)).tolist()
    return p50, p99
