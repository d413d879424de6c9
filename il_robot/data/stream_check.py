"""Live checks of one recorded stream on its serialized bytes: cheap enough for every message.

Nothing is decoded: the stamp stands at a fixed place of every message with a header, joint
names are compared as bytes, and an unchanged picture is found by comparing bytes, which ends at
the first difference.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from il_robot.errors import unknown

Kind = Literal['joints', 'image', 'jpeg', 'header', 'other']
_STAMP = struct.Struct('<iI')
_UINT = struct.Struct('<I')
# 4 bytes of encapsulation, then the stamp.
_AFTER_STAMP = 12
_BLACK = 12
_SAMPLES = 400
LATE, LATEST = 0.3, 1.0
# A stream that was silent for so long before the end is not waited for [s].
_SILENT = 1.0


@dataclass(frozen=True)
class CheckLimits:
    """From when on a stream is worth a warning.

    Attributes:
        rate_share: Share of the expected rate below which it is too low.
        gap_periods: Expected periods between two stamps from which it is a gap.
        frozen_frames: Equal pictures in a row from which a camera counts as frozen.
        skew: Difference between receipt and stamp [s].
        silence: Time without a message [s].
    """

    rate_share: float = 0.8
    gap_periods: float = 2.6
    frozen_frames: int = 30
    skew: float = 0.5
    silence: float = 1.0


@dataclass(frozen=True)
class StreamReport:
    """State of a stream over the last window; times in [s], ``rate`` in [Hz]."""

    level: Literal['ok', 'warn', 'stale']
    message: str
    rate: float
    age: float
    largest_gap: float
    messages: int
    lost: int


class StreamCheck:
    """Watches one stream.

    Args:
        name: The topic, for the messages.
        kind: What its messages are.
        rate: Expected rate [Hz]; 0 = not known, then rate and gaps are not judged.
        joints: The robot's joint names in order, for kind ``joints``.
        limits: See :class:`CheckLimits`.
    """

    def __init__(
        self, name: str, kind: Kind, rate: float = 0.0, joints: tuple[str, ...] = (),
        limits: CheckLimits | None = None,
    ) -> None:
        self.name, self.kind, self.rate = name, kind, rate
        self.messages = self.lost = 0
        self.stamp = float('-inf')
        self._limits = limits or CheckLimits()
        self._joints = joints
        self._names = b''
        self._last: bytes = b''
        self._same = 0
        self._received = float('-inf')
        self._restart()

    def _restart(self) -> None:
        """Begin a new window of the report."""
        self._window_stamp = self.stamp
        self._window = self._window_lost = 0
        self._gap = self._skew = 0.0

    def receive(self, data: bytes, now: float, lost: int = 0) -> list[tuple[str, str]]:
        """Take note of a message.

        Args:
            data: CDR bytes.
            now: ROS time of receipt [s].
            lost: Messages that the middleware lost before this one.

        Returns:
            (kind of trouble, text) of what is wrong with it.
        """
        self.messages += 1
        self._window += 1
        self._received = now
        wrong: list[tuple[str, str]] = []
        if lost:
            self.lost += lost
            self._window_lost += lost
            wrong.append(('lost', f'{lost} message(s) were lost before they came here; '
                          'is this machine too busy?'))
        if self.kind == 'other':
            return wrong
        stamp = stamp_of(data)
        if self.stamp == float('-inf'):
            self._window_stamp = stamp
        else:
            wrong += self._check_gap(stamp - self.stamp)
        self.stamp = stamp
        skew = now - stamp
        if abs(skew) > abs(self._skew):
            self._skew = skew
        if abs(skew) > self._limits.skew:
            wrong.append(('skew', f'its stamps are {skew:+.2f} s from the time of receipt; are '
                          'the clocks of both machines synchronised?'))
        if self.kind == 'joints':
            wrong += self._check_names(data)
        elif self.kind in ('image', 'jpeg'):
            wrong += self._check_frozen(data)
        return wrong

    def report(self, now: float) -> tuple[StreamReport, list[tuple[str, str]]]:
        """The window since the last report, and what is wrong with it.

        Args:
            now: ROS time [s].
        """
        limits = self._limits
        span = self.stamp - self._window_stamp
        rate = self._window / span if span > 0 else 0.0
        age = now - self._received
        wrong: list[tuple[str, str]] = []
        stale = self.messages == 0 or age > limits.silence
        if self.rate and stale and self.messages:
            wrong.append(('silence', f'no message for {age:.1f} s'))
        elif self.rate and self._window > 3 and 0 < rate < limits.rate_share * self.rate:
            wrong.append(('rate', f'{rate:.1f} Hz instead of {self.rate:g} Hz'))
        if not stale and self.kind in ('image', 'jpeg') and is_black(self._last, self.kind):
            wrong.append(('black', 'the picture is black; is a cap on the lens?'))
        bad = wrong or self._window_lost or self._same >= limits.frozen_frames
        level: Literal['ok', 'warn', 'stale'] = 'warn' if bad else 'stale' if stale else 'ok'
        text = '; '.join(text for _, text in wrong)
        result = StreamReport(
            level, text, rate, age if self.messages else -1.0, self._gap, self.messages,
            self.lost)
        self._restart()
        return result, wrong

    def _check_gap(self, gap: float) -> list[tuple[str, str]]:
        if gap < 0:
            return [('backwards', f'the stamp went back by {-gap:.3f} s')]
        self._gap = max(self._gap, gap)
        if self.rate and gap * self.rate > self._limits.gap_periods:
            return [('gap', f'a gap of {gap:.3f} s (expected {1 / self.rate:.3f} s)')]
        return []

    def _check_names(self, data: bytes) -> list[tuple[str, str]]:
        if self._names and data.startswith(self._names, _AFTER_STAMP):
            return []
        names, end = joint_names(data)
        changed = bool(self._names)
        self._names = data[_AFTER_STAMP:end]
        wrong = []
        strange = [n for n in names if n not in self._joints]
        missing = [n for n in self._joints if n not in names]
        if strange:
            wrong.append(('names', unknown('joint', strange[0], self._joints)))
        elif missing:
            wrong.append(('names', f'joint(s) missing: {", ".join(missing)}'))
        if changed:
            wrong.append(('order', f'joint names or their order changed to {", ".join(names)}'))
        return wrong

    def _check_frozen(self, data: bytes) -> list[tuple[str, str]]:
        same = len(data) == len(self._last) and data.endswith(
            memoryview(self._last)[_AFTER_STAMP:])
        self._last = data
        self._same = self._same + 1 if same else 0
        if self._same and self._same % self._limits.frozen_frames == 0:
            return [('frozen', f'{self._same + 1} equal pictures in a row: is the camera frozen, '
                     'or does nothing move?')]
        return []


def have_come(checks: Iterable[StreamCheck], end: float, dt: float, waited: float) -> bool:
    """Whether all messages of an episode have come, as far as one can tell.

    Messages of its last rows may still be under way when the request to end it is carried out.

    Args:
        checks: The streams.
        end: Stamp of the state reached [s].
        dt: Control period [s], of streams whose rate is not known.
        waited: Wall time since the end [s]. After LATE only streams with a rate are waited
            for, after LATEST nothing is.
    """
    needed = useful = True
    for check in checks:
        if check.kind == 'other' or not check.messages or check.stamp < end - _SILENT:
            continue
        if check.stamp < end - 1.01 * (1.0 / check.rate if check.rate else dt):
            useful = False
            needed = needed and not check.rate
    return useful or (needed and waited > LATE) or waited > LATEST


def stamp_of(data: bytes) -> float:
    """Header stamp [s] of a serialized message that begins with a header or a time."""
    seconds, nanoseconds = _STAMP.unpack_from(data, 4)
    return float(seconds) + 1e-9 * float(nanoseconds)


def joint_names(data: bytes) -> tuple[list[str], int]:
    """Names of a serialized JointState, and where they end."""
    def text(at: int) -> tuple[str, int]:
        at = -(-at // 4) * 4
        (length,) = _UINT.unpack_from(data, at)
        return data[at + 4:at + 3 + length].decode(errors='replace'), at + 4 + length

    _, position = text(_AFTER_STAMP)
    position = -(-position // 4) * 4
    (count,) = _UINT.unpack_from(data, position)
    position += 4
    names = []
    for _ in range(count):
        name, position = text(position)
        names.append(name)
    return names, position


def is_black(data: bytes, kind: Kind) -> bool:
    """Whether a serialized picture is black, judged by a few hundred of its bytes."""
    if kind == 'image':
        pixels = data[256:]
        return max(pixels[::max(1, len(pixels) // _SAMPLES) | 1], default=255) <= _BLACK
    from il_robot.data.pictures import decode_picture
    from il_robot.errors import DatasetError

    try:
        picture = decode_picture(data[max(0, data.find(b'\xff\xd8')):])
    except DatasetError:
        return False
    return int(picture[::16, ::16].max()) <= _BLACK
