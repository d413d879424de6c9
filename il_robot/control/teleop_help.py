"""What keys and buttons do, in words: for the operator's screen and for the documentation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from il_robot.control.teleop_config import GamepadConfig, KeyboardConfig, PadLayout
from il_robot.control.teleop_vocabulary import AXES, GRIPPER, JOINTS, LOCAL, REQUESTS, parts

_WAYS = {'x': 'left / right', 'y': 'up / down'}
_WORDS: Mapping[str, str] = {**REQUESTS, **LOCAL}
_AXIS_WORDS = {
    'x': ' left, right', 'y': ' near, away', 'z': ' down, up', GRIPPER: ' close, open'}


def meaning(action: str) -> str:
    """An action in the operator's words."""
    return _WORDS.get(action) or action.replace('select ', '') + ' arm'


def axis_meaning(axis: str) -> str:
    """Both motions of an axis, ``x- x+ left, right``."""
    return f'{axis}- {axis}+{_AXIS_WORDS.get(axis, "")}'


def grouped(actions: Mapping[str, str]) -> dict[str, list[str]]:
    """Action to its controls, in the order of the map."""
    groups: dict[str, list[str]] = {}
    for control, action in actions.items():
        groups.setdefault(action, []).append(control)
    return groups


def _keys_of(mapping: Mapping[str, str], motion: str) -> list[str]:
    return [key for key, text in mapping.items() if text == motion]


def key_motions(config: KeyboardConfig, *, joints: bool) -> list[tuple[list[str], list[str], str]]:
    """(keys that go down, keys that go up, axis) of each axis a mode has keys for."""
    mapping = config.joints if joints else config.motion
    axes = (*JOINTS, GRIPPER) if joints else (*AXES, GRIPPER)
    rows = []
    for axis in axes:
        source = config.motion if axis == GRIPPER else mapping
        minus, plus = _keys_of(source, f'{axis}-'), _keys_of(source, f'{axis}+')
        if minus or plus:
            rows.append((minus, plus, axis))
    return rows


def keyboard_table(config: KeyboardConfig) -> str:
    """Markdown: what moves in Cartesian mode, what moves joint by joint, what acts."""
    rows = ['| keys | motion |', '|---|---|']
    for joints in (False, True):
        for minus, plus, axis in key_motions(config, joints=joints):
            if not (joints and axis == GRIPPER):
                rows.append(f'| {_code(minus)} / {_code(plus)} | {axis_meaning(axis)} |')
    rows += ['', '| keys | action |', '|---|---|']
    rows += [f'| {_code(keys)} | {meaning(action)} |'
             for action, keys in grouped(config.actions).items()]
    return '\n'.join(rows)


def gamepad_table(config: GamepadConfig, layout: PadLayout) -> str:
    """Markdown: sticks and triggers in both modes, then buttons, by what is printed on them."""
    rows = ['| control | Cartesian | joint by joint |', '|---|---|---|']
    for control in dict.fromkeys((*config.motion, *config.joints)):
        both = [config.motion.get(control, ''), config.joints.get(control, '')]
        if parts(control)[-1] in layout.triggers:
            both[1] = both[0]
            cells = both
        else:
            cells = [f'{text} / {_opposite(text)}' if text else '' for text in both]
        rows.append(f'| {pad_control(control, layout)} | {cells[0]} | {cells[1]} |')
    rows += ['', '| button | action |', '|---|---|']
    if config.deadman:
        rows.append(f'| {pad_control(config.deadman, layout)} | hold it to move (dead man) |')
    rows += [f'| {", ".join(pad_control(c, layout) for c in controls)} | {meaning(action)} |'
             for action, controls in grouped(config.actions).items()]
    return '\n'.join(rows)


def pad_control(control: str, layout: PadLayout) -> str:
    """``l1+left_x`` as ``LB + left stick left / right``."""
    words = []
    for name in parts(control):
        side, _, axis = name.partition('_')
        if axis:
            words.append(f'{side} stick {_WAYS[axis]}')
        else:
            cross = 'cross ' if name in ('up', 'down', 'left', 'right') else ''
            words.append(cross + layout.labels.get(name, name))
    return ' + '.join(words)


def _opposite(motion: str) -> str:
    return motion[:-1] + ('-' if motion.endswith('+') else '+')


def _code(keys: Iterable[str]) -> str:
    return ' '.join(f'`{key}`' for key in keys)
