import pytest
import torch

from il_robot.policies.unet import UNet1d


def make(widths, channels=3):
    torch.manual_seed(0)
    net = UNet1d(channels, widths, 3, 4)
    return net, torch.randn(2, net.film_dim)


@pytest.mark.parametrize('widths', [(8,), (8, 16), (8, 16, 4)])
@pytest.mark.parametrize('length', [1, 2, 5, 8, 13])
def test_any_length_goes_in_and_comes_out(widths, length):
    net, film = make(widths)
    assert net(torch.randn(2, 3, length), film).shape == (2, 3, length)


def test_padding_with_zeros_by_hand_is_the_same():
    net, film = make((8, 8, 8))
    x = torch.randn(2, 3, 6)
    padded = torch.cat([x, torch.zeros(2, 3, 2)], -1)
    torch.testing.assert_close(net(x, film), net(padded, film)[..., :6])


def test_every_step_and_every_modulation_reaches_the_output():
    net, film = make((8, 16, 8))
    x = torch.randn(2, 3, 8, requires_grad=True)
    film.requires_grad_()
    net(x, film)[:, :, 0].sum().backward()
    assert (x.grad.abs().amax((0, 1)) > 0).all()
    assert (film.grad.abs().amax(0) > 0).all()
