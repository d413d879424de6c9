"""An untrained policy that keeps the arms moving, for tests in which somebody has to drive."""

import numpy as np
import torch

from il_robot.data.normalizer import fit_normalizer
from il_robot.policies.checkpoint import Checkpoint, save_checkpoint
from il_robot.policies.ensemble import EnsembleConfig
from il_robot.policies.features import FeatureLayout
from il_robot.policies.mlp import ChunkMLPConfig

STEPS = 5
"""Control steps from one prediction to the next: each chunk goes back and forth once."""


def write_lively_policy(folder, spec, objects=(), width=0.01, members=0, steps=2 * STEPS):
    """Write a checkpoint whose chunks keep every joint in motion; its folder.

    With the default ``width`` [rad] no joint is asked for more than its velocity limit. With
    ``members`` it is an ensemble of so many; ``steps`` is the length of its chunks.
    """
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    layout = FeatureLayout(spec.joint_names, tuple(objects))
    middle = np.clip(spec.rest, spec.lower + 0.3, spec.upper - 0.3)
    for arm in spec.arms:
        middle[spec.arm_slice(arm.name).stop - 1] = spec.gripper.upper / 2
    widths = np.where(spec.upper - spec.lower > 0.2, width, 0.001)
    normalizer = fit_normalizer({
        'features': rng.normal(size=(50, layout.dim)),
        'action': middle + widths * rng.normal(size=(50, spec.dim))})
    name, config = 'chunk_mlp', ChunkMLPConfig((16,), chunk_size=steps)
    if members:
        name, config = 'ensemble', EnsembleConfig(
            name, {'hidden': [16], 'chunk_size': steps}, members)
    description = Checkpoint(
        name, config, layout, normalizer, spec,
        {'mode': 'newest', 'n_action_steps': min(STEPS, steps)}, task='transfer_cube')
    policy = description.make_policy().eval()
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.mul_(3.0)
    save_checkpoint(folder, description, policy)
    return folder
