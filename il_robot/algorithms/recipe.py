"""A recipe: which policy, how it is trained, how its chunks are executed; one YAML file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from il_robot.algorithms.weights import Weights
from il_robot.config import build, load_yaml, override, to_dict
from il_robot.control.chunks import Execution
from il_robot.errors import ConfigError, unknown
from il_robot.policies.observation import ObservationConfig
from il_robot.policies.registry import model_config


@dataclass(frozen=True)
class Training:
    """How a policy is trained by behaviour cloning.

    Attributes:
        steps: Gradient steps.
        batch_size: Windows per step; at most the number of windows.
        learning_rate: Peak of the schedule: linear warm-up, then a cosine to zero.
        warmup_steps: Steps to the peak.
        weight_decay: Of AdamW.
        grad_clip: Largest norm of the gradient; 0 does not clip.
        ema_decay: Decay of the running mean of the weights, which is then what is validated
            and saved; 0 keeps none.
        feature_noise: Standard deviation of the Gaussian noise on the normalised features of
            every training batch (Bishop, "Training with Noise is Equivalent to Tikhonov
            Regularization", 1995); 0 adds none.
        feature_floor: Least unit of a feature, in its own [rad, m, or none]: what varies less
            over the demonstrations is not blown up to unit variance, where a slight tilt would
            look like nothing ever seen.
        feature_clip: Normalised features further out are taken for this much; 0 clips nothing.
        recombine: Rows of new episodes, as a multiple of the demonstrated ones, that take each
            arm from another demonstration while the arms work apart
            (:mod:`il_robot.data.recombine`, which says when that is right); 0 for none.
        recombine_distance: How far apart the arms and their objects are then [m].
        actions: ``absolute`` targets, or ``relative`` to where the joints are (grippers stay
            absolute, where the robot is known), normalised for each step of the chunk by itself:
            the first step, which moves little, then counts as much as the last, and is learned
            as finely.
        label: ``expert``: the expert's proposal where there is one, else the action executed,
            and nothing where the policy drove. Chunks begin where an expert drove, and end where
            a policy takes over: what an expert says beside a driving policy labels one step, not
            what would have followed. ``executed``: always the action executed.
        policy_successes: Also learn what the policy itself did, where nobody labelled it, in
            episodes that succeeded.
        weights: How much demonstrations, the policy's own rows, what came before a takeover, and
            the two parts of a correction count (:mod:`il_robot.algorithms.weights`).
        outcomes: Which episodes are used.
        last_rounds: Of the DAgger rounds only so many of the newest are used, beside the
            demonstrations; 0: all.
        validation: Share of episodes held out for the validation loss.
        normalization: Of features and actions.
        seed: Of weights, order of the windows, split, and noise.
        log_every, validate_every, checkpoint_every: In steps.
        keep: Newest checkpoints kept; the best one is kept as well.
        evaluate_every: Steps between evaluations of the policy in its task, each of a
            checkpoint; the last step is evaluated, too. 0 never evaluates.
        evaluate_episodes: Episodes of each, always the same
            (:mod:`il_robot.algorithms.trials`).
        device: ``auto`` (CUDA where available), ``cpu``, ``cuda``, ``cuda:1`` ...
        precision: ``bf16``: matrix products in bfloat16 (autocast), weights and optimiser in
            float32; ``auto``: on a GPU that has it; ``fp32``: never.
        threads: CPU threads of torch; 0 leaves torch's choice (all cores).
    """

    steps: int = 10_000
    batch_size: int = 256
    learning_rate: float = 1e-3
    warmup_steps: int = 200
    weight_decay: float = 1e-4
    grad_clip: float = 1.0
    ema_decay: float = 0.0
    feature_noise: float = 0.0
    feature_floor: float = 0.1
    feature_clip: float = 4.0
    recombine: float = 0.0
    recombine_distance: float = 0.2
    actions: Literal['absolute', 'relative'] = 'absolute'
    label: Literal['expert', 'executed'] = 'expert'
    policy_successes: bool = False
    weights: Weights = Weights()
    outcomes: tuple[Literal['success', 'failure', 'unknown'], ...] = ('success', 'unknown')
    last_rounds: int = 0
    validation: float = 0.1
    normalization: Literal['mean_std', 'min_max', 'identity'] = 'mean_std'
    seed: int = 0
    log_every: int = 50
    validate_every: int = 500
    checkpoint_every: int = 2_000
    keep: int = 2
    evaluate_every: int = 0
    evaluate_episodes: int = 50
    device: str = 'auto'
    precision: Literal['auto', 'fp32', 'bf16'] = 'auto'
    threads: int = 0

    def __post_init__(self) -> None:
        for name in ('steps', 'batch_size', 'log_every', 'validate_every', 'checkpoint_every',
                     'keep', 'evaluate_episodes'):
            if getattr(self, name) < 1:
                raise ValueError(f'{name} must be >= 1, got {getattr(self, name)}')
        for name in ('warmup_steps', 'weight_decay', 'grad_clip', 'feature_noise', 'feature_floor',
                     'feature_clip', 'recombine', 'recombine_distance', 'threads', 'seed',
                     'evaluate_every', 'last_rounds'):
            if getattr(self, name) < 0:
                raise ValueError(f'{name} must be >= 0, got {getattr(self, name)}')
        if self.learning_rate <= 0:
            raise ValueError(f'learning_rate must be > 0, got {self.learning_rate}')
        for name in ('ema_decay', 'validation'):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f'{name} must be in [0, 1), got {getattr(self, name)}')


@dataclass(frozen=True)
class Recipe:
    """One training run, complete.

    Attributes:
        policy: Name in the registry.
        model: The policy's configuration, with every key.
        training: See :class:`Training`.
        execution: How the trained policy's chunks are executed.
        observation: What it sees: cameras and their encoder, and which objects.
    """

    policy: str
    model: Mapping[str, Any] = field(default_factory=dict)
    training: Training = Training()
    execution: Execution = Execution()
    observation: ObservationConfig = ObservationConfig()


def make_recipe(
    data: Mapping[str, Any], settings: Sequence[str] = (), where: str = 'recipe'
) -> Recipe:
    """A checked recipe from a mapping with ``key=value`` texts applied.

    Args:
        data: Keys ``policy``, ``model``, ``training``, ``execution``, ``observation``.
        settings: For example ``training.steps=2000`` or ``model.hidden=[512,512]``; a key alone,
            ``chunk_size=20``, where one section has it.
        where: Shown in errors.

    Raises:
        ConfigError: unknown policy, unknown key, or a bad value.
    """
    recipe = _completed(build(Recipe, data, where), where)
    if not settings:
        return recipe
    settings = [_full_key(recipe, text) for text in settings]
    return _completed(override(recipe, settings), '--set')


def _full_key(recipe: Recipe, text: str) -> str:
    """``chunk_size=20`` as ``model.chunk_size=20``.

    Raises:
        ConfigError: no section has the key, or several have.
    """
    sections = to_dict(recipe)
    key, equals, value = text.partition('=')
    if '.' in key or key in sections or not equals:
        return text
    keys = {f'{name}.{k}': k for name, section in sections.items()
            if isinstance(section, dict) for k in section}
    found = [full for full, k in keys.items() if k == key]
    if not found:
        raise ConfigError(unknown('key', key, {*sections, *keys.values()}, f'--set {text}'))
    if len(found) > 1:
        raise ConfigError(f'--set {text}: there are {" and ".join(found)}; write one of them')
    return f'{found[0]}={value}'


def load_recipe(path: Path | str, settings: Sequence[str] = ()) -> Recipe:
    """:func:`make_recipe` of a YAML file.

    Raises:
        ConfigError: as there, or an unreadable file.
    """
    return make_recipe(load_yaml(path), settings, str(path))


def _completed(recipe: Recipe, where: str) -> Recipe:
    """The same with every key of the model's configuration, checked."""
    model = to_dict(model_config(recipe.policy, recipe.model, f'{where}: model'))
    return replace(recipe, model=model)
