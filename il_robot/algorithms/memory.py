"""Out of memory: which batch would fit."""

from __future__ import annotations

import gc
from dataclasses import replace

import torch

from il_robot.algorithms.learner import Learner, train_step
from il_robot.algorithms.recipe import Training
from il_robot.algorithms.samples import Samples
from il_robot.errors import ConfigError


def is_out_of_memory(error: BaseException) -> bool:
    """Whether torch or Python could not allocate memory, on a GPU or a CPU."""
    if isinstance(error, (torch.cuda.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


def explain(learner: Learner, samples: Samples, config: Training, size: int) -> ConfigError:
    """The error that says which batch fits, found by steps with ever smaller halves.

    Args:
        learner: Of no use afterwards: its weights have taken those steps.
        samples: Of the run.
        config: Of the run.
        size: Processes of the team; several cannot be tried one by one.
    """
    tried = min(config.batch_size, len(samples.train))
    text = f'out of memory at training.batch_size={tried}'
    halves = [tried >> i for i in range(1, tried.bit_length())]
    if size > 1:
        return ConfigError(f'{text} with {size} processes: try {max(size, tried // 2)}')
    step = learner.step
    for half in halves:
        learner.policy.zero_grad()
        learner.order = learner.gathered = None
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        try:
            train_step(learner, samples, replace(config, batch_size=half))
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        else:
            return ConfigError(
                f'{text}; {half} fits (found by halving). Checkpoints are kept; another '
                f'batch_size is another run, with another learning_rate, too')
        finally:
            learner.step = step
    return ConfigError(f'{text}, and no smaller batch fits either: the policy is too large for '
                       f'this device; use a smaller model, or training.device=cpu')
