"""ACT, the action chunking transformer.

Zhao et al., "Learning Fine-Grained Bimanual Manipulation with Low-Cost Hardware", RSS 2023,
sections IV-A (chunks; temporal ensembling is ``control.chunks``), IV-B and appendix C. A
conditional variational auto-encoder (Kingma and Welling 2014; Sohn et al. 2015) over chunks:

- encoder, training only: ``q(z | a, s)`` of the demonstrated chunk ``a`` and the state ``s``
  is a Gaussian read from a transformer's class token, so that z holds the style in which
  demonstrations differ;
- decoder, the policy: a transformer encoder over the tokens of z and of the observation, and
  a decoder with one learned query per step of the chunk. Running, z is the prior's mean, 0.

    loss = |a - a_hat|_1 + kl_weight * KL(q(z | a, s) || N(0, I)).

Differences to the authors' code, none to what the network can express: the class token alone
is computed in the last layer of q; and the first self-attention of the decoder is left out.
There its input is 0 for every step and its output the same learned constant whatever is
observed; ``start`` stands in its place, one for each step. One decoder layer is the default as
in LeRobot, because the authors' code used the first of its seven only.
``benchmarks/act_speed.py`` loads LeRobot's weights and compares the outputs.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from il_robot.errors import ConfigError
from il_robot.policies.attention import (
    DecoderLayer,
    EncoderLayer,
    LayerConfig,
    sinusoid,
    sinusoid_2d,
)
from il_robot.policies.features import FeatureLayout
from il_robot.policies.observation import EncodedLayout
from il_robot.policies.policy import PART, Batch, Losses, Policy, draw_rows, masked_mean


@dataclass(frozen=True)
class ACTConfig:
    """The network and its loss.

    Attributes:
        chunk_size: Actions predicted at once, T.
        n_obs_steps: Observations looked at; the paper looks at one.
        dim: Width of a token, d; even.
        heads: Attention heads; divides ``dim``.
        feedforward: Width of the hidden layer of each transformer layer.
        encoder_layers: Layers over z and the observation.
        decoder_layers: Layers over the steps of the chunk.
        posterior_layers: Layers of ``q(z | a, s)``.
        latent_dim: Length of z, L.
        dropout: See :class:`~il_robot.policies.attention.LayerConfig`.
        pre_norm: Likewise.
        kl_weight: Weight of the divergence, summed over z. Large values leave z nothing to
            say, and the policy is then the median of the demonstrations.
    """

    chunk_size: int = 100
    n_obs_steps: int = 1
    dim: int = 256
    heads: int = 8
    feedforward: int = 1024
    encoder_layers: int = 4
    decoder_layers: int = 1
    posterior_layers: int = 4
    latent_dim: int = 32
    dropout: float = 0.1
    pre_norm: bool = False
    kl_weight: float = 10.0

    def __post_init__(self) -> None:
        for name in ('chunk_size', 'n_obs_steps', 'dim', 'heads', 'feedforward', 'encoder_layers',
                     'decoder_layers', 'posterior_layers', 'latent_dim'):
            if getattr(self, name) < 1:
                raise ValueError(f'{name} must be >= 1, got {getattr(self, name)}')
        if self.dim % self.heads or self.dim % 2:
            raise ValueError(
                f'dim must be even and a multiple of heads = {self.heads}, got {self.dim}')
        if not 0 <= self.dropout < 1:
            raise ValueError(f'dropout must be in [0, 1), got {self.dropout}')
        if self.kl_weight < 0:
            raise ValueError(f'kl_weight must be >= 0, got {self.kl_weight}')

    @property
    def layer(self) -> LayerConfig:
        """The shape of every transformer layer."""
        return LayerConfig(
            self.dim, self.heads, self.feedforward, self.dropout, self.pre_norm)


class Encoder(nn.Module):
    """A stack of encoder layers."""

    def __init__(self, layer: LayerConfig, layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(EncoderLayer(layer) for _ in range(layers))
        self.norm = nn.LayerNorm(layer.dim) if layer.pre_norm else nn.Identity()

    def forward(
        self, x: torch.Tensor, positions: torch.Tensor, mask: torch.Tensor | None = None,
        count: int | None = None,
    ) -> torch.Tensor:
        """``(B, S, d)`` to the first ``count`` tokens (all by default), ``(B, count, d)``."""
        last = len(self.layers) - 1
        for i, layer in enumerate(self.layers):
            x = layer(x, positions, mask, count if i == last else None)
        return self.norm(x)


class Posterior(nn.Module):
    """``q(z | a, s)``: mean and logarithm of the variance from the class token (CLS)."""

    positions: torch.Tensor

    def __init__(self, config: ACTConfig, state_dim: int, action_dim: int) -> None:
        super().__init__()
        self.class_token = nn.Parameter(torch.randn(1, 1, config.dim))
        self.state_in = nn.Linear(state_dim, config.dim)
        self.action_in = nn.Linear(action_dim, config.dim)
        self.encoder = Encoder(config.layer, config.posterior_layers)
        self.out = nn.Linear(config.dim, 2 * config.latent_dim)
        self.register_buffer(
            'positions', sinusoid(2 + config.chunk_size, config.dim), persistent=False)

    def forward(
        self, state: torch.Tensor, action: torch.Tensor, is_pad: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Of each sample.

        Args:
            state: ``(B, n_obs_steps * joints)``.
            action: ``(B, T, D)``.
            is_pad: ``(B, T)``, True at steps that are not to be looked at.

        Returns:
            Mean and log-variance, ``(B, L)`` each.
        """
        tokens = torch.cat([
            self.class_token.expand(len(state), -1, -1),  # (B, 1, d)
            self.state_in(state)[:, None],  # (B, 1, d)
            self.action_in(action),  # (B, T, d)
        ], dim=1)
        mask = None
        if is_pad is not None:
            mask = tokens.new_zeros(len(tokens), 1, 1, tokens.shape[1])
            mask[:, 0, 0, 2:].masked_fill_(is_pad, -torch.inf)
        summary = self.encoder(tokens, self.positions, mask, count=1)[:, 0]  # (B, d)
        # the divergence squares and exponentiates: not in bfloat16
        mean, log_variance = self.out(summary).float().chunk(2, dim=-1)
        return mean, log_variance


