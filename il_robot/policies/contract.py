"""What every policy must satisfy; for the tests of a new method.

    from il_robot.policies.contract import CHECKS
    for check in CHECKS:
        check(make_policy, device)

where ``make_policy()`` builds a small one with fresh weights for the layout :data:`LAYOUT` and
actions of :data:`ACTION_DIM` numbers. Each check raises AssertionError with what went wrong.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from il_robot.policies.features import FeatureLayout
from il_robot.policies.observation import ImagePolicy, without_targets
from il_robot.policies.policy import IMAGES, Batch, Policy

LAYOUT = FeatureLayout(('a', 'b', 'c', 'd'), ('cube',))
ACTION_DIM = 4

MakePolicy = Callable[[], Policy]


def random_batch(policy: Policy, size: int, device: str = 'cpu', seed: int = 0) -> Batch:
    """A training batch of normalised noise and noisy pictures, if the policy wants any.

    Every other window is padded at its end.
    """
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(size, policy.n_obs_steps, LAYOUT.dim, generator=generator)
    action = torch.randn(size, policy.chunk_size, ACTION_DIM, generator=generator)
    padded = torch.zeros(size, policy.chunk_size, dtype=torch.bool)
    padded[::2, max(1, policy.chunk_size // 2):] = True
    batch = {'features': features, 'action': action, 'is_pad': padded}
    if isinstance(policy, ImagePolicy):
        config = policy.encoder.config
        for camera in config.cameras:
            shape = (size, policy.n_obs_steps, 3, *config.image_size)
            batch[IMAGES + camera] = torch.randint(
                256, shape, generator=generator, dtype=torch.uint8)
    return {key: value.to(device) for key, value in batch.items()}


def _generator(device: str, seed: int = 0) -> torch.Generator:
    return torch.Generator(device).manual_seed(seed)


def check_shapes(make_policy: MakePolicy, device: str = 'cpu') -> None:
    """Batches of 1 and of n; a finite scalar loss; (B, T, D) predictions."""
    policy = make_policy().to(device)
    for size in (1, 5):
        batch = random_batch(policy, size, device)
        losses = policy.loss(batch, _generator(device))
        assert 'loss' in losses, f'loss() must return an entry "loss", got {sorted(losses)}'
        for name, value in losses.items():
            assert value.shape == () and torch.isfinite(value), f'{name} is {value}'
        action = policy.eval().predict(without_targets(batch), _generator(device))
        expected = (size, policy.chunk_size, ACTION_DIM)
        assert action.shape == expected, f'predict gave {tuple(action.shape)}, not {expected}'


def check_determinism(make_policy: MakePolicy, device: str = 'cpu') -> None:
    """The same seed gives the same prediction, and the same loss and gradients."""
    policy = make_policy().to(device)
    batch = random_batch(policy, 3, device)

    def gradients() -> list[torch.Tensor]:
        torch.manual_seed(0)  # dropout
        policy.train().zero_grad()
        policy.loss(batch, _generator(device, 7))['loss'].backward()
        return [p.grad.clone() for p in policy.parameters() if p.grad is not None]

    assert all(torch.equal(a, b) for a, b in zip(gradients(), gradients())), 'gradients differ'
    policy.eval()
    first, second = (policy.predict(batch, _generator(device, 7)) for _ in range(2))
    assert torch.equal(first, second), 'two predictions with one seed differ'


def check_noise(make_policy: MakePolicy, device: str = 'cpu') -> None:
    """All randomness is in the noise drawn: the forward pass is a function of its arguments."""
    policy = make_policy().to(device).eval()
    batch = without_targets(random_batch(policy, 3, device))
    generator = _generator(device, 7)
    noise = policy.draw(3, generator)
    assert noise.ndim == 2 and len(noise) == 3, f'draw(3) gave {tuple(noise.shape)}, not (3, N)'
    expected = policy.predict(batch, _generator(device, 7))
    for seed in (0, 1):
        torch.manual_seed(seed)
        found = policy(batch, noise)
        assert torch.equal(found, expected), 'forward(batch, draw()) is not predict(batch)'


def check_batch_independence(make_policy: MakePolicy, device: str = 'cpu') -> None:
    """A window's prediction does not depend on its neighbours in the batch."""
    policy = make_policy().to(device).eval()
    batch, others = (
        without_targets(random_batch(policy, 4, device, seed)) for seed in (0, 1))
    for key, value in batch.items():
        others[key][0] = value[0]
    first, second = (policy.predict(b, _generator(device))[0] for b in (batch, others))
    assert torch.allclose(first, second, atol=1e-5), 'the prediction depends on the batch'


