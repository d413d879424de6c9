"""What a policy does in evaluation: the reference for the same episode over topics."""

import numpy as np

import il_robot.sim as sim
from il_robot.algorithms.controller import PolicyFactory
from il_robot.algorithms.evaluate import as_observation
from il_robot.checkpoints import camera_arguments
from il_robot.config import build
from il_robot.control.chunks import Execution
from il_robot.policies.checkpoint import load_checkpoint


def states_in_process(checkpoint, seed, count, execution=None):
    """The joint states of the first ``count`` steps of transfer_cube, ``(count, D)``.

    Executed as the checkpoint says, or otherwise.
    """
    description, _ = load_checkpoint(checkpoint)
    spec = description.robot
    env = sim.make('transfer_cube', **camera_arguments(description.recorded, spec))
    executed = execution or build(Execution, description.execution)
    controller = PolicyFactory(checkpoint, executed)(env)
    observation, _ = env.reset(seed=seed)
    controller.reset(np.random.default_rng([seed, 1]))  # as evaluation seeds it
    states = []
    for k in range(count):
        states.append(observation['state'])
        observation, *_ = env.step(controller.act(as_observation(observation, k * spec.dt)))
    env.close()
    return np.array(states)
