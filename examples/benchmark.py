"""Your own environment in the benchmark: all it needs is an expert.

    python examples/benchmark.py [--seeds 0 1 2] [--output outputs/benchmark_example]

The same from the command line, with this file on PYTHONPATH:
    il_robot bench --env benchmark:Hill --expert benchmark:expert --output outputs/mine
"""

import argparse

import gymnasium as gym
import numpy as np

from il_robot.apps.main import main as il_robot


class Hill(gym.Env):
    """A weak engine pushes a cart to the top of a hill and holds it there."""

    action_space = gym.spaces.Box(-1, 1, (1,), np.float32)
    observation_space = gym.spaces.Box(-5, 5, (2,), np.float32)

    def reset(self, *, seed=None, options=None):
        """Somewhere at the foot, at rest."""
        super().reset(seed=seed)
        self.x, self.v, self.steps = self.np_random.uniform(-1.5, -0.5), 0.0, 0
        return np.array([self.x, self.v], np.float32), {}

    def step(self, action):
        """The cost is how far the top is, and how fast the cart."""
        self.v += 0.1 * (1.5 * float(action[0]) + np.sin(2 * self.x)) - 0.02 * self.v
        self.x += 0.1 * self.v
        self.steps += 1
        cost = abs(self.x) + 0.1 * abs(self.v)
        return np.array([self.x, self.v], np.float32), -cost, False, self.steps >= 100, {}


def expert(env, obs):
    """A spring to the top, and damping."""
    return np.clip([-2.5 * obs[0] - 1.5 * obs[1]], -1, 1)


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--seeds', nargs='*', default=['0', '1', '2'])
    parser.add_argument('--methods', nargs='*', default=['bc', 'dagger', 'bc_ppo'])
    parser.add_argument('--output', default='outputs/benchmark_example')
    args = parser.parse_args()
    raise SystemExit(il_robot([
        'bench', '--env', 'benchmark:Hill', '--expert', 'benchmark:expert', '--methods',
        *args.methods, '--seeds', *args.seeds, '--output', args.output]))