def check_gradients(make_policy: MakePolicy, device: str = 'cpu') -> None:
    """The loss reaches every trainable parameter."""
    policy = make_policy().to(device).train()
    policy.loss(random_batch(policy, 8, device), _generator(device))['loss'].backward()
    dead = [
        name for name, p in policy.named_parameters()
        if p.requires_grad and (p.grad is None or not p.grad.abs().sum() > 0)
    ]
    assert not dead, f'no gradient reaches {", ".join(dead)}'


def check_closed_form(make_policy: MakePolicy, device: str = 'cpu') -> None:
    """A gradient in closed form, where the policy has one, is that of its loss."""
    policy = make_policy().to(device).train()
    closed_form = policy.closed_form()
    if closed_form is None:
        return
    for size in (5, 3, 5):  # what it keeps for one size must not disturb another
        batch = random_batch(policy, size, device, seed=size)
        batch['weight'] = torch.linspace(0, 2, size, device=device)
        found, gradients = closed_form(batch, _generator(device))
        policy.zero_grad()
        losses = policy.loss(batch, _generator(device))
        losses['loss'].backward()
        assert found.keys() == losses.keys(), f'losses are {sorted(found)}, not {sorted(losses)}'
        for name, value in losses.items():
            assert torch.allclose(found[name], value), f'{name} is {found[name]}, not {value}'
        for (name, parameter), gradient in zip(policy.named_parameters(), gradients, strict=True):
            assert parameter.grad is not None and gradient is not None, f'{name} has no gradient'
            assert torch.allclose(gradient, parameter.grad, 1e-4, 1e-7), f'{name} differs'


def check_padding(make_policy: MakePolicy, device: str = 'cpu') -> None:
    """Targets behind the episode's end change neither the loss nor the gradient."""
    policy = make_policy().to(device).eval()
    batch = random_batch(policy, 4, device)
    garbage = {**batch, 'action': batch['action'].clone()}
    garbage['action'][batch['is_pad']] = 1e3
    first, second = (policy.loss(b, _generator(device))['loss'] for b in (batch, garbage))
    assert torch.allclose(first, second), f'padding counts: loss {first} became {second}'


def check_weights(make_policy: MakePolicy, device: str = 'cpu') -> None:
    """A sample of weight zero does not count."""
    policy = make_policy().to(device).eval()
    batch = random_batch(policy, 4, device)
    batch['weight'] = torch.tensor([1.0, 1.0, 1.0, 0.0], device=device)
    garbage = {**batch, 'action': batch['action'].clone()}
    garbage['action'][3] = 1e3
    first, second = (policy.loss(b, _generator(device))['loss'] for b in (batch, garbage))
    assert torch.allclose(first, second), 'a sample of weight 0 changes the loss'


def check_round_trip(make_policy: MakePolicy, device: str = 'cpu') -> None:
    """The state dict is all there is: loaded into another instance it acts the same."""
    policy, other = make_policy().to(device).eval(), make_policy().to(device).eval()
    other.load_state_dict(policy.state_dict())
    batch = random_batch(policy, 2, device)
    first, second = (p.predict(batch, _generator(device)) for p in (policy, other))
    assert torch.equal(first, second), 'something that acts is missing from the state dict'


def check_overfit(
    make_policy: MakePolicy, device: str = 'cpu', steps: int = 400, share: float = 0.25
) -> None:
    """Eight windows are learned: the loss falls below ``share`` of where it began."""
    policy = make_policy().to(device).train()
    batch = random_batch(policy, 8, device)
    optimizer = torch.optim.Adam(policy.parameters(), 3e-3)
    generator = _generator(device)
    history = []
    for _ in range(steps):
        loss = policy.loss(batch, generator)['loss']
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        history.append(float(loss.detach()))
    first, last = history[0], sum(history[-20:]) / 20
    assert last < share * first, f'loss only went from {first:.3g} to {last:.3g}'


CHECKS = (
    check_shapes, check_determinism, check_noise, check_batch_independence, check_gradients,
    check_closed_form, check_padding, check_weights, check_round_trip, check_overfit,
)
