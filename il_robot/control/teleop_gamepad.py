"""A gamepad: numbered axes and buttons into named controls, motions and actions.

The numbers are those of sensor_msgs/Joy as joy_node gives them: left and up positive, a trigger
at 1 released and -1 pressed. :class:`JoystickState` gives the same from a joystick device file.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from il_robot.control.teleop_config import GamepadConfig, PadLayout
from il_robot.control.teleop_keyboard import combine
from il_robot.control.teleop_vocabulary import parts
from il_robot.errors import ConfigError

_EVENT = struct.Struct('=IhBB')
_AXIS, _BUTTON, _INITIAL = 0x02, 0x01, 0x80
_HALF = 0.5
# A contact that closes again so soon bounced [s].
_BOUNCE = 0.1


class JoystickState:
    """Axes and buttons of a Linux joystick from the ``js_event`` records of its device file.

    A record is: time [ms] uint32, value int16, type uint8, number uint8 (linux/joystick.h).
    """

    def __init__(self) -> None:
        self.axes: list[float] = []
        self.buttons: list[int] = []
        self._rest = b''

    def feed(self, data: bytes) -> None:
        """Take in what was read, whole records or not."""
        data = self._rest + data
        whole = len(data) - len(data) % _EVENT.size
        self._rest = data[whole:]
        for _, value, kind, number in _EVENT.iter_unpack(data[:whole]):
            kind &= ~_INITIAL
            if kind == _AXIS:
                self.axes += [0.0] * (number + 1 - len(self.axes))
                # the kernel counts right and down as positive, ROS left and up
                self.axes[number] = max(-1.0, min(1.0, -value / 32767.0))
            elif kind == _BUTTON:
                self.buttons += [0] * (number + 1 - len(self.buttons))
                self.buttons[number] = int(value != 0)


class Pad:
    """Joy messages into motions and actions.

    Args:
        config: The map.
        layout: Where the controls stand in a message.

    Raises:
        ConfigError: the map uses a control that the pad does not have.
    """

    def __init__(self, config: GamepadConfig, layout: PadLayout) -> None:
        self.config, self.layout = config, layout
        have = {*layout.axes, *layout.triggers, *layout.buttons, *layout.hats}
        for control in (*config.motion, *config.joints, *config.actions, config.deadman):
            missing = [p for p in parts(control) if p and p not in have]
            if missing:
                raise ConfigError(
                    f'pad layout {config.layout} has no {", ".join(missing)}, which the map '
                    f'uses; it has {", ".join(sorted(have))}')
        self._values: dict[str, float] = {}
        self._held: frozenset[str] = frozenset()
        self._moved: set[str] = set()
        self._pressed: dict[str, float] = {}
        self._heard = -1e9

    def read(self, axes: Sequence[float], buttons: Sequence[int], now: float) -> list[str]:
        """Take in a message; the actions of the buttons that went down.

        Buttons that are down in the first message, or the first after a silence, do not act,
        nor does one that bounces: nobody takes over and gives back within a tenth of a second.

        Args:
            axes: Of the message.
            buttons: Of the message.
            now: Monotonic time [s].

        Raises:
            ConfigError: fewer axes or buttons than the layout says; nothing is taken in.
        """
        held, values = self._decode(axes, buttons)
        pressed = held - self._held if self.alive(now) else frozenset()
        self._held, self._values, self._heard = held, values, now
        pressed = frozenset(
            name for name in pressed if now - self._pressed.get(name, -1e9) >= _BOUNCE)
        self._pressed |= dict.fromkeys(pressed, now)
        return [action for control, action in self.config.actions.items()
                if (names := parts(control))[-1] in pressed and self._is_on(names)]

    def _is_on(self, names: list[str]) -> bool:
        """Whether all of a chord is held, and no longer chord that has an action claims it."""
        if not _held_all(names[:-1], self._held):
            return False
        return not any(
            other[-1] == names[-1] and len(other) > len(names) and _held_all(other, self._held)
            for other in map(parts, self.config.actions))

    def _decode(
        self, axes: Sequence[float], buttons: Sequence[int]
    ) -> tuple[frozenset[str], dict[str, float]]:
        layout = self.layout
        hats = {name: (int(text[:-1]), 1.0 if text[-1] == '+' else -1.0)
                for name, text in layout.hats.items()}
        need = max([*layout.axes.values(), *layout.triggers.values(),
                    *(i for i, _ in hats.values())], default=-1)
        if len(axes) <= need or len(buttons) <= max(layout.buttons.values(), default=-1):
            raise ConfigError(
                f'pad layout {self.config.layout} needs {need + 1} axes and '
                f'{max(layout.buttons.values(), default=-1) + 1} buttons, the message has '
                f'{len(axes)} and {len(buttons)}; choose another with the parameter pad')
        held = {name for name, i in layout.buttons.items() if buttons[i]}
        held |= {name for name, (i, sign) in hats.items() if sign * axes[i] > _HALF}
        values = {name: self._outside_dead_zone(axes[i]) for name, i in layout.axes.items()}
        for name, i in layout.triggers.items():
            # Drivers report 0 for a trigger that has not moved since they started.
            if axes[i] != 0.0:
                self._moved.add(name)
            rest = layout.trigger_released
            pressed = (rest - axes[i]) / (rest + 1.0)
            values[name] = self._outside_dead_zone(pressed) if name in self._moved else 0.0
        return frozenset(held), values

    def _outside_dead_zone(self, value: float) -> float:
        """Zero within the dead zone, and from there on growing to the full value."""
        zone = self.config.dead_zone
        size = min(1.0, max(0.0, (abs(value) - zone) / (1.0 - zone)))
        return size if value > 0 else -size

    def alive(self, now: float) -> bool:
        """Whether the last message is recent."""
        return now - self._heard <= self.config.timeout

    def enabled(self, now: float) -> bool:
        """Whether it may move anything: alive, and the dead-man button is held."""
        return self.alive(now) and (not self.config.deadman or self.config.deadman in self._held)

    def motion(self, now: float, *, joints: bool) -> dict[str, float]:
        """Axis to value in [-1, 1]; empty without the dead-man button.

        Args:
            now: Monotonic time [s].
            joints: Joint mode.
        """
        if not self.enabled(now):
            return {}
        mapping = self.config.joints if joints else self.config.motion
        values: dict[str, float] = {}
        for name, value in self._values.items():
            chords = [c for c in mapping
                      if parts(c)[-1] == name and _held_all(parts(c)[:-1], self._held)]
            control = max(chords, key=lambda c: len(parts(c)), default=name)
            if value:
                values[control] = value
        return combine(values, self.config.motion, self.config.joints, joints=joints)


def _held_all(names: Sequence[str], held: frozenset[str]) -> bool:
    """Whether each of the buttons is held."""
    return all(name in held for name in names)
