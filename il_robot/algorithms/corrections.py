"""One episode in which a policy drives and an expert labels, takes over and gives back.

The gate (:mod:`il_robot.control.gates`) decides who drives; everything that was seen, done and
said becomes the rows of one episode, corrections and all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from il_robot.algorithms.controller import PolicyController, PolicyFactory
from il_robot.algorithms.evaluate import EpisodeResult, as_observation
from il_robot.algorithms.returning import Returning, Way, noise_units
from il_robot.control.gate_rule import disagreement
from il_robot.control.gates import NAN, Gate, Move, Signals, make_gate
from il_robot.types import Float32, Float64, Source, Step

_CORRELATION = 0.82  # from one control step to the next, as the noise of demonstrations
_LASTING = 0.98
"""The same of what a policy tries, 1 s at 50 Hz: a policy that hangs comes back to where it hung
from whatever passes sooner."""


@dataclass(frozen=True, eq=False)
class Corrected:
    """What became of an episode.

    Attributes:
        result: How it went.
        steps: Its rows.
        reasons: Why control changed hands, in words, with the row.
    """

    result: EpisodeResult
    steps: tuple[Step, ...]
    reasons: tuple[tuple[int, str], ...] = ()


@dataclass
class GatedController:
    """A policy and the gate over it.

    Attributes:
        policy: Drives unless the gate says otherwise; None: the expert demonstrates.
        gate: Decides.
        relabel: Whether the expert labels every state visited (Ross et al. 2011), or only those
            in which he drives.
        noise: See :class:`GatedFactory`.
        explore: Likewise.
        returns: Likewise.
        offset: Likewise.
    """

    policy: PolicyController | None
    gate: Gate
    relabel: bool
    noise: float = 0.0
    explore: float = 0.0
    returns: int = 0
    offset: float = 0.005

    def signals(self, now: float, correcting: bool, discrepancy: float, stage: int) -> Signals:
        """What the gate gets to know."""
        novelty, doubt, risk = (NAN,) * 3 if self.policy is None else self.policy.signals
        return Signals(now, correcting, novelty, doubt, risk, discrepancy, stage)


@dataclass(frozen=True)
class GatedFactory:
    """Makes the controller of a round; picklable.

    Attributes:
        checkpoint: Of the policy; None where the expert demonstrates.
        gate: Key of :data:`il_robot.control.gates.GATES`.
        options: The gate's.
        relabel: See :class:`GatedController`.
        assessor: File of the policy's assessor, for the gates that need it.
        noise: Standard deviation of what is added to the joints while the expert corrects [rad];
            his label stays clean. A person's hand is not exact, and what a scripted expert does
            exactly shows a policy no way back from its own small errors (Laskey et al., "DART:
            Noise Injection for Robust Imitation Learning", CoRL 2017).
        explore: The same while the policy drives: what it would not do by itself.
        returns: Above 0, in an environment that says how far it is, a policy that gets nowhere
            goes back so many times at most, and from there has an offset instead of the noise
            (:mod:`il_robot.algorithms.returning`).
        offset: Its deviation [rad].
    """

    checkpoint: Path | None = None
    gate: str = 'never'
    options: Mapping[str, Any] = field(default_factory=dict)
    relabel: bool = True
    assessor: Path | None = None
    noise: float = 0.0
    explore: float = 0.0
    returns: int = 0
    offset: float = 0.005

    def __call__(self, env: Any) -> GatedController:
        """Load the policy for this environment.

        Raises:
            CheckpointError: missing, damaged, or of another robot.
            ConfigError: no such gate, or one that this policy has no signals for.
        """
        gate = make_gate(self.gate, self.options)
        if self.checkpoint is None:
            return GatedController(None, gate, self.relabel, self.noise, self.explore)
        policy = PolicyFactory(
            self.checkpoint, novelty='novelty' in gate.needs, assessor=self.assessor)(env)
        return GatedController(
            policy, gate, self.relabel, self.noise, self.explore, self.returns, self.offset)


def run_corrected(env: Any, controller: GatedController, seed: int) -> Corrected:
    """One episode; ``env`` has an expert (:class:`il_robot.algorithms.collect.Demonstrable`)."""
    own = env.unwrapped
    if controller.returns and hasattr(own, 'progress'):
        found = Returning(env, controller.policy, controller.offset, controller.returns)
        return _found(seed, found.find(seed), found.steps)
    obs, info = env.reset(seed=seed)
    driver = _Driver(controller, own.expert, own.robot)
    driver.reset(seed)
    steps: list[Step] = []
    reward, stage, stage_name, ended = 0.0, 0, '', False
    while not ended:
        observation = as_observation(obs, len(steps) * own.robot.dt)
        action = driver.act(observation, stage)
        obs, step_reward, terminated, truncated, info = env.step(action)
        reward += float(step_reward)
        if info.get('stage', 0) >= stage:
            stage, stage_name = int(info.get('stage', 0)), str(info.get('stage_name', ''))
        ended = terminated or truncated
        steps.append(Step(
            observation, own.executed, driver.source, policy=driver.proposal,
            expert=driver.label, reward=float(step_reward), success=bool(info['success']),
            intervention=driver.correcting and controller.policy is not None))
    result = EpisodeResult(
        seed, bool(info['success']), len(steps), reward, stage, stage_name)
    return Corrected(result, tuple(steps), tuple(driver.reasons))


def _found(seed: int, way: Way, simulated: int) -> Corrected:
    """What came of going back."""
    reward = sum(step.reward for step in way.steps)
    return Corrected(EpisodeResult(
        seed, way.success, len(way.steps), reward, way.stage, way.stage_name, simulated),
        tuple(way.steps))


class _Driver:
    """Who drives, step by step, and what everybody said."""

    def __init__(
        self, controller: GatedController, expert: Callable[[], Any], robot: Any
    ) -> None:
        self._controller, self._expert, self._robot = controller, expert, robot
        self._asked = controller.relabel or 'discrepancy' in controller.gate.needs
        self.reasons: list[tuple[int, str]] = []
        self.correcting, self._row = False, 0
        self._unit, self._deviation = noise_units(robot), np.zeros(robot.dim)
        self.proposal: Float32 | None = None
        self.label: Float32 | None = None

    @property
    def source(self) -> tuple[Source, ...]:
        """Who drives each arm."""
        expert = self.correcting or self._controller.policy is None
        return (Source.EXPERT if expert else Source.POLICY,) * len(self._robot.arms)

    def reset(self, seed: int) -> None:
        """An episode starts; everything random depends on its seed."""
        if self._controller.policy is not None:
            self._controller.policy.reset(np.random.default_rng([seed, 1]))
        self._controller.gate.reset(np.random.default_rng([seed, 3]))
        self._rng = np.random.default_rng([seed, 4])
        if self._controller.explore:
            self._deviation = self._fresh(self._controller.explore)

    def act(self, observation: Any, stage: int) -> Float32:
        """The action of whoever drives ``(D,)`` [rad, m]."""
        controller = self._controller
        if controller.policy is None:
            self.label = self._expert().position
            return self.label
        self.proposal = controller.policy.act(observation)
        label = self._expert().position if self._asked or self.correcting else None
        discrepancy = NAN if label is None else disagreement(self.proposal, label, self._robot)
        verdict = controller.gate.update(controller.signals(
            observation.stamp, self.correcting, discrepancy, stage))
        if verdict.move is not Move.KEEP:
            self.correcting = verdict.move is Move.TAKE
            self.reasons.append((self._row, verdict.reason))
        self._row += 1
        if self.correcting and label is None:
            label = self._expert().position
        # What only the stand-in for a person looked at is no label that a person gave.
        known = controller.relabel or self.correcting or controller.gate.name != 'human'
        self.label = label if known else None
        if self.correcting:
            assert label is not None
            return self._shaken(label, controller.noise, _CORRELATION)
        return self._shaken(self.proposal, controller.explore, _LASTING)

    def _fresh(self, sigma: float) -> Float64:
        return self._rng.standard_normal(len(self._unit)) * sigma * self._unit

    def _shaken(self, label: Float32, sigma: float, correlation: float) -> Float32:
        """With noise that stays for a while, of deviation ``sigma`` [rad]."""
        if not sigma:
            self._deviation[:] = 0
            return label
        self._deviation = correlation * self._deviation + np.sqrt(
            1 - correlation**2) * self._fresh(sigma)
        lower, upper = self._robot.lower, self._robot.upper
        action: Float32 = np.clip(label + self._deviation, lower, upper).astype(np.float32)
        return action
