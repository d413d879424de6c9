"""What a low-dimensional policy sees: one float32 vector per observation, by name.

The state ``(D,)``, then for each object its position [m] and the first two columns of its
rotation matrix (Zhou et al. 2019, "On the Continuity of Rotation Representations in Neural
Networks"): 9 numbers per object, no jump where a quaternion changes its sign. Live
observations and dataset columns run through the same function and give the same bits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from il_robot.errors import SpecError
from il_robot.rotations import rotation_6d
from il_robot.types import Float32, Observation

_POSE = ('x', 'y', 'z', 'r00', 'r10', 'r20', 'r01', 'r11', 'r21')


@dataclass(frozen=True)
class FeatureLayout:
    """The entries of a feature vector, in order; stored in the checkpoint.

    Attributes:
        joints: Names of the state's entries, in RobotSpec order.
        objects: Names of the objects whose poses follow; empty on a robot without them.
    """

    joints: tuple[str, ...]
    objects: tuple[str, ...] = ()

    @property
    def parts(self) -> tuple[int, ...]:
        """Lengths of what belongs together, in order: the joints; all objects, if any."""
        objects = len(_POSE) * len(self.objects)
        return (len(self.joints), objects) if objects else (len(self.joints),)

    @property
    def dim(self) -> int:
        """Length F of the vector."""
        return sum(self.parts)

    @property
    def names(self) -> tuple[str, ...]:
        """One name per entry, for example ``left_waist`` or ``cube.r00``."""
        return (*self.joints, *(f'{o}.{p}' for o in self.objects for p in _POSE))


def batch_features(
    state: Float32, objects: Mapping[str, Float32], layout: FeatureLayout
) -> Float32:
    """Feature vectors ``(N, F)`` of many observations.

    Args:
        state: ``(N, D)`` [rad, m].
        objects: Named poses ``(N, 7)`` xyz [m] and quaternion xyzw; more than the layout
            names is fine.
        layout: The entries wanted.

    Raises:
        SpecError: the state has another length, or an object is missing.
    """
    if state.ndim != 2 or state.shape[1] != len(layout.joints):
        raise SpecError(
            f'state has shape {state.shape}, expected (N, {len(layout.joints)}) for '
            f'{", ".join(layout.joints)}'
        )
    features = np.empty((len(state), layout.dim), np.float32)
    column = len(layout.joints)
    features[:, :column] = state
    for name in layout.objects:
        if name not in objects:
            raise SpecError(_missing(layout.objects, objects))
        features[:, column:column + 3] = objects[name][:, :3]
        features[:, column + 3:column + 9] = rotation_6d(objects[name][:, 3:])
        column += len(_POSE)
    return features


def observation_features(observation: Observation, layout: FeatureLayout) -> Float32:
    """The feature vector ``(F,)`` of one observation, bit-equal to :func:`batch_features`."""
    objects = {name: pose[None] for name, pose in observation.objects.items()}
    return batch_features(observation.state[None], objects, layout)[0]


def _missing(wanted: Sequence[str], given: Mapping[str, Float32]) -> str:
    absent = [name for name in wanted if name not in given]
    return (
        f'the policy needs the pose of {", ".join(absent)}, which this observation lacks; '
        f'given: {", ".join(given) or "none"}'
    )
