"""The words of the teleop maps: motions, actions, keys of a terminal, controls of a pad."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from il_robot.errors import unknown

AXES = ('x', 'y', 'z', 'roll', 'pitch', 'yaw')
"""Axes of a twist in order: linear [m/s], then angular [rad/s]."""
JOINTS = tuple(f'j{i}' for i in range(1, 10))
GRIPPER = 'gripper'

REQUESTS: Mapping[str, str] = {
    'engage': 'take over',
    'release': 'give back',
    'run': 'let the policy drive',
    'freeze': 'freeze the run',
    'hold': 'hold position, end the run',
    'discard_correction': 'discard last correction',
    'stop': 'STOP everything',
    'reset': 'clear a stop',
    'start': 'start an episode',
    'success': 'end it: success',
    'failure': 'end it: failure',
    'discard': 'end it: throw away',
}
"""Actions that become requests to the arbiter and the recorder, in the operator's words."""
LOCAL: Mapping[str, str] = {
    'takeover': 'take over, give back',
    'select next': 'next arm',
    'select both': 'both arms',
    'mirror': 'both arms, mirrored',
    'faster': 'faster',
    'slower': 'slower',
    'mode': 'Cartesian or joints',
    'frame': 'along base or gripper',
    'gripper': 'open or close fully',
    'quit': 'quit',
}
"""Actions within the teleop; ``select <arm>`` is there for each arm of the robot."""

STEERED = frozenset({'keyboard', 'gamepad'})
"""Devices that move the selected arms by rates."""
_ONLY_FOR: Mapping[str, frozenset[str]] = {
    'mirror': STEERED,
    'mode': STEERED,
    'frame': STEERED | {'twist'},
    'gripper': STEERED | {'twist'},
    'faster': STEERED | {'pose', 'twist'},
    'slower': STEERED | {'pose', 'twist'},
}
KEYS = frozenset({
    'space', 'esc', 'tab', 'enter', 'backspace', 'up', 'down', 'left', 'right', 'page_up',
    'page_down', 'home', 'end', 'insert', 'delete', *map(chr, range(33, 127)),
})
"""Every key a terminal can tell apart; capitals are typed with Shift."""
STICKS = ('left_x', 'left_y', 'right_x', 'right_y')
TRIGGERS = ('l2', 'r2')
BUTTONS = (
    'south', 'east', 'west', 'north', 'l1', 'r1', 'select', 'start', 'guide', 'l3', 'r3',
    'up', 'down', 'left', 'right',
)
"""Controls of a pad by position, so that one map fits every make; layouts give the numbers."""


def parse_motion(text: str) -> tuple[str, float]:
    """``'x-'`` as ``('x', -1.0)``.

    Raises:
        ValueError: not a motion; the valid axes are named.
    """
    axis, sign = text[:-1], text[-1:]
    if axis not in (*AXES, GRIPPER, *JOINTS) or sign not in ('+', '-'):
        raise ValueError(
            f'{text!r} is no motion: write an axis ({", ".join(AXES)}, {GRIPPER}, '
            f'{JOINTS[0]} ... {JOINTS[-1]}) and + or -')
    return axis, 1.0 if sign == '+' else -1.0


def parts(control: str) -> list[str]:
    """The controls of a chord such as ``l1+left_x``; a single character is itself, + too."""
    return [control] if len(control) == 1 else control.split('+')


def applies(action: str, device: str) -> bool:
    """Whether an action means anything to the device that moves the arms."""
    return device in _ONLY_FOR.get(action, {device})


def check_maps(
    motion: Mapping[str, str], joints: Mapping[str, str], actions: Mapping[str, str],
    moving: Collection[str], acting: Collection[str], held: Collection[str] = (),
) -> None:
    """Every control and motion exists, and no control means two things at once.

    Args:
        motion: Control to motion in Cartesian mode.
        joints: The same in joint mode.
        actions: Control to action.
        moving: Controls that may move.
        acting: Controls that may act.
        held: Controls that may be held in a chord.

    Raises:
        ValueError: a control or motion that does not exist or does not belong there.
    """
    for mapping, valid in ((motion, moving), (joints, moving), (actions, acting)):
        for control in mapping:
            if not isinstance(control, str):
                raise ValueError(f'write {control!r} in quotes; YAML reads it as something else')
            *modifiers, last = parts(control)
            for name, names in ((last, valid), *((m, held) for m in modifiers)):
                if name not in names:
                    raise ValueError(unknown('control', name, names))
    for name, mapping, allowed in (
        ('motion', motion, (*AXES, GRIPPER)), ('joints', joints, JOINTS),
    ):
        for control, text in mapping.items():
            if parse_motion(text)[0] not in allowed:
                raise ValueError(f'{name}: {control}: {text} does not belong here; '
                                 f'valid: {", ".join(allowed)}')
    twice = sorted(actions.keys() & (motion.keys() | joints.keys()))
    if twice:
        raise ValueError(f'both a motion and an action: {", ".join(twice)}')
