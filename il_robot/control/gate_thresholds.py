"""Thresholds of gates that were learned with a policy, or that spend a budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import numpy as np

from il_robot.control.gates import GATES
from il_robot.errors import ConfigError
from il_robot.types import Float64


def with_thresholds(
    name: str, options: Mapping[str, Any], thresholds: Mapping[str, float]
) -> dict[str, Any]:
    """A gate's options, where it has them with the thresholds learned for a policy.

    Args:
        name: Key of :data:`GATES`.
        options: The gate's.
        thresholds: By signal (:class:`il_robot.policies.assessor.AssessorConfig`). Those that
            the gate by default has none for do not count.
    """
    # an infinite limit is one that the gate is not to look at: the discrepancy, say, which takes
    # an expert who labels all the time
    limits = fields(GATES[name]) if name in GATES else ()
    known = {f.name for f in limits if f.default != np.inf}
    return {**options, **{k: v for k, v in thresholds.items() if k in known}}


def budgeted(values: Sequence[float] | Float64, budget: float, least: float = 1e-6) -> float:
    """The threshold that at most a share ``budget`` of the values lies above.

    ThriftyDAgger, section 4.4: the quantile 1 - alpha of what was seen while the policy drove.

    Args:
        values: Of one signal; those not finite do not count.
        budget: From 0 to 1.
        least: A threshold below this is this.

    Raises:
        ConfigError: no finite value, or a bad budget.
    """
    if not 0 <= budget <= 1:
        raise ConfigError(f'the budget of a gate must be from 0 to 1, got {budget}')
    seen = np.asarray(values, np.float64)
    seen = seen[np.isfinite(seen)]
    if not seen.size:
        raise ConfigError('no values to find a threshold from: run the policy for an episode')
    return max(least, float(np.quantile(seen, 1.0 - budget, method='higher')))
