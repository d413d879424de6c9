"""Keys of a terminal: bytes into key names, and a hold out of auto-repeat.

A terminal tells when a key goes down, never when it comes up. While a key is held it repeats,
after a first delay of about half a second. So one press moves for a short while (a step), the
repetitions move on without a gap, and the motion ends a moment after the last of them.
"""

from __future__ import annotations

from collections.abc import Mapping

from il_robot.control.teleop_config import KeyboardConfig
from il_robot.control.teleop_vocabulary import GRIPPER, parse_motion

ESCAPE_TIME = 0.05
"""An escape byte that nothing follows for this long is the key Esc [s]."""
PASTE_ON, PASTE_OFF = b'\x1b[?2004h', b'\x1b[?2004l'
"""Asks the terminal to mark pasted text, which must never move a robot."""
# A key whose events come closer than this is repeating by itself [s].
_STREAM = 0.3
# Text that is still being pasted after this long lost its end mark [s].
_PASTE_TIME = 1.0
# Harmless, or urgent, when they come again: every event counts.
_REPEATED = ('faster', 'slower', 'stop', 'hold', 'freeze')

_SINGLE = {9: 'tab', 10: 'enter', 13: 'enter', 8: 'backspace', 127: 'backspace', 32: 'space'}
_FINAL = {
    'A': 'up', 'B': 'down', 'C': 'right', 'D': 'left', 'H': 'home', 'F': 'end',
    '1~': 'home', '2~': 'insert', '3~': 'delete', '4~': 'end', '5~': 'page_up', '6~': 'page_down',
}


class KeyParser:
    """Splits a terminal's bytes into key names; sequences it does not know are no keys."""

    def __init__(self) -> None:
        self._rest = b''
        self._since = 0.0
        self._paste_until = -1e9

    def feed(self, data: bytes, now: float) -> list[str]:
        """The keys in ``data``, with what was left of the last call.

        Args:
            data: As read; empty to let a lone escape become the key Esc.
            now: Monotonic time [s].
        """
        if data:
            self._rest, self._since = self._rest + data, now
        keys = []
        while self._rest:
            key, length = self._first(self._rest, alone=now - self._since >= ESCAPE_TIME)
            if not length:
                break
            self._rest = self._rest[length:]
            if key in ('paste', 'pasted'):
                self._paste_until = now + _PASTE_TIME if key == 'paste' else now
            elif key and now >= self._paste_until:
                keys.append(key)
        return keys

    @staticmethod
    def _first(data: bytes, *, alone: bool) -> tuple[str, int]:
        """The first key and its length; length 0 where more bytes must come first."""
        if data[0] != 0x1B:
            name = _SINGLE.get(data[0]) or (chr(data[0]) if 32 < data[0] < 127 else '')
            return name, 1
        if len(data) == 1:
            return ('esc', 1) if alone else ('', 0)
        if data[1:2] not in (b'[', b'O'):
            return 'esc', 1
        for end in range(2, len(data)):
            if 0x40 <= data[end] <= 0x7E:
                text = data[2:end + 1].decode('ascii', 'replace')
                name = {'200~': 'paste', '201~': 'pasted'}.get(text) or _FINAL.get(text, '')
                return name, end + 1
        return ('esc', 1) if alone else ('', 0)


class Keyboard:
    """Keys into motions and actions; see the module.

    Args:
        config: The map.
    """

    def __init__(self, config: KeyboardConfig) -> None:
        self.config = config
        self.unknown = ''
        self._parser = KeyParser()
        self._last: dict[str, float] = {}
        self._acted: dict[str, float] = {}
        self._until: dict[str, float] = {}

    def feed(self, data: bytes, now: float) -> list[str]:
        """The actions of the keys in ``data``; keys that move are held until later.

        A held key acts once, except where repeating does no harm.
        """
        actions = []
        for key in self._parser.feed(data, now):
            gap = now - self._last.get(key, -1e9)
            self._last[key] = now
            action = self.config.actions.get(key)
            if action is not None:
                if self._acts(key, action, gap, now):
                    actions.append(action)
            elif key in self.config.motion or key in self.config.joints:
                again = gap < self.config.repeat_delay
                self._until[key] = now + (self.config.hold if again else self.config.tap)
            else:
                self.unknown = key
        return actions

    def _acts(self, key: str, action: str, gap: float, now: float) -> bool:
        """Whether an event is a new press: not in a stream of repetitions, nor its first one."""
        if action in _REPEATED or action.startswith('select ') and action != 'select next':
            return True
        if gap < _STREAM or now - self._acted.get(key, -1e9) < self.config.repeat_delay:
            return False
        self._acted[key] = now
        return True

    def motion(self, now: float, *, joints: bool) -> dict[str, float]:
        """Axis to value in [-1, 1] of the keys that are held.

        Args:
            now: Monotonic time [s].
            joints: Joint mode.
        """
        held = [key for key, until in self._until.items() if now < until]
        return combine(
            dict.fromkeys(held, 1.0), self.config.motion, self.config.joints, joints=joints)

    def release(self) -> None:
        """Forget what is held."""
        self._until.clear()


def combine(
    values: Mapping[str, float], motion: Mapping[str, str], by_joint: Mapping[str, str], *,
    joints: bool,
) -> dict[str, float]:
    """Axis to value in [-1, 1] from controls and their values in [-1, 1].

    In joint mode ``by_joint`` counts, and of ``motion`` what moves the gripper.
    """
    out: dict[str, float] = {}
    for control, value in values.items():
        text = (by_joint.get(control) if joints else None) or motion.get(control)
        if text is None:
            continue
        axis, sign = parse_motion(text)
        if not joints or axis == GRIPPER or control in by_joint:
            out[axis] = min(1.0, max(-1.0, out.get(axis, 0.0) + sign * value))
    return out
