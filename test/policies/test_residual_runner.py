"""A corrected policy runs as its base does, plus the correction."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from il_robot import sim
from il_robot.algorithms.policy_env import residual_policy
from il_robot.config import to_dict
from il_robot.control.chunks import ChunkBuffer, Execution
from il_robot.data.normalizer import fit_normalizer
from il_robot.errors import CheckpointError, ConfigError
from il_robot.policies.checkpoint import Checkpoint
from il_robot.policies.features import FeatureLayout
from il_robot.policies.mlp import ChunkMLPConfig
from il_robot.policies.residual import ResidualConfig
from il_robot.policies.residual_runner import ResidualRunner, make_runner
from il_robot.policies.runner import PolicyRunner
from il_robot.types import Observation

SPEC = sim.default_robot()
RNG = np.random.default_rng(0)
ONE = Execution(mode='newest', n_action_steps=1)


def base(execution):
    torch.manual_seed(0)
    layout = FeatureLayout(SPEC.joint_names)
    normalizer = fit_normalizer({
        'features': RNG.normal(size=(50, layout.dim)),
        'action': SPEC.rest + 0.05 * RNG.normal(size=(50, SPEC.dim))})
    checkpoint = Checkpoint(
        'chunk_mlp', ChunkMLPConfig(hidden=(8,), chunk_size=6), layout, normalizer, SPEC,
        to_dict(execution))
    return checkpoint, checkpoint.make_policy().eval()


def observations(count):
    return [Observation(k * SPEC.dt, SPEC.rest + np.float32(0.02 * np.sin(k)))
            for k in range(count)]


@pytest.mark.parametrize('execution', [
    Execution(mode='ensemble', n_action_steps=1), Execution(mode='ensemble', n_action_steps=3),
    Execution(mode='newest', n_action_steps=4)], ids=str)
@pytest.mark.parametrize('correction', [0.0, 0.3])
def test_each_step_is_the_bases_own_plan_and_the_correction(execution, correction):
    described, policy = base(execution)
    checkpoint, corrected = residual_policy(described, policy, (8,), 0.5)
    with torch.no_grad():
        corrected.trunk[-1].bias.fill_(float(np.arctanh(correction / 0.5)))
    runner = ResidualRunner(checkpoint, corrected, SPEC)
    alone = PolicyRunner(described, policy, SPEC)
    buffer = ChunkBuffer(6, SPEC.dim, SPEC.dt, execution)
    for each in (runner, alone):
        each.reset(np.random.default_rng(0))
    for seen in observations(12):
        runner.observe(seen)
        alone.observe(seen)
        if buffer.due(seen.stamp):
            buffer.push(alone.predict())
        chunk = runner.predict()
        expected = buffer.action(seen.stamp) + correction * runner.unit
        np.testing.assert_allclose(chunk.positions[0], expected, atol=1e-6)
        assert chunk.stamp == seen.stamp and 1 <= len(chunk.times) <= 6
        for time, position in zip(chunk.times, chunk.positions):  # what comes next, if it is late
            np.testing.assert_allclose(
                position, buffer.action(time) + correction * runner.unit, atol=1e-6)


def test_a_correction_stays_for_as_many_steps_as_it_is_held():
    described, policy = base(Execution(mode='newest', n_action_steps=2))
    corrections = {}
    for hold in (1, 3):
        checkpoint, corrected = residual_policy(described, policy, (8,), 0.5, hold)
        with torch.no_grad():
            torch.nn.init.normal_(corrected.trunk[-1].weight, generator=torch.Generator())
        runner = ResidualRunner(checkpoint, corrected, SPEC)
        runner.reset(np.random.default_rng(0))
        seen = []
        for observation in observations(7):
            runner.observe(observation)
            seen.append(runner.predict().positions[0] - runner.plan(1)[0])
        changes = [k for k in range(1, 7) if np.abs(seen[k] - seen[k - 1]).max() > 1e-6]
        corrections[hold] = changes
        runner.reset(np.random.default_rng(0))  # and an episode begins with a new one
        runner.observe(observations(1)[0])
        np.testing.assert_allclose(runner.predict().positions[0] - runner.plan(1)[0], seen[0],
                                   atol=1e-6)
    assert corrections == {1: [1, 2, 3, 4, 5, 6], 3: [3, 6]}


def test_the_correction_sees_features_and_the_bases_action_normalised():
    described, policy = base(ONE)
    checkpoint, corrected = residual_policy(described, policy, (8,), 0.5)
    runner = ResidualRunner(checkpoint, corrected, SPEC)
    runner.observe(observations(1)[0])
    action = runner.plan(1)[0]
    inputs = runner.inputs(action)
    assert inputs.dtype == np.float32 and len(inputs) == described.layout.dim + SPEC.dim
    entry = described.normalizer.entries['action']
    np.testing.assert_allclose(
        inputs[-SPEC.dim:] * entry.scale + entry.offset, action, atol=1e-5)


def test_a_correction_that_cannot_run_is_found_when_warming_up():
    described, policy = base(ONE)
    checkpoint, corrected = residual_policy(described, policy, (8,), 0.5)
    runner = ResidualRunner(checkpoint, corrected, SPEC)
    runner.warm_up()
    with pytest.raises(RuntimeError, match='observe'):  # nothing of it is left
        runner.plan(1)
    corrected.trunk[0] = torch.nn.Linear(3, 8)
    with pytest.raises(RuntimeError, match='shapes'):
        ResidualRunner(checkpoint, corrected, SPEC).warm_up()


def test_what_cannot_be_corrected_is_refused():
    described, policy = base(Execution(mode='blend', n_action_steps=2))
    checkpoint, corrected = residual_policy(described, policy, (8,), 0.5)
    with pytest.raises(ConfigError, match='blend'):
        ResidualRunner(checkpoint, corrected, SPEC)
    checkpoint, corrected = residual_policy(*base(ONE), (8,), 0.5)
    with pytest.raises(ConfigError, match='every control step'):
        make_runner(checkpoint, corrected, SPEC, execution=Execution('newest', 2))
    with pytest.raises(ConfigError, match='run its base'):
        make_runner(checkpoint, corrected, SPEC, execution=ONE, novelty=True)
    other = replace(SPEC, name='other', joints=SPEC.joints[:-1] + (
        replace(SPEC.joints[-1], upper=0.1),))
    with pytest.raises(CheckpointError, match='another robot|does not fit'):
        ResidualRunner(checkpoint, corrected, other)
    with pytest.raises(ValueError, match='correction of a correction'):
        ResidualConfig(policy='residual')
    for wrong in ({'limit': 0.0}, {'hold': 0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            ResidualConfig(**wrong)
    runner = ResidualRunner(checkpoint, corrected, SPEC)
    with pytest.raises(RuntimeError, match='observe'):
        runner.predict()
