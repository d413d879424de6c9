"""The one place of decision: who drives each arm now, and which command goes out.

No clock, no ROS: :meth:`Arbiter.decide` is told the time, the measured state, the newest
proposals and the requests since the last call. Rules: a source counts only while it is fresh;
a human outranks the expert, both outrank the policy; losing the driver means HOLD; STOPPED is
latched; a change of driver never moves the command by more than the velocity limits allow.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from il_robot.control.safety import Limited, SafetyGate
from il_robot.errors import ConfigError, unknown
from il_robot.spec import RobotSpec
from il_robot.types import ControlMode, Float32, Float64, Source

M = ControlMode
TRANSITIONS: Mapping[tuple[ControlMode, str], ControlMode] = {
    (M.HOLD, 'engage'): M.TELEOP,
    (M.HOLD, 'run'): M.AUTONOMOUS,
    (M.TELEOP, 'engage'): M.TELEOP,
    (M.TELEOP, 'release'): M.HOLD,
    (M.TELEOP, 'run'): M.AUTONOMOUS,
    (M.AUTONOMOUS, 'engage'): M.CORRECTION,
    (M.AUTONOMOUS, 'run'): M.AUTONOMOUS,
    (M.CORRECTION, 'engage'): M.CORRECTION,
    (M.CORRECTION, 'release'): M.AUTONOMOUS,
    (M.CORRECTION, 'run'): M.AUTONOMOUS,
    (M.STOPPED, 'reset'): M.HOLD,
    **{(mode, 'hold'): M.HOLD for mode in M if mode is not M.STOPPED},
    **{(mode, 'stop'): M.STOPPED for mode in M},
}
"""(mode, request) to the next mode; what is not here is refused. ``release`` of one arm while
another stays engaged keeps the mode."""

REQUESTS = tuple(dict.fromkeys(request for _, request in TRANSITIONS))
_PER_ARM = ('engage', 'release')
_HUMANS = (Source.TELEOP, Source.EXPERT)
# A measured joint that moved this much more than its velocity allows was not moved by us [rad].
_TELEPORT = 0.1
# How far a stamp may lie ahead of the arbiter's time: clocks of two machines never agree.
_FUTURE = 0.05


@dataclass(frozen=True)
class ArbiterConfig:
    """Times of the arbiter.

    Attributes:
        human_timeout: Age from which a teleop or expert proposal no longer counts [s].
        policy_timeout: The same for the observation behind the newest chunk [s].
        state_timeout: Silence of the robot after which nobody goes on driving by himself [s].
        handover_time: How long a change of driver takes to blend over [s].
        speed_scale: Factor on the velocity limits, in (0, 1].
        resume: Whether a policy that was lost and came back goes on by itself; else somebody
            must request ``run``.
    """

    human_timeout: float = 0.2
    policy_timeout: float = 0.5
    state_timeout: float = 0.5
    handover_time: float = 0.5
    speed_scale: float = 1.0
    resume: bool = False

    def __post_init__(self) -> None:
        for name in ('human_timeout', 'policy_timeout', 'state_timeout', 'handover_time'):
            if getattr(self, name) <= 0:
                raise ValueError(f'{name} must be > 0 s, got {getattr(self, name)}')


@dataclass(frozen=True)
class Request:
    """One request; ``arms`` empty means all."""

    kind: str
    arms: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str, spec: RobotSpec) -> Request:
        """Read ``engage left`` and the like.

        Raises:
            ConfigError: an unknown request or arm; the valid ones are named.
        """
        kind, *arms = text.split() or ['']
        if kind not in REQUESTS:
            raise ConfigError(unknown('request', kind, REQUESTS))
        known = [arm.name for arm in spec.arms]
        for arm in arms:
            if arm not in known:
                raise ConfigError(unknown('arm', arm, known, f'request {text!r}'))
        if arms and kind not in _PER_ARM:
            raise ConfigError(f'request {kind!r} is for all arms; leave {arms} out')
        return cls(kind, tuple(arms))


@dataclass(frozen=True, eq=False)
class Proposal:
    """What a source wants now.

    Attributes:
        stamp: Time of the observation behind it [s].
        position: ``(D,)`` targets [rad, m]; NaN for an arm it does not speak for.
    """

    stamp: float
    position: Float32


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
    """

    command: Float32
    mode: ControlMode
    drivers: tuple[Source, ...]
    changed: bool
    reason: str
    refused: tuple[str, ...]
    limited: Limited
    fault: bool

    @property
    def intervention(self) -> bool:
        """Somebody had taken over from the policy, and drives."""
        return self.mode is ControlMode.CORRECTION and any(d in _HUMANS for d in self.drivers)


