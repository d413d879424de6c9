"""From observations to action chunks: features, normalisation, network and back."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch

from il_robot.data.pictures import resized
from il_robot.errors import ConfigError, DatasetError, SpecError
from il_robot.policies.assessor import Assessor
from il_robot.policies.checkpoint import Checkpoint, check_robot
from il_robot.policies.ensemble import EnsemblePolicy, spread
from il_robot.policies.estimator import EstimatingPolicy, PoseEstimator
from il_robot.policies.features import batch_features, robot_hands
from il_robot.policies.inpainting import Inpainting, check_inpaints, inpaint, mask
from il_robot.policies.policy import IMAGES, Batch, Policy
from il_robot.policies.runtime import PolicyRuntime
from il_robot.policies.views import robot_views
from il_robot.spec import RobotSpec
from il_robot.types import ActionChunk, Float32, Float64, Observation

_WARM_UP = 3


class PolicyRunner:
    """Runs a trained policy; knows nothing of how its chunks are executed.

    Args:
        checkpoint: Description of the weights.
        policy: The policy, on its device.
        spec: The robot driven: gives the control period of the chunk's times.
        runtime: See :class:`~il_robot.policies.runtime.PolicyRuntime`, which is made from the
            first observation.
        novelty: Also tell how far the members of an ensemble disagree; their answers are then
            computed by torch, one by one, whatever the runtime.
        assessor: Also tell doubt and risk.
        inpaint: Each chunk continues the last one, by this method
            (:mod:`il_robot.policies.inpainting`); torch then computes, whatever the runtime.

    Attributes:
        frozen: Steps that will have been executed, counted from the newest observation, when
            the next answer comes; whoever measures the latency sets it. Counts with ``inpaint``.
        novelty: Mean disagreement over the newest chunk, in deviations of the actions
            (:class:`il_robot.policies.ensemble.Spread`); NaN where it is not asked for.
        doubt: Of the newest observation (:mod:`il_robot.policies.assessor`), or NaN.
        risk: Likewise.

    Raises:
        CheckpointError: trained on another robot.
        ConfigError: novelty of a policy that is no ensemble, or a policy that cannot inpaint.
    """

    def __init__(
        self, checkpoint: Checkpoint, policy: Policy, spec: RobotSpec, runtime: str = 'torch',
        *, novelty: bool = False, assessor: Assessor | None = None,
        inpaint: Literal['replace', 'guide'] | None = None,
    ) -> None:
        check_robot(checkpoint, spec)
        self._estimator: PoseEstimator | None = None
        if isinstance(policy, EstimatingPolicy):
            self._estimator, policy = policy.estimator.eval(), policy.policy
        if novelty and not isinstance(policy, EnsemblePolicy):
            raise ConfigError(
                f'novelty is how far the members of an ensemble disagree; {checkpoint.policy} '
                f'has none: train with the recipe ensemble or ensemble_mlp')
        if inpaint:
            check_inpaints(policy, checkpoint.policy)
        self._inpaint, self._last, self.frozen = inpaint, ActionChunk(
            -math.inf, np.zeros(0), np.zeros((0, spec.dim), np.float32)), 0
        self._members = policy if novelty and isinstance(policy, EnsemblePolicy) else None
        self._assessor = assessor
        self.novelty = self.doubt = self.risk = float('nan')
        self.chunk_size = policy.chunk_size
        self._policy = policy.eval()
        self._runtime: PolicyRuntime | str = runtime
        self._layout = checkpoint.layout
        self._hands = robot_hands(spec)
        self._views = robot_views(spec, self._estimator.names, self._hands) \
            if self._estimator else {}
        self._given = checkpoint.given
        self._rest, self._step = spec.rest, spec.dt
        self._seen, self._recorded = checkpoint.observation, checkpoint.recorded
        self._normalizer, self._base = checkpoint.normalizer, checkpoint.base
        self._times: Float64 = np.arange(policy.chunk_size, dtype=np.float64) * spec.dt
        self._history: deque[Observation] = deque(maxlen=policy.n_obs_steps)
        self._generator = torch.Generator(next(policy.parameters()).device)

    def reset(self, rng: np.random.Generator) -> None:
        """Forget the last episode and seed the policy's randomness."""
        self._history.clear()
        self._last = replace(self._last, stamp=-math.inf)
        self._generator.manual_seed(int(rng.integers(2**63)))

    def observe(self, observation: Observation) -> None:
        """Take the observation of one control step; the first one counts as the whole past."""
        self._history.append(observation)
        while len(self._history) < (self._history.maxlen or 1):
            self._history.append(observation)

    def predict(self) -> ActionChunk:
        """The chunk ``(chunk_size, D)`` that starts at the newest observation's time.

        Raises:
            SpecError: the observation lacks an object or a camera that the policy was trained
                with, or its pictures have another shape.
            ConfigError: at the first call: the runtime asked for cannot be used.
            RuntimeError: nothing was observed since the reset.
        """
        if not self._history:
            raise RuntimeError('predict() needs an observation: call observe() first')
        pictures = self._pictures()
        features = self._features(pictures)
        if self._estimator is not None:
            pictures = {}
        batch = {'features': torch.from_numpy(features)[None], **pictures}
        stamp, base = self._history[-1].stamp, self._base * self._history[-1].state
        plan = self._plan(stamp)
        action = self._answer(batch) if plan is None else self._continue(batch, plan, base)
        if self._assessor is not None:
            self.doubt, self.risk = self._assessor.assess(
                batch['features'], torch.from_numpy(action[:1]))[0].tolist()
        positions = self._normalizer.unnormalize('action', action) + base
        if plan is not None:  # what will be executed before this chunk can come
            positions[:min(self.frozen, len(plan))] = plan[:self.frozen]
        self._last = ActionChunk(stamp, stamp + self._times, positions)
        return self._last

    def features(self) -> Float32:
        """``(n_obs_steps, F)`` normalised, of what was observed last.

        Raises:
            SpecError: as :meth:`predict`.
        """
        return self._features(self._pictures())

    def _features(self, pictures: Batch) -> Float32:
        state = np.stack([o.state for o in self._history])
        objects = {
            name: np.stack([o.objects[name] for o in self._history])
            for name in self._given if all(name in o.objects for o in self._history)
        }
        if self._estimator is not None:
            seen = {key.removeprefix(IMAGES): value[0] for key, value in pictures.items()}
            objects |= self._estimator.estimate(seen, state, self._views)
        features = batch_features(state, objects, self._layout, self._hands)
        return self._normalizer.normalize('features', features)

    def _plan(self, stamp: float) -> Float32 | None:
        """What the last chunk still has from ``stamp`` on, at most T steps; None for nothing."""
        if self._inpaint is None or not len(self._last.times):
            return None
        passed = (stamp - self._last.stamp) / self._step
        if not 0 <= passed < self.chunk_size - 0.5:
            return None
        return self._last.positions[round(passed):]

    def _continue(self, batch: Batch, plan: Float32, base: Float32) -> Float32:
        """Normalised actions ``(T, D)`` that continue a plan ``(N, D)``."""
        assert self._inpaint is not None
        device, steps = self._generator.device, self.chunk_size
        whole = np.concatenate([plan, np.repeat(plan[-1:], steps - len(plan), 0)])
        wanted = torch.from_numpy(self._normalizer.normalize('action', whole - base))[None]
        inpainting = Inpainting(
            wanted.to(device), mask(self.frozen, len(plan), steps).to(device), self._inpaint)
        # the weights need no gradient, whatever the method
        with torch.no_grad():
            moved = {key: value.to(device) for key, value in batch.items()}
            noise = self._policy.draw(1, self._generator)
            chunk: Float32 = inpaint(
                self._policy, moved, noise, inpainting)[0].float().cpu().numpy()
        return chunk

    def _answer(self, batch: Batch) -> Float32:
        """Normalised actions ``(T, D)``."""
        if self._members is not None:
            with torch.inference_mode():
                device = {key: value.to(self._generator.device) for key, value in batch.items()}
                chunks = self._members.members(device, self._members.draw(1, self._generator))
                self.novelty = float(spread(chunks).disagreement.mean())
                mean: Float32 = chunks.mean(0)[0].cpu().numpy()
                return mean
        if isinstance(self._runtime, str):
            self._runtime = PolicyRuntime(self._policy, batch, self._runtime)
        return self._runtime(batch, self._generator)

    def warm_up(self) -> None:
        """Predict a few times from the robot at rest, so that the first answer is not slower.

        Raises:
            ConfigError: the runtime asked for cannot be used.
        """
        self.observe(self.at_rest())
        for _ in range(_WARM_UP):
            self.predict()
        self.reset(np.random.default_rng(0))

    def at_rest(self) -> Observation:
        """The robot at rest, all objects in one place, black pictures."""
        pose = np.array([0, 0, 0, 0, 0, 0, 1], np.float32)
        return Observation(
            0.0, self._rest, dict.fromkeys(self._given, pose),
            {name: np.zeros((*size, 3), np.uint8) for name, size in self._recorded.items()})

    def describe(self) -> dict[str, Any]:
        """The runtime in use and what it was compared with; {} before the first prediction."""
        return {} if isinstance(self._runtime, str) else self._runtime.describe()

    def _pictures(self) -> Batch:
        """``images.<camera>`` ``(1, n_obs_steps, 3, H, W)``, as the cache of a training has them.

        Raises:
            SpecError: a camera is missing, or its pictures have another shape.
        """
        batch = {}
        for name in self._seen.cameras:
            try:
                pictures = [resized(o.images[name], self._seen.image_size) for o in self._history]
            except KeyError:
                given = ', '.join(self._history[-1].images) or 'none'
                raise SpecError(
                    f'the policy needs camera {name}, which this observation lacks; given: '
                    f'{given}') from None
            except DatasetError as error:
                raise SpecError(f'camera {name}: {error}') from None
            stacked = torch.from_numpy(np.stack(pictures))[None]
            batch[IMAGES + name] = stacked.permute(0, 1, 4, 2, 3)
        return batch
