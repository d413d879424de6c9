"""Demonstrations: an expert drives an environment and every row is recorded.

What is executed may differ from the expert's label: with action noise in the environment the
demonstrations also show how to come back from a small error, while the labels stay clean
(DART, Laskey et al. 2017, "DART: Noise Injection for Robust Imitation Learning").
"""

from __future__ import annotations

from typing import Any, Protocol

from il_robot.data.writer import DatasetWriter
from il_robot.spec import RobotSpec
from il_robot.types import Action, EpisodeInfo, Float32, Observation, Outcome, Source, Step


class Demonstrable(Protocol):
    """An environment that an expert can demonstrate (the bimanual ones do)."""

    robot: RobotSpec

    def reset(self, *, seed: int) -> Any:
        """Start an episode."""

    def step(self, action: Float32) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """One control tick."""

    def observation(self) -> Observation:
        """The present observation."""

    def expert(self) -> Action:
        """The expert's label for it."""

    @property
    def executed(self) -> Float32:
        """The action that the last step executed."""


def record_demonstration(
    env: Demonstrable, writer: DatasetWriter, info: EpisodeInfo, *, keep_failures: bool = False
) -> Outcome:
    """Record one episode driven by the expert.

    Args:
        env: The environment; it is reset with ``info.seed``.
        writer: Where the episode goes; its commit goes on in the background.
        info: What is known of the episode beforehand.
        keep_failures: Keep an episode that failed too (with its outcome) instead of
            discarding it.

    Returns:
        How the episode ended.

    Raises:
        DatasetError: the episode could not be written; those before it are intact.
    """
    env.reset(seed=info.seed)
    writer.begin(info)
    driver = (Source.EXPERT,) * len(env.robot.arms)
    ended = success = False
    try:
        while not ended:
            observation, label = env.observation(), env.expert().position
            _, reward, terminated, truncated, result = env.step(label)
            ended, success = terminated or truncated, bool(result['success'])
            writer.add(Step(
                observation, env.executed, driver, expert=label, reward=reward, success=success))
    except BaseException:
        # Ctrl-C too: half a demonstration is none.
        writer.discard()
        raise
    outcome = Outcome.SUCCESS if success else Outcome.FAILURE
    if success or keep_failures:
        writer.end(outcome)
    else:
        writer.discard()
    return outcome
