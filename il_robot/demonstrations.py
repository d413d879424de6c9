"""How scripted experts demonstrate."""

from __future__ import annotations

NOISE, FINE_NOISE = (0.005, 1.0), {'insert_peg': (0.01, 0.5)}
"""Noise on what the expert does, not on his labels, and by task where another suits it: standard
deviation [rad], and the share of the time in which it acts. As much as a policy's own errors, and
as often as the expert can correct it within a task's clearance."""


def shaken(task: str, noise: float | None = None) -> dict[str, float]:
    """Disturbances of an expert who demonstrates.

    Args:
        task: Of the simulation.
        noise: All the time, instead of what suits the task [rad].
    """
    sigma, share = FINE_NOISE.get(task, NOISE) if noise is None else (noise, 1.0)
    return {'action_noise': sigma, 'noise_share': share}


def steady_noise(task: str, noise: float | None = None) -> float:
    """On an expert who is shaken in every step, as in corrections [rad].

    None where it comes in bursts when demonstrating: all the time it would keep him from ever
    finishing.
    """
    found = shaken(task, noise)
    return found['action_noise'] if found['noise_share'] == 1.0 else 0.0
