"""What a real robot's node does at each instant: obey, hold, start slowly, or send nothing.

===========  =====================================================  ========================
phase        when                                                   what is sent
===========  =====================================================  ========================
WAITING      no command has come yet                                nothing
STARTING     on the way from the measured posture to the commands   set-points, slow
STREAMING    commands come                                          set-points
HOLDING      commands fell silent, or come from two nodes           the set-point sent last
LOST         joint states are silent or jumped, the check failed    nothing
LATE         this process was stopped for a moment                  nothing, for one tick
===========  =====================================================  ========================

Nothing sent means that the controllers keep what they have. What came back after LOST may be
another robot: it is trusted once it was checked again, and everything starts from where the arms
are then. No clock; times as in :mod:`il_robot.control.measurements`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np

from il_robot.control.commands import CommandBuffer
from il_robot.control.measurements import Measurements, State
from il_robot.control.setpoints import Setpoints
from il_robot.spec import RobotSpec
from il_robot.types import Float32, Float64

# Ticks missed in a row that make a stall.
_STALL = 4


class Phase(Enum):
    """See the module."""

    WAITING = 'waiting'
    STARTING = 'starting'
    STREAMING = 'streaming'
    HOLDING = 'holding'
    LOST = 'robot lost'
    LATE = 'late'


@dataclass(frozen=True)
class Tick:
    """What one instant came to.

    Attributes:
        phase: See the module.
        reason: In words, where it is not STREAMING.
        rows: ``(1 + ahead, D)`` set-points in our units, the first for now and one per period
            ahead; None: send nothing.
        goal: ``(D,)`` the newest target, for drives that make their own way.
    """

    phase: Phase
    reason: str
    rows: Float64 | None = None
    goal: Float64 | None = None


class Hardware:
    """Decides for one robot; see the module.

    Args:
        spec: With a hardware section.
        rate: Set-points per second [Hz]; 0 takes the section's.
        command_timeout: Age from which a command no longer counts [s].

    Raises:
        SpecError: the robot has no hardware section.
    """

    def __init__(
        self, spec: RobotSpec, *, rate: float = 0.0, command_timeout: float = 0.2
    ) -> None:
        wired, section = spec.wiring, spec.hardware
        assert section is not None  # spec.wiring has said so
        self.period = 1.0 / (rate or section.rate)
        self.measurements = Measurements(wired, spec.dt, section.jump_margin)
        self._setpoints = Setpoints(
            wired.joints, period=self.period, lookahead=section.lookahead or spec.dt,
            start_speed=section.start_speed, max_lead=section.max_lead)
        # A far one is approached slowly by the set-points.
        self._commands = CommandBuffer(lockstep=False, timeout=command_timeout)
        self._ticked: float | None = None
        self._trusted, self._distrust, self._lost_at = False, 'not checked yet', 0.0
        self._gain: Float64 = np.array([j.gain for j in wired.joints])
        self._offset: Float64 = np.array([j.offset for j in wired.joints])

    def to_driver(self, positions: Float64) -> Float64:
        """``(..., D)`` positions in the driver's units."""
        return (positions - self._offset) / self._gain

    # -- trust ------------------------------------------------------------------------------
    def checked(self, since: float) -> bool:
        """The robot fits its file, as measured from ``since`` until now [s]; whether that counts.

        It does not where the robot was lost meanwhile.
        """
        if not self._trusted and since >= self._lost_at:
            self._trusted = True
            self.rest()
        return self._trusted

    def distrust(self, why: str, now: float) -> None:
        """Send nothing until the robot was checked again."""
        self._trusted, self._distrust, self._lost_at = False, why, now
        self.rest()

    def rest(self) -> None:
        """Send nothing until the next command."""
        self._setpoints.stop()
        self._commands.begin(self.measurements.stamp)

    # -- what comes in and goes out ---------------------------------------------------------
    def state(self, now: float) -> State | None:
        """The robot's state, where one is due and sound."""
        return self.measurements.take(now) if self._trusted else None

    def command(self, stamp: float, position: Float32, now: float) -> str:
        """Take a command ``(D,)`` that answers the joint states of ``stamp``.

        Returns:
            Why it does not count, in a few words; empty where it does.
        """
        if not self._trusted or self.measurements.fault(now):
            return 'while the robot is lost'
        wrong = self._commands.put(stamp, position, self.measurements.stamp)
        if wrong:
            return wrong
        if not self._setpoints.active:
            self._setpoints.start(self.measurements.position, now)
        self._setpoints.target(position.astype(float), now)
        return ''

    def tick(self, now: float, *, rivals: int = 0) -> Tick:
        """Decide what is sent now.

        Args:
            now: Time that never steps [s].
            rivals: Nodes that write the command beside the first one.
        """
        # After a stall of ours, what the drivers sent meanwhile has yet to be read.
        stalled = self._ticked is not None and now - self._ticked > _STALL * self.period
        self._ticked = None if stalled else now
        if stalled:
            return Tick(Phase.LATE, 'this node was kept from running')
        fault = self.measurements.fault(now)
        if fault:
            self.distrust(fault, now)
            self.measurements.accept()
        if not self._trusted:
            return Tick(Phase.LOST, self._distrust if fault else f'{self._distrust}; checking')
        if rivals:
            self._commands.begin(self.measurements.stamp)
        silent = self._commands.get(self.measurements.stamp) is None
        if not self._setpoints.active:
            return Tick(Phase.WAITING, 'no command yet')
        if silent:
            self._setpoints.freeze(now)
        rows = self._setpoints.advance(self.measurements.position, now)
        if silent:
            why = f'{rivals + 1} nodes write the command' if rivals else (
                f'no command for {self._commands.timeout:g} s; is the arbiter running?')
            phase, reason = Phase.HOLDING, why
        elif self._setpoints.starting:
            phase, reason = Phase.STARTING, 'slowly to the first target'
        else:
            phase, reason = Phase.STREAMING, ''
        if self._setpoints.leading:
            reason = '; '.join(filter(None, [
                reason, f'not following: {", ".join(self._setpoints.leading)}']))
        return Tick(phase, reason, rows, self._setpoints.goal)
