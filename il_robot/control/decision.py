"""What the arbiter decided, and why."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from il_robot.control.safety import Limited
from il_robot.types import ControlMode, Float32, Source

HUMANS = (Source.TELEOP, Source.EXPERT)
"""Who may take over from a policy, the first before the second."""


@dataclass(frozen=True, eq=False)
class Decision:
    """What goes out, and why.

    Attributes:
        command: ``(D,)`` targets [rad, m].
        mode: Mode from now on.
        drivers: Who drives each arm, in RobotSpec order.
        changed: Whether mode or a driver changed with this decision.
        reason: Why the mode is what it is, in words.
        refused: Requests that could not be granted, with the reason.
        limited: What the safety gate changed.
        fault: The arms hold because something was lost, not because somebody asked for it.
        help: Why the policy asked for help that has not come yet; empty where it did not.
        suspended: A policy's run stands still and may go on.
        correction: Number of the correction that is going on, 0 without one.
        discarded: Numbers of the corrections that teach nothing.
        changing: ``(D,)`` joints that are being handed over or brake.
    """

    command: Float32
    mode: ControlMode
    drivers: tuple[Source, ...]
    changed: bool
    reason: str
    refused: tuple[str, ...]
    limited: Limited
    fault: bool
    help: str
    suspended: bool
    correction: int
    discarded: tuple[int, ...]
    changing: NDArray[np.bool_]

    @property
    def intervention(self) -> bool:
        """Somebody had taken over from the policy, and drives."""
        return self.mode is ControlMode.CORRECTION and any(d in HUMANS for d in self.drivers)
