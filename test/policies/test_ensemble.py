import pytest
import torch

from il_robot.algorithms.recipe import make_recipe
from il_robot.config import to_dict
from il_robot.errors import ConfigError
from il_robot.policies.contract import ACTION_DIM, LAYOUT, random_batch
from il_robot.policies.ensemble import EnsemblePolicy, spread
from il_robot.policies.registry import POLICIES, make_policy, model_config

# Small ones, where the defaults would take long.
SMALL = {'diffusion': {'widths': [8], 'ddim_steps': 2}}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def make(name='chunk_mlp', model=None, **values):
    torch.manual_seed(0)
    values = {'policy': name, 'model': model or {}, **values}
    return make_policy('ensemble', model_config('ensemble', values, 'test'), LAYOUT, ACTION_DIM)


@pytest.mark.parametrize('name', sorted(set(POLICIES) - {'ensemble'}))
def test_any_policy_can_be_a_member_and_equal_ones_have_no_variance(name):
    policy = make(name, SMALL.get(name), size=3).eval()
    for other in policy.policies[1:]:
        other.load_state_dict(policy.policies[0].state_dict())
    features = {'features': random_batch(policy, 2)['features']}
    chunks = policy.members(features, policy.draw(2, generator()))
    assert chunks.shape == (3, 2, policy.chunk_size, ACTION_DIM)
    together = spread(chunks)
    assert together.variance.eq(0).all() and together.disagreement.eq(0).all()
    alone = policy.policies[0].predict(features, generator())
    torch.testing.assert_close(policy.predict(features, generator()), alone)


def test_members_begin_apart_and_the_mean_is_predicted():
    policy = make('flow', {'chunk_size': 4, 'width': 16}).eval()
    batch = random_batch(policy, 3)
    chunks = policy.members(batch, policy.draw(3, generator()))
    together = spread(chunks)
    assert (together.disagreement > 0).all() and together.disagreement.shape == (3, 4)
    torch.testing.assert_close(policy.predict(batch, generator()), together.mean)


def test_spread_of_known_chunks():
    chunks = torch.tensor([1.0, 3.0])[:, None, None, None] * torch.ones(2, 1, 2, 4)
    chunks[:, :, 1] = 5.0  # the second step is agreed on
    together = spread(chunks)
    assert together.mean[0, :, 0].tolist() == [2, 5]
    assert together.variance[0, :, 0].tolist() == [2, 0]
    torch.testing.assert_close(together.disagreement, torch.tensor([[2.0, 0.0]]).sqrt())


def test_a_second_prediction_has_new_noise():
    policy = make('flow', {'chunk_size': 4, 'width': 16}, size=2).eval()
    random, batch = generator(), random_batch(policy, 2)
    first, second = (policy.predict(batch, random) for _ in range(2))
    assert not torch.equal(first, second)


def test_loss_is_the_sum_and_gives_each_member_its_own_gradient():
    policy = make('chunk_mlp', {'hidden': [8], 'chunk_size': 3}, size=3, share=1.0)
    batch = random_batch(policy, 6)
    policy.loss(batch, generator())['loss'].backward()
    alone = []
    for member in policy.policies:
        gradients = [p.grad.clone() for p in member.parameters()]
        member.zero_grad()
        alone.append(member.loss(batch, generator())['loss'])
        alone[-1].backward()
        for gradient, parameter in zip(gradients, member.parameters()):
            torch.testing.assert_close(gradient, parameter.grad)
    torch.testing.assert_close(policy.loss(batch, generator())['loss'], sum(alone))


def test_each_member_learns_from_samples_of_its_own():
    policy = make('chunk_mlp', {'hidden': [8], 'chunk_size': 3}, size=2, share=0.5)
    batch, random = random_batch(policy, 1000), generator()
    batch['weight'] = torch.arange(1000.0)
    parts = [policy._part(batch, random)['weight'] for _ in range(2)]
    for weight in parts:
        kept = weight > 0
        assert 400 < kept.sum() < 600
        assert torch.equal(weight[kept], batch['weight'][kept])
    assert 150 < ((parts[0] > 0) & (parts[1] > 0)).sum() < 350


def test_its_recipe_has_every_key_of_its_members():
    recipe = make_recipe({'policy': 'ensemble', 'model': {'policy': 'flow'}},
                         ['model.size=3', 'model.model.width=32'])
    assert recipe.model['size'] == 3 and recipe.model['model']['width'] == 32
    assert recipe.model['model'] == {**to_dict(POLICIES['flow'][0]()), 'width': 32}


def test_a_share_of_everything_is_the_batch_itself():
    policy = EnsemblePolicy(list(make(size=2).policies), 1.0)
    batch = random_batch(policy, 2)
    assert policy._part(batch, generator()) is batch


@pytest.mark.parametrize(('values', 'message'), [
    ({'size': 1}, 'cannot disagree'),
    ({'share': 0.0}, 'share'),
    ({'share': 1.5}, 'share'),
    ({'policy': 'ensemble'}, 'ensemble of ensembles'),
    ({'policy': 'chunk_mpl'}, "did you mean 'chunk_mlp'"),
    ({'policy': 'flow', 'model': {'hidden': [3]}}, 'hidden belongs to policy mlp'),
    ({'model': {'chunk_size': 0}}, 'chunk_size'),
])
def test_bad_configurations_are_refused(values, message):
    with pytest.raises(ConfigError, match=message):
        model_config('ensemble', values, 'test')
