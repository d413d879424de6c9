"""Scripted experts of the applications: ``expert(env, observation)`` gives an action.

Each knows its environment's observation, and where that does not suffice, the environment itself.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np

_HOVER = 0.36  # thrust that carries the quadrotor
_SPEED, _SPEED_GAIN = 2.5, 1.5  # largest [m/s], and per distance [1/s]
_UPRIGHT = 5.0  # energy of the pendulum at rest, standing [J]


def pendulum(env: Any, obs: Any) -> Any:
    """Pump energy, then hold upright (Astrom and Furuta, Automatica 2000)."""
    cosine, sine, speed = (float(v) for v in obs)
    angle = np.arctan2(sine, cosine)
    lacking = _UPRIGHT + 0.4 - speed**2 / 6 - _UPRIGHT * cosine
    if abs(angle + 0.2 * speed) < 0.5:
        torque = -12.0 * angle - 3.5 * speed
    else:
        torque = 3.0 * lacking * (np.tanh(2.0 * speed) if abs(speed) > 1e-3 else 1.0)
    return np.array([np.clip(torque, -2.0, 2.0)], np.float32)


def cartpole(env: Any, obs: Any) -> Any:
    """Push to where the pole falls."""
    return int(0.05 * obs[0] + 0.1 * obs[1] + obs[2] + 0.4 * obs[3] > 0)


def lunar_lander(env: Any, obs: Any) -> Any:
    """The heuristic that Gymnasium ships."""
    from gymnasium.envs.box2d.lunar_lander import heuristic

    return heuristic(env.unwrapped, obs)


def lane_keeping(env: Any, obs: Any) -> Any:
    """Steer by where the lane is a little ahead (pure pursuit, Coulter 1992)."""
    lane_env = env.unwrapped
    vehicle = lane_env.vehicle
    lane, ahead = lane_env.lane, max(6.0, 0.8 * float(vehicle.speed))
    along, _ = lane.local_coordinates(vehicle.position)
    goal = lane.position(along + ahead, 0.0)
    toward = np.arctan2(*(goal - vehicle.position)[::-1]) - vehicle.heading
    toward = (toward + np.pi) % (2 * np.pi) - np.pi
    wheel = np.arctan(2.0 * vehicle.LENGTH * np.sin(toward) / ahead)
    return np.array([np.clip(wheel / lane_env.action_type.steering_range[1], -1.0, 1.0)],
                    np.float32)


def drone(env: Any, obs: Any) -> Any:
    """Speed to the way-point, from it acceleration, from that attitude, from that angular rates.

    The cascade of every flight controller; gains found by trying.
    """
    obs = np.asarray(obs, float)
    roll, pitch, yaw = obs[3:6]
    (cr, sr), (cp, sp), (cy, sy) = ((np.cos(a), np.sin(a)) for a in (roll, pitch, yaw))
    to_world = np.array([
        [cy * cp, cy * sp * sr - sy * cr, cy * sp * cr + sy * sr],
        [sy * cp, sy * sp * sr + cy * cr, sy * sp * cr - cy * sr],
        [-sp, cp * sr, cp * cr]])
    wanted = _SPEED_GAIN * to_world @ obs[-3:]
    wanted *= min(1.0, _SPEED / max(float(np.linalg.norm(wanted)), 1e-9))
    force = np.clip(3.0 * (wanted - to_world @ obs[6:9]), -5.0, 5.0) / 9.81
    tilt = np.clip(np.arctan([-(cy * force[1] - sy * force[0]), cy * force[0] + sy * force[1]]),
                   -0.5, 0.5)
    thrust = _HOVER * (1.0 + force[2]) / max(0.5, cr * cp)
    rates = np.clip(6.0 * (tilt - obs[3:5]), -3.0, 3.0)
    return np.array([*rates, 0.0, np.clip(thrust, 0.0, 0.8)], np.float32)


def point_maze(env: Any, obs: Any) -> Any:
    """To the middle of the next cell of a shortest way, as fast as it can stop there."""
    maze, place, goal = env.unwrapped.maze, obs['observation'][:2], obs['desired_goal']
    here, there = (tuple(int(k) for k in maze.cell_xy_to_rowcol(at)) for at in (place, goal))
    left = _cells_to_go(maze.maze_map, there)
    after = min(_beside(here), key=lambda cell: left.get(cell, np.inf))
    near = here == there or after == there
    wanted = 6.0 * ((goal if near else maze.cell_rowcol_to_xy(np.array(after))) - place)
    wanted *= min(1.0, 2.0 / max(float(np.linalg.norm(wanted)), 1e-9))  # [m/s]
    return np.clip(2.0 * (wanted - obs['observation'][2:]), -1.0, 1.0).astype(np.float32)


def _beside(cell: tuple[int, ...]) -> list[tuple[int, ...]]:
    row, column = cell
    return [(row + 1, column), (row - 1, column), (row, column + 1), (row, column - 1)]


def _cells_to_go(maze: Any, goal: tuple[int, ...]) -> dict[tuple[int, ...], int]:
    """From every cell that is no wall (1) to the goal's, the edge of a maze being wall."""
    left, waiting = {goal: 0}, deque([goal])
    while waiting:
        at = waiting.popleft()
        for cell in _beside(at):
            if maze[cell[0]][cell[1]] != 1 and cell not in left:
                left[cell] = left[at] + 1
                waiting.append(cell)
    return left


def bimanual(env: Any, obs: Any) -> Any:
    """The scripted expert of a bimanual task, as an action of the environment."""
    own = env.unwrapped
    return own.to_action(own.expert().position)
