"""Environments of kept packages that need a little to become rows of numbers.

An application names one of these as ``MODULE:CALLABLE`` where Gymnasium's id would stand.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gymnasium as gym
import numpy as np

from il_robot.types import Float32


def drone(**options: Any) -> gym.Env[Float32, Any]:
    """Way-points for a quadrotor that is flown by angular rates and thrust (PyFlyt).

    Observed are attitude, speeds, place, the last action, the motors, and where the next
    way-point is, as seen from the body: ``(23,)``.
    """
    import PyFlyt.gym_envs  # noqa: F401

    # the checker's warnings of a package that shares one info dict help nobody here: it is copied
    with _no_output():
        env = gym.make('PyFlyt/QuadX-Waypoints-v1', angle_representation='euler',
                       disable_env_checker=True, **options)
    return _NextWaypoint(env)


class _NextWaypoint(gym.Wrapper[Float32, Any, Any, Any]):
    """Of all way-points the next one; and what the physics prints at each reset is not shown."""

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        super().__init__(env)
        space = env.observation_space
        assert isinstance(space, gym.spaces.Dict)
        width = (space['attitude'].shape or (0,))[0]
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (width + 3,), np.float32)
        low, high = env.action_space.low, env.action_space.high  # type: ignore[attr-defined]
        self.action_space = gym.spaces.Box(
            low.astype(np.float32), high.astype(np.float32), dtype=np.float32)

    def reset(self, **options: Any) -> tuple[Float32, dict[str, Any]]:
        with _no_output():
            obs, info = self.env.reset(**options)
        return self._row(obs), info

    def step(self, action: Any) -> tuple[Float32, Any, bool, bool, dict[str, Any]]:
        obs, reward, terminated, truncated, info = self.env.step(np.asarray(action, float))
        # the package truncates where the last way-point is reached; that is an end
        done = bool(info['env_complete'])
        return (self._row(obs), float(reward), bool(terminated) or done,
                bool(truncated) and not done, {**info, 'success': done})

    @staticmethod
    def _row(obs: Any) -> Float32:
        left = obs['target_deltas']
        goal = left[0] if len(left) else np.zeros(3)
        return np.concatenate([obs['attitude'], goal]).astype(np.float32)


@contextmanager
def _no_output() -> Iterator[None]:
    """Without what a C library writes to the standard output."""
    kept, nothing = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nothing, 1)
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nothing)


def lane_keeping(**options: Any) -> gym.Env[Any, Any]:
    """A car with side slip on a winding lane (highway-env).

    It begins beside the lane's middle and not along it: the package's own episodes all begin, and
    go, alike. Beside the lane the reward is 0, else it would fall with the square of the distance
    without an end, and who drives at random would be nearly all of a scale.
    """
    import highway_env  # noqa: F401

    return _OffCentre(gym.make('lane-keeping-v0', **options))


class _OffCentre(gym.Wrapper[Any, Any, Any, Any]):
    """The car up to 3 m from the middle of the lane and 0.3 rad from its direction."""

    def reset(self, **options: Any) -> tuple[Any, dict[str, Any]]:
        _, info = self.env.reset(**options)
        own: Any = self.env.unwrapped
        rng, car = own.np_random, own.vehicle
        along, _ = own.lane.local_coordinates(car.position)
        car.position = own.lane.position(along, rng.uniform(-3.0, 3.0))
        car.heading = own.lane.heading_at(along) + rng.uniform(-0.3, 0.3)
        return own.observation_type.observe(), info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        obs, reward, terminated, truncated, info = self.env.step(action)
        return obs, max(0.0, float(reward)), terminated, truncated, info
