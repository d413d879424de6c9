import numpy as np
import pytest
import torch

from il_robot.policies.keypoints import STRIDE, HeatMaps, classify, grid_of, locate

SIZE = (64, 80)
H, W = grid_of(SIZE)
WIDTHS = (4, 6, 6, 6)
RADIUS = 2 + 2 + 4 + 8  # receptive field of WIDTHS: this many pixels to each side


@pytest.fixture()
def network():
    torch.manual_seed(0)
    return HeatMaps(3, WIDTHS).eval()


def maps(network, picture):
    with torch.no_grad():
        return network(picture)[..., :-1].unflatten(-1, (H, W))


def test_maps_shift_with_the_picture(network):
    picture = torch.randn(1, 3, *SIZE)
    moved = torch.roll(picture, (STRIDE, 2 * STRIDE), (2, 3))
    inside = slice(6, -6)
    torch.testing.assert_close(
        maps(network, moved)[..., inside, inside],
        torch.roll(maps(network, picture), (1, 2), (2, 3))[..., inside, inside],
        atol=1e-5, rtol=1e-4)


def test_nothing_beyond_the_receptive_field_matters(network):
    picture = torch.randn(1, 3, *SIZE)
    y, x = 8, 10
    other = torch.randn(1, 3, *SIZE)
    near = (slice(STRIDE * y - RADIUS, STRIDE * y + RADIUS + 1),
            slice(STRIDE * x - RADIUS, STRIDE * x + RADIUS + 1))
    other[(..., *near)] = picture[(..., *near)]
    first, second = (maps(network, p)[..., y, x] for p in (picture, other))
    torch.testing.assert_close(first, second, atol=1e-5, rtol=1e-5)
    other[..., STRIDE * y, STRIDE * x] += 5
    assert not torch.allclose(maps(network, other)[..., y, x], first)


def marks(count=40, seed=0):
    rng = np.random.default_rng(seed)
    image = rng.uniform([-1.1, -0.85], [1.1, 0.85], (count, 3, 2))
    return torch.from_numpy(np.concatenate([image, np.ones((count, 3, 1))], -1)).float()


def ideal(wanted):
    """The logits that the cross-entropy asks for."""
    logits = torch.zeros(len(wanted), 3, H * W + 1, requires_grad=True)
    classify(logits, wanted, SIZE).sum().backward()
    share = 1 / (H * W + 1) - logits.grad  # of the softmax of zeros
    return share.clamp_min(1e-12).log()


def test_what_was_learned_is_located():
    """The ideal map of a mark between cells has its mean exactly there."""
    wanted = marks()
    image, information = locate(ideal(wanted), SIZE)
    np.testing.assert_allclose(image, wanted[..., :2].numpy(), atol=1e-4)
    assert np.linalg.eigvalsh(information).min() > 100


def test_what_is_out_of_view_says_nothing():
    wanted = marks()
    seen = locate(ideal(wanted), SIZE)[1]
    outside, behind = wanted.clone(), wanted.clone()
    outside[..., 0] = 2.0
    behind[..., 2] = -1.0
    for gone in (outside, behind):
        information = locate(ideal(gone), SIZE)[1]
        assert np.abs(information).max() < 1e-3 < 100 < np.linalg.eigvalsh(seen).min()


def test_two_places_are_half_as_sure_and_less():
    wanted = marks()
    both = torch.logaddexp(ideal(wanted), ideal(wanted.flip(0)))
    alone, split = (np.linalg.det(locate(each, SIZE)[1]) for each in (ideal(wanted), both))
    far = np.linalg.norm((wanted - wanted.flip(0))[..., :2].numpy(), axis=-1) > 0.5
    ratio = split / np.stack([alone, alone[::-1]])  # either of both is the peak
    assert np.isclose(ratio, 1 / 16, rtol=1e-2).any(0)[far].all()
