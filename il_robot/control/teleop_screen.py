"""The operator's screen as lines of text: who drives each arm and why, recording, keys."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from il_robot.control.teleop import Teleop
from il_robot.control.teleop_help import axis_meaning, grouped, key_motions, meaning

Style = Literal['', 'bold', 'dim', 'alarm']
_GAP = 2


@dataclass(frozen=True)
class Line:
    """One line of the screen; no longer than the screen is wide."""

    text: str
    style: Style = ''


@dataclass(frozen=True)
class ScreenView:
    """What the screen shows beside the teleop itself.

    Attributes:
        mode, reason: Of the arbiter; empty where none is heard.
        drivers: Arm to who drives it.
        recorder: ``idle``, ``recording``, ``saving``; empty where none is heard.
        episode: Its number.
        widths: Arm to the measured opening of its gripper [m].
        trouble: What is wrong with the graph, most urgent first.
        absent: Arms whose device is silent.
    """

    mode: str = ''
    reason: str = ''
    drivers: Mapping[str, str] = field(default_factory=dict)
    recorder: str = ''
    episode: str = ''
    widths: Mapping[str, float] = field(default_factory=dict)
    trouble: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()


def screen(teleop: Teleop, view: ScreenView, columns: int, rows: int) -> list[Line]:
    """The screen, at most ``columns`` by ``rows``; what matters most comes first."""
    lines = [_title(teleop, view, columns), _mode_line(view), *_arm_lines(teleop, view),
             _motion_line(teleop)]
    lines += [Line(f'! {text}', 'alarm') for text in view.trouble]
    if teleop.notice:
        lines.append(Line(f'> {teleop.notice}', 'bold'))
    lines.append(Line('-' * columns, 'dim'))
    lines += _help(teleop, columns)
    return [Line(line.text[:columns], line.style) for line in lines[:rows]]


def _title(teleop: Teleop, view: ScreenView, columns: int) -> Line:
    left = f'il_robot teleop: {teleop.config.device}, {teleop.spec.name}'
    episode = f' episode {view.episode}' if view.episode else ''
    right = f'{view.recorder.upper()}{episode}' if view.recorder else 'no recorder'
    text = f'{left}{right:>{max(len(right) + _GAP, columns - len(left))}}'
    return Line(text, 'alarm' if view.recorder == 'recording' else 'bold')


def _mode_line(view: ScreenView) -> Line:
    if not view.mode:
        return Line('no arbiter: nobody carries proposals out', 'alarm')
    return Line(f'{view.mode}: {view.reason}', 'alarm' if view.mode == 'STOPPED' else 'bold')


def _arm_lines(teleop: Teleop, view: ScreenView) -> list[Line]:
    lines = []
    for name in teleop.arms:
        driver = view.drivers.get(name, '?')
        width = f'{1e3 * view.widths[name]:4.0f} mm' if name in view.widths else '   ? mm'
        mark = '*' if name in teleop.selected else ' '
        note = 'device silent' if name in view.absent else teleop.waiting(name)
        text = f'{mark} {name:<8} driven by {driver:<8} gripper {width}  {note}'.rstrip()
        lines.append(Line(text, 'bold' if driver == 'teleop' else ''))
    return lines


def _motion_line(teleop: Teleop) -> Line:
    config, speed = teleop.config, teleop.config.speed
    if config.device == 'leader':
        return Line('leader arms')
    share = f'speed {100 * teleop.fraction:.0f} %'
    if config.device == 'pose':
        return Line(f'hands, {share} of their way')
    arms = ' and '.join(teleop.selected) + (' mirrored' if teleop.mirror else '')
    if teleop.joint_mode:
        how = f'joint by joint, {share}: {teleop.fraction * speed.joint:.2f} rad/s'
    else:
        along = 'gripper' if teleop.frame == 'eef' else 'base'
        how = (f'along {along}, {share}: {1e3 * teleop.fraction * speed.linear:.0f} mm/s '
               f'{teleop.fraction * speed.angular:.2f} rad/s')
    return Line(f'moving {arms}, {how}')


def _help(teleop: Teleop, columns: int) -> list[Line]:
    """Keys in as many columns as fit."""
    keyboard = teleop.config.keyboard
    if keyboard is None:
        return []
    entries = [
        (f'{minus[0] if minus else " "} {plus[0] if plus else " "}', axis_meaning(axis))
        for minus, plus, axis in key_motions(keyboard, joints=teleop.joint_mode)]
    entries += [(' '.join(keys), meaning(action))
                for action, keys in grouped(keyboard.actions).items()]
    texts = [f'{keys:<6} {text}' for keys, text in entries]
    width = max(map(len, texts)) + _GAP
    across = max(1, columns // width)
    down = math.ceil(len(texts) / across)
    return [Line(''.join(f'{t:<{width}}' for t in texts[row::down]).rstrip())
            for row in range(down)]
