"""LeRobot's ACT, to be measured by act_speed.py; runs in LeRobot's own environment.

    LEROBOT_PYTHON benchmarks/lerobot_act.py SIZES.json SAMPLE.safetensors DEVICE THREADS

One training step is LeRobot's ``update_policy`` with the optimiser of its preset, on a batch that
already lies on the device. Writes weights, one batch and what LeRobot makes of it to
SAMPLE.safetensors, then answers lines on stdin with seconds on stdout: ``preset 5`` (five
training steps), ``fused 5`` (the same with PyTorch's fused AdamW), ``predict 5``.
"""

from __future__ import annotations

import json
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from lerobot.configs.types import FeatureType, PolicyFeature
from lerobot.policies.act.configuration_act import ACTConfig
from lerobot.policies.act.modeling_act import ACTPolicy
from lerobot.scripts.lerobot_train import update_policy
from lerobot.utils.constants import ACTION, OBS_ENV_STATE, OBS_STATE
from lerobot.utils.logging_utils import AverageMeter, MetricsTracker
from safetensors.torch import save_file


def make_policy(sizes: dict[str, int], device: str, dropout: float) -> ACTPolicy:
    """Matched sizes; everything else as LeRobot has it."""
    torch.manual_seed(0)
    return ACTPolicy(ACTConfig(
        input_features={
            OBS_STATE: PolicyFeature(FeatureType.STATE, (sizes['state'],)),
            OBS_ENV_STATE: PolicyFeature(FeatureType.ENV, (sizes['environment'],)),
        },
        output_features={ACTION: PolicyFeature(FeatureType.ACTION, (sizes['action'],))},
        dim_model=sizes['dim'], n_heads=sizes['heads'], dim_feedforward=sizes['feedforward'],
        chunk_size=sizes['chunk'], n_action_steps=sizes['chunk'], dropout=dropout, device=device,
    )).to(device)


def make_batch(sizes: dict[str, int], device: str) -> dict[str, torch.Tensor]:
    """Normalised noise; half of the chunks end early."""
    size, chunk = sizes['batch'], sizes['chunk']
    generator = torch.Generator().manual_seed(0)
    batch = {
        OBS_STATE: torch.randn(size, sizes['state'], generator=generator),
        OBS_ENV_STATE: torch.randn(size, sizes['environment'], generator=generator),
        ACTION: torch.randn(size, chunk, sizes['action'], generator=generator),
        'action_is_pad': torch.zeros(size, chunk, dtype=torch.bool),
    }
    batch['action_is_pad'][::2, chunk // 2:] = True
    return {key: value.to(device) for key, value in batch.items()}


def sample(sizes: dict[str, int]) -> dict[str, torch.Tensor]:
    """Weights of a policy without dropout, a batch, its prediction and its divergence."""
    policy, batch = make_policy(sizes, 'cpu', dropout=0.0), make_batch(sizes, 'cpu')
    for parameter in policy.parameters():  # biases are zero at first and would prove nothing
        torch.nn.init.normal_(parameter, std=0.1)
    divergence = torch.tensor(policy.train()(batch)[1]['kld_loss'])
    observed = {key: batch[key] for key in (OBS_STATE, OBS_ENV_STATE)}
    action = policy.predict_action_chunk(observed)
    weights = {f'weights.{k}': v.detach().clone() for k, v in policy.model.state_dict().items()}
    return {**batch, **weights, 'predicted': action, 'divergence': divergence}


class Training:
    """One policy and its optimiser."""

    def __init__(self, sizes: dict[str, int], device: str, fused: bool) -> None:
        self.accelerator = Accelerator(cpu=device == 'cpu', step_scheduler_with_optimizer=False)
        policy = make_policy(sizes, device, dropout=0.1)
        preset = policy.config.get_optimizer_preset()
        optimizer: Any = preset.build(policy.get_optim_params())
        if fused:
            optimizer = torch.optim.AdamW(
                policy.parameters(), preset.lr, weight_decay=preset.weight_decay, fused=True)
        self.clip = preset.grad_clip_norm
        self.policy, self.optimizer = self.accelerator.prepare(policy, optimizer)
        meters = {name: AverageMeter(name) for name in ('loss', 'grad_norm', 'lr', 'update_s')}
        self.metrics = MetricsTracker(sizes['batch'], 1, 1, meters)
        self.batch = make_batch(sizes, device)

    def step(self) -> None:
        """One training step."""
        update_policy(self.metrics, self.policy, self.batch, self.optimizer, self.clip,
                      self.accelerator)


def main() -> None:
    """Answer until stdin ends."""
    sizes_file, sample_file, device, threads = sys.argv[1:]
    sizes = json.loads(Path(sizes_file).read_text())
    torch.set_num_threads(int(threads))
    save_file(sample(sizes), sample_file)
    training = {'preset': Training(sizes, device, False), 'fused': Training(sizes, device, True)}
    running = make_policy(sizes, device, 0.1).eval()
    observed = {k: v[:1] for k, v in make_batch(sizes, device).items() if 'observation' in k}
    print(json.dumps({
        'parameters': sum(p.numel() for p in running.parameters()),
        'versions': {name: version(name) for name in ('lerobot', 'torch')},
    }), flush=True)
    for line in sys.stdin:
        what, count = line.split()
        call = training[what].step if what in training else (
            lambda: running.predict_action_chunk(observed))
        begin = time.perf_counter()
        for _ in range(int(count)):
            call()
        if device != 'cpu':
            torch.cuda.synchronize()
        print(time.perf_counter() - begin, flush=True)


if __name__ == '__main__':
    main()
