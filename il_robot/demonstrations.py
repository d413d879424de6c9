"""How scripted experts demonstrate."""

from __future__ import annotations

NOISE, FINE_NOISE = (0.005, 1.0), {'insert_peg': (0.01, 0.5)}
"""Noise on what the expert does, not on his labels, and by task where another suits it: standard
deviation [rad], and the share of the time in which it acts. As much as a policy's own errors, and
as often as the expert can correct it within a task's clearance."""