@dataclass
class _Handover:
    """The offset that remains of the last driver's command, and since when it fades."""

    offset: Float64
    since: float


class Arbiter:
    """Decides; see the module. One instance per robot, calls serialised by the caller.

    Args:
        spec: The robot.
        config: Times and factors.
    """

    def __init__(self, spec: RobotSpec, config: ArbiterConfig) -> None:
        self.spec, self.config = spec, config
        self._gate = SafetyGate(spec, config.speed_scale)
        self._slices = {arm.name: spec.arm_slice(arm.name) for arm in spec.arms}
        self._possible = 3.0 * spec.velocity * spec.dt + _TELEPORT
        self.mode = ControlMode.HOLD
        self.reason = 'started'
        self._fault = False
        self._engaged: frozenset[str] = frozenset()
        self._drivers = dict.fromkeys(self._slices, Source.HOLD)
        self._handovers: dict[str, _Handover] = {}
        self._command: Float32 | None = None
        self._state: Float32 | None = None
        self._now = -np.inf
        self._lost_policy = False

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
            The decision; its command is inside the position limits and no arm joint moves
            faster than its velocity limit, whatever was proposed.
        """
        before = (self.mode, tuple(self._drivers.values()))
        dt = min(max(now - self._now, 0.0), 2.0 * self.spec.dt)
        self._lose_robot(now - self._now)
        self._synchronize(state, now - self._now)
        assert self._command is not None
        fresh = {
            source: self._fresh(source, proposal, now) for source, proposal in proposals.items()
        }
        refused = tuple(text for r in requests if (text := self._request(r, fresh)))
        self._resume_policy(fresh)
        self._lose_drivers(fresh)
        target = self._command.astype(np.float64)
        for arm, where in self._slices.items():
            source = self._driver(arm, fresh)
            if source is not Source.HOLD:
                target[where] = self._blend(arm, source, fresh[source][where], now)
            self._drivers[arm] = source
        self._now = now
        command, limited = self._gate.limit(target.astype(np.float32), self._command, dt)
        self._command = command
        drivers = tuple(self._drivers.values())
        return Decision(
            command, self.mode, drivers, (self.mode, drivers) != before, self.reason, refused,
            limited, self._fault)

    def _synchronize(self, state: Float32, elapsed: float) -> None:
        """Start from where the robot is: at first, and when it was moved by somebody else.

        A simulator that is reset, or a robot whose driver was restarted elsewhere, must not be
        pulled back to the old command.
        """
        last, self._state = self._state, state
        if last is not None and self._command is not None:
            start = last
            if elapsed > 1.5 * self.spec.dt:
                # After a silence it may be anywhere on its way to the last command.
                start = np.clip(
                    state, np.minimum(last, self._command), np.maximum(last, self._command))
            moved = np.flatnonzero(np.abs(state - start) > self._possible)
            if not moved.size:
                return
            if self.mode is not M.STOPPED:
                names = ', '.join(self.spec.joint_names[i] for i in moved)
                self._engaged, self._lost_policy = frozenset(), False
                self._enter(M.HOLD, f'the measured state jumped ({names}): holding where it is',
                            fault=True)
        self._command = np.clip(state, self.spec.lower, self.spec.upper)
        self._handovers.clear()

    # -- who drives -------------------------------------------------------------------------
    def _fresh(self, source: Source, proposal: Proposal, now: float) -> Float32:
        """The proposal where it counts, NaN elsewhere (too old, from the future, not finite)."""
        timeout = (self.config.policy_timeout if source is Source.POLICY
                   else self.config.human_timeout)
        position = proposal.position
        in_time = -_FUTURE <= now - proposal.stamp <= timeout
        if in_time and np.isfinite(position).all():
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
        for source in _HUMANS:
            if self._speaks(source, arm, fresh):
                return source
        return Source.HOLD

    def _speaks(self, source: Source, arm: str, fresh: Mapping[Source, Float32]) -> bool:
        return source in fresh and bool(np.isfinite(fresh[source][self._slices[arm].start]))

    def _driver(self, arm: str, fresh: Mapping[Source, Float32]) -> Source:
        if self.mode in (M.HOLD, M.STOPPED):
            return Source.HOLD
        if arm in self._engaged:
            return self._human(arm, fresh)
        if self.mode is M.TELEOP:
            return Source.HOLD
        return Source.POLICY if self._speaks(Source.POLICY, arm, fresh) else Source.HOLD

    # -- modes ------------------------------------------------------------------------------
    def _request(self, request: Request, fresh: Mapping[Source, Float32]) -> str:
        """Carry out one request; the reason where it is refused."""
        mode = TRANSITIONS.get((self.mode, request.kind))
        if mode is None:
            return f'{request.kind}: not possible in mode {self.mode.name}'
        arms = frozenset(request.arms or self._slices)
        if request.kind == 'engage':
            silent = [a for a in sorted(arms) if self._human(a, fresh) is Source.HOLD]
            if silent:
                return (f'engage: nobody speaks for {" and ".join(silent)}: no teleop or expert '
                        f'proposal newer than {self.config.human_timeout:g} s')
            self._engaged |= arms
        elif request.kind == 'release':
            self._engaged -= arms
            if self._engaged:
                mode = self.mode
        else:
            if request.kind == 'run' and not any(
                    self._speaks(Source.POLICY, a, fresh) for a in self._slices):
                return (f'run: no policy proposal newer than {self.config.policy_timeout:g} s; '
                        'is the policy node active?')
            self._engaged = frozenset()
        self._enter(mode, f'request {request.kind} {" ".join(request.arms)}'.rstrip())
        self._lost_policy = False
        return ''

    def _enter(self, mode: ControlMode, reason: str, *, fault: bool = False) -> None:
        self.mode, self.reason, self._fault = mode, reason, fault

    def _lose_drivers(self, fresh: Mapping[Source, Float32]) -> None:
        """HOLD where an arm that should be driven has nobody who drives it."""
        if self.mode in (M.HOLD, M.STOPPED):
            return
        for arm in self._slices:
            engaged = arm in self._engaged
            if self._driver(arm, fresh) is Source.HOLD and (engaged or self.mode is not M.TELEOP):
                who = 'operator' if engaged else 'policy'
                last = self._drivers[arm]
                whose = f' from {last.name.lower()}' if last in _HUMANS else ''
                self._lost_policy = not self._engaged
                self._engaged = frozenset()
                self._enter(M.HOLD, f'{who} lost: no fresh proposal{whose} for the {arm} arm',
                            fault=True)
                return

    def _lose_robot(self, elapsed: float) -> None:
        """HOLD after a silence of the robot, however fresh what drivers say of its return."""
        if (self._state is None or elapsed <= self.config.state_timeout
                or self.mode in (M.HOLD, M.STOPPED)):
            return
        self._lost_policy = not self._engaged
        self._engaged = frozenset()
        self._enter(M.HOLD, f'robot lost: no joint states for {elapsed:.1f} s', fault=True)

    def _resume_policy(self, fresh: Mapping[Source, Float32]) -> None:
        if (self.config.resume and self._lost_policy and self.mode is M.HOLD
                and all(self._speaks(Source.POLICY, a, fresh) for a in self._slices)):
            self._lost_policy = False
            self._enter(M.AUTONOMOUS, 'policy is back')

    # -- handover ---------------------------------------------------------------------------
    def _blend(self, arm: str, source: Source, target: Float32, now: float) -> Float64:
        """The target plus what remains of the distance to the last driver's command.

        At the change the command does not move at all; the distance then fades along a smooth
        step (zero slope at both ends) within the handover time.
        """
        wanted = target.astype(np.float64)
        if source is not self._drivers[arm]:
            assert self._command is not None
            self._handovers[arm] = _Handover(self._command[self._slices[arm]] - wanted, now)
        handover = self._handovers.get(arm)
        if handover is None:
            return wanted
        s = (now - handover.since) / self.config.handover_time
        if s >= 1.0:
            del self._handovers[arm]
            return wanted
        faded: Float64 = wanted + handover.offset * (1.0 - s * s * (3.0 - 2.0 * s))
        return faded
