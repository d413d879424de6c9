"""Where a policy runs."""

from __future__ import annotations

import torch

from il_robot.errors import ConfigError


def choose_device(name: str) -> torch.device:
    """``auto`` is CUDA where available.

    Raises:
        ConfigError: not a device, or not available here.
    """
    if name == 'auto':
        return torch.device('cuda' if torch.cuda.is_available() else 'cpu')
    try:
        return torch.zeros(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f'device {name!r} cannot be used: {error}; use auto or cpu') from None
