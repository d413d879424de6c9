"""From observations to action chunks: features, normalisation, network and back."""

from __future__ import annotations

from collections import deque

import numpy as np
import torch

from il_robot.policies.checkpoint import Checkpoint, check_robot
from il_robot.policies.features import batch_features
from il_robot.policies.policy import Policy
from il_robot.spec import RobotSpec
from il_robot.types import ActionChunk, Float64, Observation


class PolicyRunner:
    """Runs a trained policy; knows nothing of how its chunks are executed.

    Args:
        checkpoint: Description of the weights.
        policy: The policy, on its device.
        spec: The robot driven: gives the control period of the chunk's times.

    Raises:
        CheckpointError: trained on another robot.
    """

    def __init__(self, checkpoint: Checkpoint, policy: Policy, spec: RobotSpec) -> None:
        check_robot(checkpoint, spec)
        self.chunk_size = policy.chunk_size
        self._policy = policy.eval()
        self._device = next(policy.parameters()).device
        self._layout = checkpoint.layout
        self._normalizer = checkpoint.normalizer
        self._times: Float64 = np.arange(policy.chunk_size, dtype=np.float64) * spec.dt
        self._history: deque[Observation] = deque(maxlen=policy.n_obs_steps)
        self._generator = torch.Generator(self._device)

    def reset(self, rng: np.random.Generator) -> None:
        """Forget the last episode and seed the policy's randomness."""
        self._history.clear()
        self._generator.manual_seed(int(rng.integers(2**63)))

    def observe(self, observation: Observation) -> None:
        """Take the observation of one control step; the first one counts as the whole past."""
        self._history.append(observation)
        while len(self._history) < (self._history.maxlen or 1):
            self._history.append(observation)

    def predict(self) -> ActionChunk:
        """The chunk ``(chunk_size, D)`` that starts at the newest observation's time.

        Raises:
            SpecError: the observation lacks an object that the policy was trained with.
            RuntimeError: nothing was observed since the reset.
        """
        if not self._history:
            raise RuntimeError('predict() needs an observation: call observe() first')
        state = np.stack([o.state for o in self._history])
        objects = {
            name: np.stack([o.objects[name] for o in self._history])
            for name in self._layout.objects if all(name in o.objects for o in self._history)
        }
        features = batch_features(state, objects, self._layout)
        features = self._normalizer.normalize('features', features)
        with torch.inference_mode():
            batch = {'features': torch.from_numpy(features)[None].to(self._device)}
            action = self._policy.predict(batch, self._generator)[0].float().cpu().numpy()
        stamp = self._history[-1].stamp
        positions = self._normalizer.unnormalize('action', action)
        return ActionChunk(stamp, stamp + self._times, positions)