class MapTokens(nn.Module):
    """The cells of all cameras' feature maps as tokens, as in the paper's appendix C.

    A cell's position is the 2-D sinusoid of its place and a learned vector of its camera.

    Raises:
        ConfigError: more than one observation, or a width that does not divide by 4.
    """

    places: torch.Tensor

    def __init__(self, layout: EncodedLayout, config: ACTConfig) -> None:
        super().__init__()
        if config.n_obs_steps > 1 or config.dim % 4:
            raise ConfigError(
                f'act with observation.encoder.output map needs n_obs_steps 1 and a dim that '
                f'divides by 4, got {config.n_obs_steps} and {config.dim}')
        self.project = nn.Linear(layout.channels, config.dim)
        self.camera = nn.Parameter(torch.randn(len(layout.grids), 1, config.dim))
        self.register_buffer('places', torch.stack(
            [sinusoid_2d(grid, config.dim) for grid in layout.grids]), persistent=False)

    def forward(self, cells: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """``(B, S, channels)`` to tokens ``(B, S, d)`` and their positions ``(S, d)``."""
        return self.project(cells), (self.places + self.camera).flatten(0, 1)


class ACTPolicy(Policy):
    """``(B, n_obs_steps, F)`` features to ``(B, T, D)`` targets; deterministic when running."""

    def __init__(self, config: ACTConfig, layout: FeatureLayout, action_dim: int) -> None:
        super().__init__()
        self.chunk_size = config.chunk_size
        self.n_obs_steps = config.n_obs_steps
        self._config = config
        self._joints = len(layout.joints)
        self._parts = layout.parts
        widths = [config.n_obs_steps * width for width in layout.parts]
        self.posterior = Posterior(config, widths[0], action_dim)
        self.latent_in = nn.Linear(config.latent_dim, config.dim)
        self.feature_in = nn.ModuleList(nn.Linear(width, config.dim) for width in widths)
        self.positions = nn.Parameter(torch.randn(1 + len(widths), config.dim))
        self.map: MapTokens | None = None
        if isinstance(layout, EncodedLayout) and layout.grids:
            self.map = MapTokens(layout, config)
        self.encoder = Encoder(config.layer, config.encoder_layers)
        self.start = nn.Parameter(0.02 * torch.randn(config.chunk_size, config.dim))
        self.queries = nn.Parameter(torch.randn(config.chunk_size, config.dim))
        self.decoder = nn.ModuleList(
            DecoderLayer(config.layer, first=i == 0) for i in range(config.decoder_layers))
        self.norm = nn.LayerNorm(config.dim)
        self.action_out = nn.Linear(config.dim, action_dim)
        for part in (self.posterior.encoder, self.encoder, self.decoder):
            for parameter in part.parameters():
                if parameter.dim() > 1:
                    nn.init.xavier_uniform_(parameter)

    def loss(self, batch: Batch, generator: torch.Generator) -> Losses:
        """``l1`` over real steps, ``kl`` over samples, and their weighted sum."""
        state = batch['features'][..., :self._joints].flatten(1)
        mean, log_variance = self.posterior(state, batch['action'], batch.get('is_pad'))
        noise = draw_rows(len(mean), batch.get(PART), lambda n: torch.randn(
            n, mean.shape[1], generator=generator, device=mean.device))
        z = mean + torch.exp(0.5 * log_variance) * noise  # (B, L)
        l1 = masked_mean((self._decode(batch, z) - batch['action']).abs(), batch)
        per_sample = {key: batch[key] for key in ('weight', PART) if key in batch}
        kl = masked_mean(divergence(mean, log_variance)[:, None, None], per_sample)
        return {'loss': l1 + self._config.kl_weight * kl, 'l1': l1, 'kl': kl}

    def forward(self, batch: Batch, noise: torch.Tensor) -> torch.Tensor:
        """All targets in one pass with z = 0, without noise."""
        features = batch['features']
        return self._decode(batch, features.new_zeros(len(features), self._config.latent_dim))

    def _decode(self, batch: Batch, z: torch.Tensor) -> torch.Tensor:
        """``(B, T, D)`` targets of an observation and ``(B, L)`` z."""
        tokens = torch.stack([self.latent_in(z), *self._observation_tokens(batch)], dim=1)
        positions: torch.Tensor = self.positions
        if self.map is not None:
            cells, places = self.map(batch['map'])
            tokens, positions = torch.cat([tokens, cells], 1), torch.cat([positions, places])
        memory = self.encoder(tokens, positions)  # (B, S, d)
        x = self.start[None]  # (1, T, d)
        for layer in self.decoder:
            x = layer(x, self.queries, memory + positions, memory)  # (B, T, d)
        return self.action_out(self.norm(x))

    def _observation_tokens(self, batch: Batch) -> list[torch.Tensor]:
        """What is observed, ``(B, d)`` each: joints; all object poses; each camera's vector."""
        parts = batch['features'].split(self._parts, dim=-1)
        return [linear(part.flatten(1)) for linear, part in zip(self.feature_in, parts)]


def divergence(mean: torch.Tensor, log_variance: torch.Tensor) -> torch.Tensor:
    """KL of ``N(mean, exp(log_variance))`` to ``N(0, I)``, summed over z: ``(B, L)`` to ``(B,)``.

    Kingma and Welling, "Auto-Encoding Variational Bayes", ICLR 2014, appendix B.
    """
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(-1)


def build_act(config: ACTConfig, layout: FeatureLayout, action_dim: int) -> ACTPolicy:
    """The policy with fresh weights."""
    return ACTPolicy(config, layout, action_dim)
