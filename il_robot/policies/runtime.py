"""Batch-1 prediction by the fastest runtime that gives torch's own answer.

Every runtime gets the noise that torch's generator draws (``Policy.draw``), so that a seed gives
the same episode whatever computes it, up to the rounding of the last digit. That digit is why
nothing is chosen by the clock where results must repeat: evaluation runs plain torch unless
told otherwise, the same on a busy machine and on one where another runtime is not installed.
The policy node times what there is (``auto``), because there the robot waits for the answer.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from il_robot.errors import ConfigError, unknown
from il_robot.policies.backends import BACKENDS, Backend, UnavailableError
from il_robot.policies.policy import Batch, Policy
from il_robot.statistics import Percentiles
from il_robot.types import Float32

AUTO = 'auto'
#: Largest difference to torch, in deviations of the demonstrated actions; rounding is below
#: 1e-5, and 1e-4 of a usual joint's deviation is less than any encoder resolves.
TOLERANCE = 1e-4
_INPUTS, _WARM_UP = 4, 5
_ROUNDS, _SECONDS = 30, 0.5


@dataclass(frozen=True)
class Candidate:
    """What was found of one runtime when the policy was loaded.

    Attributes:
        name: Key of ``BACKENDS``.
        error: Largest absolute difference to torch; NaN where it does not run.
        seconds: Median of a call; NaN where it was not timed.
        refused: Why it is not used; empty where it could be.
    """

    name: str
    error: float = float('nan')
    seconds: float = float('nan')
    refused: str = ''


class PolicyRuntime:
    """A policy ready to answer one observation at a time.

    Args:
        policy: On its device; put into evaluation mode.
        batch: An example, ``{key: (1, ...)}`` on the CPU: its shapes are those of every call.
        name: A key of ``BACKENDS``, or ``auto``: the fastest of all that can be used.
        tolerance: Largest difference to torch that is still rounding.

    Attributes:
        name: What computes the answers.
        error: Largest absolute difference to torch over random inputs, normalised.
        candidates: What was tried.
        latency: Seconds of the newest calls.

    Raises:
        ConfigError: no such runtime; the one asked for does not run this policy here, or gives
            other answers than torch; or torch's own answers have NaN.
    """

    def __init__(
        self, policy: Policy, batch: Batch, name: str = AUTO, tolerance: float = TOLERANCE
    ) -> None:
        if name not in (AUTO, *BACKENDS):
            raise ConfigError(unknown('runtime', name, (AUTO, *BACKENDS)))
        self._policy = policy.eval()
        device = next(policy.parameters()).device
        inputs = _random_inputs(policy, batch, device)
        torch_itself = BACKENDS['torch'](policy, *inputs[0])
        expected = [torch_itself(*each) for each in inputs]
        if not np.isfinite(expected).all():
            raise ConfigError(
                'the policy answers NaN or infinity: take an earlier checkpoint, or train again')
        backends: dict[str, Backend] = {'torch': torch_itself}
        self.candidates = {'torch': Candidate('torch', 0.0)}
        for each in BACKENDS if name == AUTO else (name,):
            if each == 'torch':
                continue
            self.candidates[each], backend = _try(each, policy, inputs, expected, tolerance)
            if backend is not None:
                backends[each] = backend
        if name == AUTO:
            for each, seconds in _time(backends, inputs[0]).items():
                found = self.candidates[each]
                self.candidates[each] = Candidate(each, found.error, seconds)
            name = min(backends, key=lambda each: self.candidates[each].seconds)
        elif name not in backends:
            raise ConfigError(
                f'runtime {name!r} cannot be used: {self.candidates[name].refused}; use auto or '
                f'torch')
        self.name = name
        self.error = self.candidates[name].error
        self.latency = Percentiles()
        self._backend = backends[name]
        noise = inputs[0][1]
        self._no_noise = None if noise.shape[1] else noise

    def __call__(self, batch: Batch, generator: torch.Generator) -> Float32:
        """Normalised actions ``(T, D)``.

        Args:
            batch: Of the example's shapes, on the CPU.
            generator: On the policy's device; draws what ``policy.predict`` would draw.
        """
        begun = time.perf_counter()
        noise = self._policy.draw(1, generator) if self._no_noise is None else self._no_noise
        answer = self._backend(batch, noise)
        self.latency.add(time.perf_counter() - begun)
        return answer

    def describe(self) -> dict[str, Any]:
        """For logs, status messages and reports."""
        timed = [c for c in self.candidates.values() if np.isfinite(c.seconds)]
        return {
            'runtime': self.name, 'runtime_error': self.error,
            'runtime_timed_ms': ' '.join(f'{c.name} {1e3 * c.seconds:.3g}' for c in timed),
            'runtime_refused': '; '.join(
                f'{c.name}: {c.refused}' for c in self.candidates.values() if c.refused),
            **{f'runtime_{k}_ms': 1e3 * v for k, v in self.latency.values().items()}}


def _random_inputs(
    policy: Policy, batch: Batch, device: torch.device
) -> list[tuple[Batch, torch.Tensor]]:
    """Observations and noise like the real ones; anything but features stays as given."""
    random = torch.Generator().manual_seed(0)
    noise = torch.Generator(device).manual_seed(0)
    shape = batch['features'].shape
    return [
        ({**batch, 'features': torch.randn(shape, generator=random)}, policy.draw(1, noise))
        for _ in range(_INPUTS)]


def _try(
    name: str, policy: Policy, inputs: list[tuple[Batch, torch.Tensor]],
    expected: list[Float32], tolerance: float,
) -> tuple[Candidate, Backend | None]:
    """Make a backend, warm it up and compare it with torch."""
    try:
        backend = BACKENDS[name](policy, *inputs[0])
        for _ in range(_WARM_UP):
            backend(*inputs[0])
        error = float(np.abs([backend(*each) for each in inputs] - np.array(expected)).max())
    except UnavailableError as reason:
        return Candidate(name, refused=str(reason)), None
    except Exception as failure:
        # a driver or a library of another version: torch goes on
        return Candidate(name, refused=f'{type(failure).__name__}: {failure}'), None
    if not error <= tolerance:
        why = f'differs from torch by {error:.3g}, more than {tolerance:.3g}'
        return Candidate(name, error, refused=why), None
    return Candidate(name, error), backend


def _time(
    backends: dict[str, Backend], example: tuple[Batch, torch.Tensor]
) -> dict[str, float]:
    """Median seconds of each, taking turns, so that a busy moment slows all of them."""
    seconds: dict[str, list[float]] = {name: [] for name in backends}
    end = time.perf_counter() + _SECONDS
    for k in range(_ROUNDS):
        for name, backend in backends.items():
            begun = time.perf_counter()
            backend(*example)
            seconds[name].append(time.perf_counter() - begun)
        if k >= 4 and time.perf_counter() > end:
            break
    return {name: float(np.median(values)) for name, values in seconds.items()}
