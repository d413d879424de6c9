"""The imitation library's DAgger, to be measured by dagger_vs_imitation.py; in its environment.

    IMITATION_PYTHON benchmarks/imitation_dagger.py TARGET

Answers lines on stdin, ``SETTING SEED ROUNDS``, with one line of JSON: per round what
``pendulum.Clock`` noted of it, until TARGET is reached.
All is ``SimpleDAggerTrainer`` with ``BC`` as the library makes it (a net of 32 x 32, batch 32,
Adam, 3 episodes and at least 500 steps of each round, from which it goes on with its weights).
SETTING is ``KIND_SCHEDULE_RATE_EPOCHS``: SCHEDULE of the expert's share as in pendulum.py,
learning rate, and epochs of each round; with KIND ``quick`` nothing is logged, no rollouts are run
for the log, there is no progress bar, and the three episodes run at once; ``default`` leaves that
as it is. The library's defaults are ``default_linear_0.001_4``.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import tempfile
from importlib.metadata import version
from typing import Any

import gymnasium
import numpy as np
import pendulum
import torch
from imitation.algorithms.bc import BC
from imitation.algorithms.dagger import ExponentialBetaSchedule, SimpleDAggerTrainer
from imitation.data.wrappers import RolloutInfoWrapper
from imitation.util.logger import configure
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.vec_env import DummyVecEnv


class Expert(BasePolicy):
    """The scripted expert as the library wants it."""

    def _predict(self, observation: torch.Tensor, deterministic: bool = False) -> torch.Tensor:
        return torch.from_numpy(pendulum.expert(observation.cpu().numpy()))

    def forward(self, observation: torch.Tensor) -> torch.Tensor:
        """Torques ``(N, 1)``."""
        return self._predict(observation)


def run(setting: str, seed: int, most: int, target: float) -> pendulum.Rounds:
    """Rounds until the target is reached."""
    quick, schedule, rate, epochs = setting.split('_')
    training: dict[str, Any] = {'n_epochs': int(epochs)}
    if quick == 'quick':
        training |= {'progress_bar': False, 'log_rollouts_venv': None}
    logger = configure(format_strs=[]) if quick == 'quick' else None
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory() as folder:
        clock = pendulum.Clock(target)
        venv = DummyVecEnv([
            lambda: RolloutInfoWrapper(gymnasium.make('Pendulum-v1'))
            for _ in range(1 if quick == 'default' else pendulum.EPISODES)])
        venv.seed(1_000_000 * (seed + 1))
        bc = BC(observation_space=venv.observation_space, action_space=venv.action_space, rng=rng,
                optimizer_kwargs={'lr': float(rate)}, device='cpu', custom_logger=logger)
        trainer = SimpleDAggerTrainer(
            venv=venv, scratch_dir=folder, bc_trainer=bc, rng=rng,
            beta_schedule=ExponentialBetaSchedule(0.5) if schedule == 'exponential' else None,
            expert_policy=Expert(venv.observation_space, venv.action_space),
            custom_logger=logger)
        for _ in range(most):
            # one round: it ends with the first whose steps are enough
            trainer.train(1, rollout_round_min_episodes=pendulum.EPISODES,
                          bc_train_kwargs=training)
            if clock.reached(lambda seen: trainer.policy.predict(seen, deterministic=True)[0]):
                break
        return clock.rounds


def main() -> None:
    """Answer until stdin ends."""
    target = float(sys.argv[1])
    torch.set_num_threads(1)
    logging.disable()
    answers = os.fdopen(os.dup(1), 'w')
    os.dup2(2, 1)  # progress bars
    print(json.dumps({
        **{name: version(name)
           for name in ('imitation', 'stable_baselines3', 'gymnasium', 'torch', 'numpy')},
        'difference': pendulum.differences(gymnasium.make('Pendulum-v1')),
    }), file=answers, flush=True)
    for line in sys.stdin:
        setting, seed, most = line.split()
        print(json.dumps(run(setting, int(seed), int(most), target)), file=answers, flush=True)


if __name__ == '__main__':
    main()
