"""Every policy by name: its configuration and its builder. A new method adds one line here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from typing import Any

from il_robot.config import build, to_dict
from il_robot.errors import ConfigError, unknown
from il_robot.policies.act import ACTConfig, ACTPolicy, build_act
from il_robot.policies.diffusion import DiffusionConfig, build_diffusion
from il_robot.policies.ensemble import EnsembleConfig, EnsemblePolicy
from il_robot.policies.estimator import EstimatingPolicy, PoseEstimator
from il_robot.policies.features import FeatureLayout
from il_robot.policies.flow import FlowConfig, build_flow
from il_robot.policies.heads import GaussianConfig, GMMConfig, build_mlp_gaussian, build_mlp_gmm
from il_robot.policies.mlp import ChunkMLPConfig, MLPConfig, build_chunk_mlp, build_mlp
from il_robot.policies.observation import ImagePolicy, ObservationConfig, ObservationEncoder
from il_robot.policies.policy import Policy
from il_robot.policies.residual import ResidualConfig, ResidualPolicy


def build_ensemble(
    config: EnsembleConfig, layout: FeatureLayout, action_dim: int
) -> EnsemblePolicy:
    """An ensemble; here because its members are named in the registry."""
    member = model_config(config.policy, config.model, 'ensemble: model')
    return EnsemblePolicy(
        [make_policy(config.policy, member, layout, action_dim) for _ in range(config.size)],
        config.share)


def build_residual(
    config: ResidualConfig, layout: FeatureLayout, action_dim: int
) -> ResidualPolicy:
    """A corrected policy; here because its base is named in the registry."""
    model = model_config(config.policy, config.model, 'residual: model')
    base = make_policy(config.policy, model, layout, action_dim)
    return ResidualPolicy(base, config, layout.dim * base.n_obs_steps, action_dim)


# name: (configuration dataclass, builder(config, layout, action_dim))
POLICIES: dict[str, tuple[type[Any], Callable[[Any, FeatureLayout, int], Policy]]] = {
    'mlp': (MLPConfig, build_mlp),
    'mlp_gaussian': (GaussianConfig, build_mlp_gaussian),
    'mlp_gmm': (GMMConfig, build_mlp_gmm),
    'chunk_mlp': (ChunkMLPConfig, build_chunk_mlp),
    'act': (ACTConfig, build_act),
    'flow': (FlowConfig, build_flow),
    'diffusion': (DiffusionConfig, build_diffusion),
    'ensemble': (EnsembleConfig, build_ensemble),
    'residual': (ResidualConfig, build_residual),
}


def model_config(name: str, values: Mapping[str, Any], where: str) -> Any:
    """The checked configuration of a policy; an ensemble's has every key of its members'.

    Raises:
        ConfigError: unknown policy, unknown key, or a bad value.
    """
    if name not in POLICIES:
        raise ConfigError(unknown('policy', name, POLICIES, where))
    own = {f.name for f in fields(POLICIES[name][0])}
    foreign = [key for key in values if key not in own]
    for other, (their, _) in POLICIES.items():
        if foreign and {*values} <= {f.name for f in fields(their)}:
            raise ConfigError(
                f'{where}: {", ".join(foreign)} belongs to policy {other}, this is {name}; '
                f'change the policy, or give the keys of {name}: {", ".join(sorted(own))}')
    config = build(POLICIES[name][0], values, where)
    if isinstance(config, (EnsembleConfig, ResidualConfig)):
        member = model_config(config.policy, config.model, f'{where}: model')
        config = replace(config, model=to_dict(member))
    return config


def make_policy(
    name: str, config: Any, layout: FeatureLayout, action_dim: int,
    observation: ObservationConfig | None = None,
) -> Policy:
    """A fresh policy; its weights come from torch's global generator.

    Args:
        name: In the registry.
        config: Of its type there.
        layout: The low-dimensional features.
        action_dim: Length of an action.
        observation: With cameras, the policy gets an encoder of their pictures, or an
            estimator of poses beside it.

    Raises:
        ConfigError: unknown policy, or an encoder that it cannot use.
    """
    if name not in POLICIES:
        raise ConfigError(unknown('policy', name, POLICIES))
    builder = POLICIES[name][1]
    if observation is None or not observation.cameras:
        return builder(config, layout, action_dim)
    if observation.estimate:
        estimator = PoseEstimator(
            observation.estimator, observation.cameras, observation.estimate,
            observation.image_size)
        return EstimatingPolicy(estimator, builder(config, layout, action_dim))
    encoder = ObservationEncoder(observation, layout)
    policy = builder(config, encoder.layout, action_dim)
    if observation.encoder.output == 'map' and not any(
            isinstance(part, ACTPolicy) for part in policy.modules()):
        raise ConfigError(
            f'observation.encoder.output map is for policy act; {name} needs keypoints')
    return ImagePolicy(encoder, policy)
