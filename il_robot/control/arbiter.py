"""The one place of decision: who drives each arm now, and which command goes out.

No clock, no ROS: :meth:`Arbiter.decide` is told the time, the measured state, the newest
proposals and the requests since the last call. Rules: a source counts only while it is fresh;
a human outranks the expert, both outrank the policy; losing the driver means HOLD; STOPPED is
latched and stops as soon as the hard limits allow; in every other change of driver the command
keeps the limits of position, velocity and acceleration (:mod:`il_robot.control.handover`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Literal

import numpy as np

from il_robot.control.clearance import Clearances
from il_robot.control.decision import HUMANS, Decision
from il_robot.control.handover import Motion, Rate
from il_robot.control.modes import (
    DISCARD_CORRECTION,
    RUNNING,
    STANDING,
    SUSPENDED,
    TRANSITIONS,
    M,
    Request,
)
from il_robot.control.safety import Limited, SafetyGate
from il_robot.control.tracking import Tracking
from il_robot.control.vectors import finite
from il_robot.spec import RobotSpec
from il_robot.types import ControlMode, Float32, Source

# So far beyond its limits a joint may seem to be while it is at them [rad, m].
_BEYOND = 0.02
# How far a stamp may lie ahead of the arbiter's time: clocks of two machines never agree.
_FUTURE = 0.05


@dataclass(frozen=True)
class ArbiterConfig:
    """Times of the arbiter.

    Attributes:
        human_timeout: Age from which a teleop or expert proposal no longer counts [s].
        policy_timeout: The same for the observation behind the newest chunk [s].
        state_timeout: Silence of the robot after which nobody goes on driving by himself [s].
        handover_time: How long a change of driver takes to fade; longer where limits ask
            for it [s].
        acceleration: When accelerations are limited: in each ``handover``, or ``always``,
            which changes what a driver who drives alone wants.
        speed_scale: Factor on the velocity limits, in (0, 1].
        resume: Whether a policy that was lost and came back goes on by itself; else somebody
            must request ``run``.
    """

    human_timeout: float = 0.2
    policy_timeout: float = 0.5
    state_timeout: float = 0.5
    handover_time: float = 0.5
    acceleration: Literal['handover', 'always'] = 'handover'
    speed_scale: float = 1.0
    resume: bool = False

    def __post_init__(self) -> None:
        for name in ('human_timeout', 'policy_timeout', 'state_timeout', 'handover_time'):
            if getattr(self, name) <= 0:
                raise ValueError(f'{name} must be > 0 s, got {getattr(self, name)}')


@dataclass(frozen=True, eq=False)
class Proposal:
    """What a source wants now.

    Attributes:
        stamp: Time of the observation behind it [s].
        position: ``(D,)`` targets [rad, m]; NaN for an arm it does not speak for.
    """

    stamp: float
    position: Float32


class Arbiter:
    """Decides; see the module. One instance per robot, calls serialised by the caller.

    Args:
        spec: The robot.
        config: Times and factors.
        clearances: Distances that are kept; None where the robot has no model.
    """

    def __init__(
        self, spec: RobotSpec, config: ArbiterConfig, clearances: Clearances | None = None
    ) -> None:
        self.spec, self.config = spec, config
        self._motion = Motion(
            spec, SafetyGate(spec, config.speed_scale, clearances), config.handover_time,
            always=config.acceleration == 'always')
        self._slices = {arm.name: spec.arm_slice(arm.name) for arm in spec.arms}
        self._gripper = np.array([name in spec.gripper_names for name in spec.joint_names])
        self._tracking = Tracking(spec)
        self.mode = ControlMode.HOLD
        self.reason = 'started'
        self._fault = self._suspended = False
        self._help = ''
        self._engaged: frozenset[str] = frozenset()
        self._nowhere, self._still = np.full(spec.dim, np.nan), np.zeros(spec.dim)
        self._drivers = dict.fromkeys(self._slices, Source.HOLD)
        self._rates = {s: Rate(spec) for s in (Source.POLICY, Source.EXPERT)}
        self._corrections, self._latest = 0, 0
        self._discarded: tuple[int, ...] = ()
        self._now = -np.inf
        self._lost_policy = False
        self._told = self._summary

    def decide(
        self,
        now: float,
        state: Float32,
        proposals: Mapping[Source, Proposal],
        requests: Iterable[Request] = (),
    ) -> Decision:
        """The command for this instant.

        Args:
            now: Time of the newest measured state [s]; never before the last call's.
            state: ``(D,)`` measured positions [rad, m]; the first command starts from it.
            proposals: The newest proposal of each source that ever spoke.
            requests: What was asked since the last call, oldest first.

        Returns:
            The decision; its command is inside the position limits (a joint that was measured
            beyond its own comes in), no arm joint moves faster than its velocity limit, and none
            that is handed over or brakes in HOLD changes its velocity faster than its
            acceleration limit, whatever was proposed. STOPPED, and what comes too close, brakes
            with the hard limits of :mod:`il_robot.control.safety`.
        """
        dt = min(max(now - self._now, 0.0), 2.0 * self.spec.dt)
        self._lose_robot(now - self._now)
        self._synchronize(state, now)
        fresh = {
            source: self._fresh(source, proposal, now) for source, proposal in proposals.items()
        }
        refused = tuple(text for r in requests if (text := self._request(r, fresh)))
        self._resume_policy(fresh)
        self._lose_drivers(fresh)
        if self.mode is M.STOPPED:
            self._motion.stop()
        limited = self._move(fresh, now, dt, state)
        self._now = now
        before, self._told = self._told, self._summary
        return Decision(
            self._motion.command, self.mode, tuple(self._drivers.values()),
            self._told != before, self.reason, refused, limited, self._fault, self._help,
            self._suspended, self._latest if self.mode is M.CORRECTION else 0, self._discarded,
            self._motion.changing)

    @property
    def _summary(self) -> tuple[object, ...]:
        """What everybody should hear of when it changes."""
        return self.mode, self._help, self._discarded, *self._drivers.values()

    def _move(
        self, fresh: Mapping[Source, Float32], now: float, dt: float, state: Float32
    ) -> Limited:
        """Let each arm's driver move the command."""
        for source, estimate in self._rates.items():
            estimate.update(fresh.get(source), now)
        drivers = {arm: self._driver(arm, fresh) for arm in self._slices}
        target, rate, begun = self._nowhere.copy(), self._still, None
        if drivers != self._drivers or Source.HOLD in drivers.values():
            rate, begun = self._still.copy(), self._still > 0
        for arm, where in self._slices.items():
            source = drivers[arm]
            if source is Source.HOLD:
                continue
            target[where] = fresh[source][where]
            if begun is not None and source is not self._drivers[arm]:
                begun[where] = True
                if source in self._rates:
                    rate[where] = self._rates[source].value[where]
        self._drivers = drivers
        return self._motion.advance(target, rate, begun, now, dt, now - self._now, state)

    def end_run(self) -> None:
        """The episode is over, or another one begins: what was suspended does not go on."""
        self._suspended, self._help, self._latest = False, '', 0

    def _synchronize(self, state: Float32, now: float) -> None:
        """Start from where the robot is: at first, and when it is not where it was sent.

        A simulator that is reset, or a robot whose driver was restarted elsewhere, must not be
        pulled back to the old command; nor one that did not follow when it does so again.
        """
        first, command = not self._tracking.begun, self._motion.command
        jumped = self._tracking.believe(now, state, command)
        lagging = jumped if jumped.size else self._tracking.lagging(now, state, command)
        if not lagging.size:
            return
        if not first and self.mode is not M.STOPPED:
            names = ', '.join(self.spec.joint_names[i] for i in lagging)
            why = f'the measured state jumped ({names})' if jumped.size else (
                f'{names} did not follow: more than {self.spec.safety.following:g} rad from the '
                f'command for {self.spec.safety.following_time:g} s')
            self._engaged, self._lost_policy = frozenset(), False
            self._enter(M.HOLD, f'{why}: holding where it is', fault=True)
            self.end_run()
        # From where it is: a joint beyond its limits by more than a measurement's error comes back
        # at the speed of the gate, and not in one step.
        inside = np.clip(state, self.spec.lower, self.spec.upper)
        at_once = (np.abs(inside - state) < _BEYOND) | self._gripper
        self._motion.restart(np.where(at_once, inside, state))

    def doubts(self, now: float, state: Float32) -> bool:
        """Whether a measured state ``(D,)`` is not to be decided upon: it jumped, by itself.

        States that go on from it confirm it (:mod:`il_robot.control.tracking`), or it was a
        fault of one message. A new episode may begin anywhere (:meth:`expect_jump`).
        """
        return self._tracking.doubts(now, state, self._motion.command)

    def expect_jump(self) -> None:
        """The next measured state may be anywhere."""
        self._tracking.expect_jump()

    def stop(self, reason: str) -> None:
        """STOPPED now, without waiting for the next measured state."""
        self._enter(M.STOPPED, reason)

    # -- who drives -------------------------------------------------------------------------
    def _fresh(self, source: Source, proposal: Proposal, now: float) -> Float32:
        """The proposal where it counts, NaN elsewhere (too old, from the future, not finite)."""
        timeout = (self.config.policy_timeout if source is Source.POLICY
                   else self.config.human_timeout)
        position = proposal.position
        in_time = -_FUTURE <= now - proposal.stamp <= timeout
        if in_time and finite(position):
            return position
        nothing = np.full(self.spec.dim, np.nan, np.float32)
        if not in_time:
            return nothing
        for where in self._slices.values():
            if np.isfinite(position[where]).all():
                nothing[where] = position[where]
        return nothing

    def _human(self, arm: str, fresh: Mapping[Source, Float32]) -> Source:
        """Who speaks for an arm: the operator, else the expert, else nobody (HOLD)."""
        for source in HUMANS:
            if self._speaks(source, arm, fresh):
                return source
        return Source.HOLD

    def _speaks(self, source: Source, arm: str, fresh: Mapping[Source, Float32]) -> bool:
        return source in fresh and isfinite(
            fresh[source].item(self._slices[arm].start))

    def _driver(self, arm: str, fresh: Mapping[Source, Float32]) -> Source:
        if self.mode in STANDING:
            return Source.HOLD
        if arm in self._engaged:
            return self._human(arm, fresh)
        if self.mode is M.TELEOP:
            return Source.HOLD
        return Source.POLICY if self._speaks(Source.POLICY, arm, fresh) else Source.HOLD

    # -- modes ------------------------------------------------------------------------------
    def _request(self, request: Request, fresh: Mapping[Source, Float32]) -> str:
        """Carry out one request; the reason where it is refused."""
        kind = request.kind
        if kind == DISCARD_CORRECTION:
            return self._discard_correction()
        mode = TRANSITIONS.get((self.mode, kind))
        if self._suspended:
            mode = SUSPENDED.get((self.mode, kind), mode)
        if mode is None:
            return f'{kind}: not possible in mode {self.mode.name}'
        arms = frozenset(request.arms or self._slices)
        if kind == 'engage':
            silent = [a for a in sorted(arms) if self._human(a, fresh) is Source.HOLD]
            if silent:
                return (f'engage: nobody speaks for {" and ".join(silent)}: no teleop or expert '
                        f'proposal newer than {self.config.human_timeout:g} s')
            self._engaged |= arms
            if mode is M.CORRECTION and self.mode is not mode:
                self._corrections += 1
                self._latest = self._corrections
        elif kind == 'release':
            self._engaged -= arms
            if self._engaged:
                mode = self.mode
        else:
            if kind == 'run' and not any(
                    self._speaks(Source.POLICY, a, fresh) for a in self._slices):
                return (f'run: no policy proposal newer than {self.config.policy_timeout:g} s; '
                        'is the policy node active?')
            self._engaged = frozenset()
        self._suspended = mode is M.HOLD and kind in ('freeze', 'help') and (
            self._suspended or self.mode in RUNNING)
        self._help = request.reason or 'no reason given' if kind == 'help' else ''
        self._enter(mode, self._why(request, fresh))
        self._lost_policy = False
        return ''

    def _why(self, request: Request, fresh: Mapping[Source, Float32]) -> str:
        """The reason of a mode that somebody asked for."""
        if request.kind != 'help':
            return f'request {request.kind} {" ".join(request.arms)}'.rstrip()
        names = {Source.TELEOP: 'the operator', Source.EXPERT: 'the expert'}
        there = [names[s] for s in HUMANS if any(
            self._speaks(s, arm, fresh) for arm in self._slices)]
        who = ' or '.join(there) or 'somebody, but neither teleop nor expert is there'
        return f'help wanted from {who}: {self._help}'

    def _discard_correction(self) -> str:
        if not self._latest:
            return f'{DISCARD_CORRECTION}: there was no correction in this episode'
        if self._latest in self._discarded:
            return f'{DISCARD_CORRECTION}: the last correction is discarded already'
        # More than anybody discards in an episode; the message must not grow for ever.
        self._discarded = (*self._discarded[-63:], self._latest)
        return ''

    def _enter(self, mode: ControlMode, reason: str, *, fault: bool = False) -> None:
        if fault and self.mode in RUNNING:
            self._suspended = True
        self.mode, self.reason, self._fault = mode, reason, fault

    def _lose_drivers(self, fresh: Mapping[Source, Float32]) -> None:
        """HOLD where an arm that should be driven has nobody who drives it."""
        if self.mode in STANDING:
            return
        for arm in self._slices:
            engaged = arm in self._engaged
            if self._driver(arm, fresh) is Source.HOLD and (engaged or self.mode is not M.TELEOP):
                who = 'operator' if engaged else 'policy'
                last = self._drivers[arm]
                whose = f' from {last.name.lower()}' if last in HUMANS else ''
                self._lost_policy = not self._engaged
                self._engaged = frozenset()
                self._enter(M.HOLD, f'{who} lost: no fresh proposal{whose} for the {arm} arm',
                            fault=True)
                return

    def _lose_robot(self, elapsed: float) -> None:
        """HOLD after a silence of the robot, however fresh what drivers say of its return."""
        if not self._tracking.begun or elapsed <= self.config.state_timeout:
            return
        self._motion.rest()  # it stood still meanwhile, wherever the command was going
        if self.mode in STANDING:
            return
        self._lost_policy = not self._engaged
        self._engaged = frozenset()
        self._enter(M.HOLD, f'robot lost: no joint states for {elapsed:.1f} s', fault=True)

    def _resume_policy(self, fresh: Mapping[Source, Float32]) -> None:
        if (self.config.resume and self._lost_policy and self.mode is M.HOLD
                and all(self._speaks(Source.POLICY, a, fresh) for a in self._slices)):
            self._lost_policy = self._suspended = False
            self._enter(M.AUTONOMOUS, 'policy is back')
