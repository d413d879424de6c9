"""Run by torchrun in test_team.py: trains every policy named, in one process group.

    torchrun --nproc-per-node 2 team_worker.py FOLDER POLICY [POLICY ...]
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import toy

from il_robot.algorithms import bc
from il_robot.algorithms.recipe import make_recipe
from il_robot.algorithms.team import ALONE, join_team

ACT = {'chunk_size': 4, 'dim': 8, 'heads': 2, 'feedforward': 16, 'encoder_layers': 1,
       'posterior_layers': 1, 'latent_dim': 2, 'dropout': 0.0}
FLOW = {'chunk_size': 4, 'width': 16, 'depth': 1, 'time_dim': 4}
MODELS = {
    'mlp': {'hidden': [16]},
    'mlp_gaussian': {'hidden': [16]},
    'mlp_gmm': {'hidden': [16], 'modes': 2},
    'chunk_mlp': {'hidden': [16], 'chunk_size': 4},
    'act': ACT,
    'flow': FLOW,
    'diffusion': {'chunk_size': 4, 'widths': [8], 'groups': 4, 'time_dim': 4, 'kernel_size': 3},
    'ensemble': {'policy': 'flow', 'size': 2, 'model': FLOW},
    'residual': {'model': {'hidden': [16], 'chunk_size': 4}, 'hidden': [16]},
}


def recipe(policy):
    """An odd batch, so that the parts are of unequal size; every kind of noise."""
    return make_recipe({'policy': policy, 'model': MODELS[policy], 'training': {
        'steps': 60, 'batch_size': 33, 'warmup_steps': 10, 'log_every': 20, 'validation': 0.2,
        'feature_noise': 0.05, 'ema_decay': 0.99, 'device': 'cpu', 'threads': 1}})


def run(folder, policies, team=ALONE):
    """60 steps of each, interrupted after 30."""
    dataset = toy.toy_dataset(6)
    for policy in policies:
        left = iter([False] * 30)
        output = folder / policy
        stopped = bc.train(dataset, recipe(policy), output, team=team,
                           should_stop=lambda left=left: next(left, True))
        assert stopped.step == 30
        result = bc.train(dataset, recipe(policy), output, team=team, resume=True)
        assert result.finished and result.checkpoint.exists() >= team.leads


if __name__ == '__main__':
    with join_team() as our_team:
        run(Path(sys.argv[1]), sys.argv[2:], our_team)
