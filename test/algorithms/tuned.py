"""A cloned policy of the toy robot for the tests of reinforcement learning; importable."""

from toy import SPEC, toy_dataset

from il_robot.algorithms import bc
from il_robot.algorithms.recipe import make_recipe


def cloned(folder, policy='mlp', steps=300, episodes=12, **execution):
    """Train one; the folder of the run."""
    model = {'hidden': [32, 32], **({'chunk_size': 5} if policy == 'chunk_mlp' else {})}
    recipe = make_recipe({
        'policy': policy, 'model': model, 'execution': execution or {'mode': 'newest'},
        'training': {'steps': steps, 'batch_size': 64, 'warmup_steps': 5, 'validation': 0.0,
                     'actions': 'relative', 'threads': 1, 'checkpoint_every': steps}})
    bc.train(toy_dataset(episodes), recipe, folder, robot=SPEC)
    return folder
