"""How far the arms can go on towards a command before anything comes too close.

Looked at is not the command itself but all that the joints may pass until they rest, if they brake
from there (:mod:`il_robot.control.clearance`).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from il_robot.control.clearance import Clearances
from il_robot.control.safety_limits import JointLimits
from il_robot.types import Float32, Float64

# Parts of the way from braking to the wanted command that are tried where arms come close.
_PARTS = (0.5, 0.2, 0.05, 0.0)
# Of distances [m].
_ROUNDING = 1e-9


class Distances:
    """Stateless.

    Args:
        clearances: Of the robot's shapes.
        limits: Of its joints.
        gripper: ``(D,)`` which of them are grippers.
    """

    def __init__(
        self, clearances: Clearances, limits: JointLimits, gripper: NDArray[np.bool_]
    ) -> None:
        self._clearances, self._limits, self._gripper = clearances, limits, gripper
        self.free = clearances.free

    def nearest(self, wanted: Float64, state: Float64, h: float, measured: Float32 | None, *,
                reject: bool) -> tuple[Float64, str]:
        """As far towards an acceleration as distances allow.

        Args:
            wanted: ``(D,)`` the next acceleration [rad/s^2, m/s^2].
            state: ``(3, D)`` position, velocity and acceleration of the last command.
            h: Time since then [s].
            measured: ``(D,)`` positions; of use where fingers are far from their target.
            reject: Brake instead of going part of the way.

        Returns:
            The acceleration ``(D,)`` that comes next, and what would be too close otherwise;
            empty where nothing is.
        """
        clearances = self._clearances
        rooms, _ = self._rooms(wanted, state, h, measured)
        if rooms.min() >= 0.0:
            return wanted, ''
        safe = self._limits.brakes(state[1], state[2], h)
        # What is too close already must not come closer; everything else keeps its distance.
        least = np.minimum(self._rooms(safe, state, h, measured)[0], 0.0) - _ROUNDING
        here = clearances.exact(state[0]) - _ROUNDING

        def worse(candidate: Float64) -> NDArray[np.bool_]:
            rooms, x = self._rooms(candidate, state, h, measured)
            out = rooms < least
            if out.any() and (here[out] < 0.0).any():
                out &= (here >= 0.0) | (clearances.exact(x) < here)
            return out

        bad = worse(wanted)
        if not bad.any():
            return wanted, ''
        what = clearances.names[int(np.where(bad, rooms, np.inf).argmin())]
        close = f'distance {what}' if ' - ' in what else what
        if not reject:
            for candidate in self._candidates(wanted, safe, bad):
                if not worse(candidate).any():
                    return candidate, close
        return safe, close

    def _candidates(
        self, wanted: Float64, safe: Float64, bad: NDArray[np.bool_]
    ) -> Iterator[Float64]:
        """What may be possible where ``wanted`` is not, the nearest to it first.

        The arms of the rows that are ``bad`` go part of their way; then one arm alone; then the
        grippers alone, so that a part can be let go of.
        """
        involved = self._clearances.moves[bad].any(axis=0)
        for part in _PARTS:
            yield np.where(involved, safe + part * (wanted - safe), wanted)
        for part in _PARTS[:-1]:
            for arm in self._clearances.arms:
                yield np.where(arm, safe + part * (wanted - safe), safe)
        yield np.where(self._gripper, wanted, safe)

    def _rooms(self, a: Float64, state: Float64, h: float, measured: Float32 | None
               ) -> tuple[Float64, Float64]:
        """Room of each row in all that the joints may pass until they rest, if ``a`` comes next.

        And the positions ``(D,)`` that come next.
        """
        v = state[1] + a * h
        x = state[0] + v * h
        up, down = self._limits.ways(v, a)
        low, high = x - down, x + up
        if measured is not None:  # fingers are between here and there
            low = np.where(self._gripper, np.minimum(x, measured), low)
            high = np.where(self._gripper, np.maximum(x, measured), high)
        return self._clearances.rooms(low, high), x
