"""What a low-dimensional policy sees: one float32 vector per observation, by name.

The state ``(D,)``, then poses of 9 numbers each: a position [m] and the first two columns of
the rotation matrix (Zhou et al. 2019, "On the Continuity of Rotation Representations in Neural
Networks"), which do not jump where a quaternion changes its sign. First every object in
``base``; then, where the robot's kinematics is known, every hand in ``base``, every object and
every later hand as seen from each hand, and every later object as seen from each object. All of
it follows from joints and objects, but a network has to learn that from the demonstrations: with
few of them, what is nearly the same in each one should look nearly the same. Last, for fine
work, the positions of objects as seen from a hand or an object once more, as ``tanh(position /
scale)`` for some scales: what is a millimetre in a range of half a metre becomes visible.

Live observations and dataset columns run through the same function and give the same bits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from il_robot.errors import SpecError
from il_robot.kinematics import ArmKinematics
from il_robot.rotations import matrix_from_quaternion
from il_robot.spec import RobotSpec
from il_robot.types import Float32, Float64, Observation

_POSE = ('x', 'y', 'z', 'r00', 'r10', 'r20', 'r01', 'r11', 'r21')

# Rotations (N, 3, 3) and positions (N, 3) [m] of one frame in `base`
_Frames: TypeAlias = tuple[Float64, Float64]


@dataclass(frozen=True, eq=False)
class Hand:
    """Where the hand of an arm is.

    Attributes:
        where: The arm's entries in a state or action, gripper last.
        kinematics: Of its other joints.
    """

    where: slice
    kinematics: ArmKinematics

    def frames(self, state: Float32) -> _Frames:
        """Rotations ``(N, 3, 3)`` and positions ``(N, 3)`` [m] in ``base``, of ``(N, D)``."""
        return self.kinematics.fk_batch(state[:, self.where][:, :-1])


Hands: TypeAlias = Mapping[str, Hand]
"""The hands that are among the features, by name of their arm, in RobotSpec order."""


@dataclass(frozen=True)
class FeatureLayout:
    """The entries of a feature vector, in order; stored in the checkpoint.

    Attributes:
        joints: Names of the state's entries, in RobotSpec order.
        objects: Names of the objects whose poses follow; empty on a robot without them.
        hands: Names of the arms whose hands' poses, and all relative ones, follow.
        scales: Of the relative positions of objects once more [m].
    """

    joints: tuple[str, ...]
    objects: tuple[str, ...] = ()
    hands: tuple[str, ...] = ()
    scales: tuple[float, ...] = ()

    @cached_property  # as all that follow: asked in every control period
    def poses(self) -> tuple[str, ...]:
        """Names of the poses behind the joints; ``cube@left`` is the cube in the left hand."""
        hands = tuple(f'{name}_hand' for name in self.hands)
        return (
            *self.objects, *hands,
            *(f'{name}@{hand}' for hand, seen in _seen(hands, self.objects) for name in seen))

    @cached_property
    def parts(self) -> tuple[int, ...]:
        """Lengths of what belongs together, in order: the joints; all poses, if any."""
        poses = len(_POSE) * len(self.poses) + len(self._scaled)
        return (len(self.joints), poses) if poses else (len(self.joints),)

    @cached_property
    def dim(self) -> int:
        """Length F of the vector."""
        return sum(self.parts)

    @property
    def names(self) -> tuple[str, ...]:
        """One name per entry, for example ``left_waist`` or ``cube.r00``."""
        poses = (f'{name}.{p}' for name in self.poses for p in _POSE)
        return (*self.joints, *poses, *self._scaled)

    @cached_property
    def near(self) -> tuple[str, ...]:
        """Names of the poses whose position is there once more for every scale."""
        return tuple(p for p in self.poses if p.partition('@')[0] in self.objects and '@' in p)

    @cached_property
    def pairs(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """From where, and what, is seen in the relative poses: places in :attr:`poses`."""
        hands = tuple(f'{name}_hand' for name in self.hands)
        place = {name: i for i, name in enumerate((*self.objects, *hands))}
        found = [(place[base], place[name])
                 for base, seen in _seen(hands, self.objects) for name in seen]
        bases, others = np.array(found, np.intp).reshape(-1, 2).T
        return bases, others

    @cached_property
    def _near_places(self) -> list[int]:
        return [self.poses.index(name) for name in self.near]

    @cached_property
    def _scaled(self) -> tuple[str, ...]:
        return tuple(
            f'{name}.{axis}/{scale:g}' for scale in self.scales for name in self.near
            for axis in 'xyz')


def _seen(
    hands: Sequence[str], objects: Sequence[str]
) -> list[tuple[str, tuple[str, ...]]]:
    """Every frame that others are seen from, and those; nothing without hands."""
    if not hands:
        return []
    seen = [(hand, (*objects, *hands[i + 1:])) for i, hand in enumerate(hands)]
    return seen + [(name, tuple(objects[i + 1:])) for i, name in enumerate(objects)]


def robot_hands(robot: RobotSpec | None) -> dict[str, Hand]:
    """The hands of a robot whose kinematics is known, by arm; {} where it is not."""
    if robot is None or robot.geometry is None:
        return {}
    return {arm.name: Hand(robot.arm_slice(arm.name), ArmKinematics.from_spec(robot, arm))
            for arm in robot.arms}


def relative_mask(joints: Sequence[str], relative: Sequence[str]) -> Float32:
    """``(D,)``: 1 for the joints whose targets are relative to where they are, else 0."""
    return np.array([name in relative for name in joints], np.float32)


def batch_features(
    state: Float32, objects: Mapping[str, Float32], layout: FeatureLayout,
    hands: Hands | None = None,
) -> Float32:
    """Feature vectors ``(N, F)`` of many observations.

    Args:
        state: ``(N, D)`` [rad, m].
        objects: Named poses ``(N, 7)`` xyz [m] and quaternion xyzw; more than the layout
            names is fine.
        layout: The entries wanted.
        hands: See :func:`robot_hands`; needed where the layout has hands.

    Raises:
        SpecError: the state has another length, or an object or an arm is missing.
    """
    if state.ndim != 2 or state.shape[1] != len(layout.joints):
        raise SpecError(
            f'state has shape {state.shape}, expected (N, {len(layout.joints)}) for '
            f'{", ".join(layout.joints)}'
        )
    count, width = len(state), state.shape[1]
    own = len(layout.objects) + len(layout.hands)
    # Few calls on stacked arrays: with one row, as in every control period, calls are what costs.
    rotations = np.empty((len(layout.poses), count, 3, 3))
    positions = np.empty((len(layout.poses), count, 3))
    for i, name in enumerate(layout.objects):
        if name not in objects:
            raise SpecError(_missing(layout.objects, objects))
        pose = objects[name]
        rotations[i], positions[i] = matrix_from_quaternion(pose[:, 3:]), pose[:, :3]
    for i, name in enumerate(layout.hands, len(layout.objects)):
        rotations[i], positions[i] = _hand(name, hands or {}).frames(state)
    if len(layout.poses) > own:
        base, other = layout.pairs
        back = rotations[base].swapaxes(2, 3)
        rotations[own:] = back @ rotations[other]
        ahead = positions[other] - positions[base]
        positions[own:] = (back @ ahead[..., None])[..., 0]

    features = np.empty((count, layout.dim), np.float32)
    features[:, :width] = state
    stop = width + len(_POSE) * len(layout.poses)
    poses = features[:, width:stop].reshape(count, len(layout.poses), len(_POSE))
    poses[:, :, :3] = positions.swapaxes(0, 1)
    poses[:, :, 3:6] = rotations[..., 0].swapaxes(0, 1)
    poses[:, :, 6:] = rotations[..., 1].swapaxes(0, 1)
    for scale in layout.scales:
        for place in layout._near_places:
            features[:, stop:stop + 3] = np.tanh(positions[place] / scale)
            stop += 3
    return features


def observation_features(
    observation: Observation, layout: FeatureLayout, hands: Hands | None = None
) -> Float32:
    """The feature vector ``(F,)`` of one observation, bit-equal to :func:`batch_features`."""
    objects = {name: pose[None] for name, pose in observation.objects.items()}
    return batch_features(observation.state[None], objects, layout, hands)[0]


def _hand(name: str, hands: Hands) -> Hand:
    if name not in hands:
        raise SpecError(
            f'the policy needs the pose of the hand of arm {name!r}, but the kinematics of this '
            f'robot is not known (its file has no `geometry`); train with observation.hands=false')
    return hands[name]


def _missing(wanted: Sequence[str], given: Mapping[str, Float32]) -> str:
    absent = [name for name in wanted if name not in given]
    return (
        f'the policy needs the pose of {", ".join(absent)}, which this observation lacks; '
        f'given: {", ".join(given) or "none"}'
    )
