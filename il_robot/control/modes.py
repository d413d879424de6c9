"""Which request leads from which mode to which: the arbiter's transitions as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from il_robot.errors import ConfigError, unknown
from il_robot.spec import RobotSpec
from il_robot.types import ControlMode

M = ControlMode
TRANSITIONS: Mapping[tuple[ControlMode, str], ControlMode] = {
    (M.HOLD, 'engage'): M.TELEOP,
    (M.HOLD, 'run'): M.AUTONOMOUS,
    (M.HOLD, 'freeze'): M.HOLD,
    (M.TELEOP, 'engage'): M.TELEOP,
    (M.TELEOP, 'release'): M.HOLD,
    (M.TELEOP, 'run'): M.AUTONOMOUS,
    (M.TELEOP, 'freeze'): M.HOLD,
    (M.AUTONOMOUS, 'engage'): M.CORRECTION,
    (M.AUTONOMOUS, 'run'): M.AUTONOMOUS,
    (M.AUTONOMOUS, 'freeze'): M.HOLD,
    (M.AUTONOMOUS, 'help'): M.HOLD,
    (M.CORRECTION, 'engage'): M.CORRECTION,
    (M.CORRECTION, 'release'): M.AUTONOMOUS,
    (M.CORRECTION, 'run'): M.AUTONOMOUS,
    (M.CORRECTION, 'freeze'): M.HOLD,
    (M.STOPPED, 'reset'): M.HOLD,
    **{(mode, 'hold'): M.HOLD for mode in M if mode is not M.STOPPED},
    **{(mode, 'stop'): M.STOPPED for mode in M},
}
"""(mode, request) to the next mode; what is not here is refused. ``release`` of one arm while
another stays engaged keeps the mode."""
SUSPENDED: Mapping[tuple[ControlMode, str], ControlMode] = {(M.HOLD, 'engage'): M.CORRECTION}
"""The same, first, while a policy's run is only suspended: somebody froze it, it asked for help,
or a driver was lost. Who then takes over corrects the policy. ``hold`` and ``stop`` end a run."""
RUNNING = (M.AUTONOMOUS, M.CORRECTION)
"""Modes of a policy's run."""
STANDING = (M.HOLD, M.STOPPED)
"""Modes in which nobody drives."""

DISCARD_CORRECTION = 'discard_correction'
"""Request that changes no mode: the last correction of this episode teaches nothing."""
REQUESTS = (*dict.fromkeys(request for _, request in TRANSITIONS), DISCARD_CORRECTION)
_PER_ARM = ('engage', 'release')
_WITH_REASON = ('help',)


@dataclass(frozen=True)
class Request:
    """One request; ``arms`` empty means all; ``reason`` in words, where it has one."""

    kind: str
    arms: tuple[str, ...] = ()
    reason: str = ''

    @classmethod
    def parse(cls, text: str, spec: RobotSpec) -> Request:
        """Read ``engage left``, ``help risk 0.8 over 0.5`` and the like.

        Raises:
            ConfigError: an unknown request or arm; the valid ones are named.
        """
        kind, _, rest = text.strip().partition(' ')
        if kind not in REQUESTS:
            raise ConfigError(unknown('request', kind, REQUESTS))
        if kind in _WITH_REASON:
            return cls(kind, reason=rest.strip())
        arms = rest.split()
        known = [arm.name for arm in spec.arms]
        for arm in arms:
            if arm not in known:
                raise ConfigError(unknown('arm', arm, known, f'request {text!r}'))
        if arms and kind not in _PER_ARM:
            raise ConfigError(f'request {kind!r} is for all arms; leave {arms} out')
        return cls(kind, tuple(arms))
