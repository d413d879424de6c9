import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from il_robot.errors import ConfigError
from il_robot.policies import encoders
from il_robot.policies.encoders import CameraEncoder, EncoderConfig

SMALL = {'widths': (8, 8), 'keypoints': 5}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def pictures(count=4, steps=2, size=(24, 32), seed=0):
    return torch.randint(256, (count, steps, 3, *size), generator=generator(seed),
                         dtype=torch.uint8)


@pytest.mark.parametrize('network', ['cnn', 'resnet18'])
def test_shapes_and_gradients(network):
    torch.manual_seed(0)
    encoder = CameraEncoder(EncoderConfig(network, keypoints=5), (64, 96))
    x = torch.randn(2, 3, 64, 96)
    points = encoder(x)
    assert points.shape == (2, 10) == (2, encoder.channels)
    points.square().sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in encoder.parameters())
    maps = CameraEncoder(EncoderConfig(network, output='map'), (64, 96))
    assert maps(x).shape == (2, maps.channels, *maps.grid)
    assert maps.grid == ((16, 24) if network == 'cnn' else (2, 3))


def test_resnet18_is_torchvisions_with_group_norm():
    """Names and number of parameters of torchvision's without its classifier."""
    network = encoders.ResNet18()
    assert sum(p.numel() for p in network.parameters()) == 11_689_512 - 513_000
    names = set(network.state_dict())
    assert {'conv1.weight', 'bn1.bias', 'layer2.0.downsample.1.weight',
            'layer4.1.conv2.weight'} < names
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in network.modules())


def test_spatial_softmax_finds_a_dot():
    softmax = encoders.SpatialSoftmax((11, 21))
    maps = torch.zeros(1, 2, 11, 21)
    maps[0, 0, 0, 20] = maps[0, 1, 5, 5] = 50.0  # upper right corner; middle row, left
    torch.testing.assert_close(softmax(maps), torch.tensor([[1.0, -0.5, -1.0, 0.0]]))


def test_the_crop_is_a_part_drawn_by_the_generator_alone():
    images = pictures(64)
    first, again, other = (
        encoders.crop_pictures(images, (20, 28), generator(s)) for s in (1, 1, 2))
    assert first.shape == (64, 2, 3, 20, 28)
    assert torch.equal(first, again) and not torch.equal(first, other)
    places = set()
    for image, part in zip(images, first):
        found = [(y, x) for y in range(5) for x in range(5)
                 if torch.equal(image[..., y:y + 20, x:x + 28], part)]
        assert len(found) == 1  # both instants from one place
        places.add(found[0])
    assert len(places) > 15  # of 25
    middle = encoders.crop_pictures(images, (20, 28), None)
    assert torch.equal(middle, images[..., 2:22, 2:30])


def test_the_crop_is_the_same_in_whatever_order_the_bytes_lie():
    images = pictures()
    last = images.permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3)
    first, second = (encoders.crop_pictures(i, (20, 28), generator()) for i in (images, last))
    assert torch.equal(first, second)


def test_jitter_is_brightness_then_contrast_then_saturation():
    """Against the three steps one after the other."""
    images = (pictures(3, 1).float() * 0.4 + 60).to(torch.uint8)  # far from 0 and 255
    found = encoders.scaled(images, 0.2, generator())
    draw = torch.rand(3, 3, generator=generator())  # (samples, factors)
    luma = torch.tensor([0.299, 0.587, 0.114])
    mean, std = (torch.tensor(v)[:, None, None] for v in (encoders._MEAN, encoders._STD))
    for i, image in enumerate(images[:, 0].float() / 255):
        brightness, contrast, saturation = (1 + 0.2 * (2 * draw[i] - 1)).tolist()
        x = brightness * image
        x = contrast * x + (1 - contrast) * (luma @ x.flatten(1)).mean()
        x = saturation * x + (1 - saturation) * torch.einsum('c,chw->hw', luma, x)
        torch.testing.assert_close(found[i, 0], (x - mean) / std, rtol=1e-4, atol=1e-4)


def test_without_jitter_bytes_are_scaled_to_imagenet():
    white = encoders.scaled(torch.full((1, 1, 3, 2, 2), 255, dtype=torch.uint8))
    np.testing.assert_allclose(white[0, 0, :, 0, 0], [2.2489, 2.4286, 2.64], atol=1e-3)
    plain = encoders.scaled(pictures(), 0.3, None)
    assert torch.equal(plain, encoders.scaled(pictures()))


@pytest.mark.parametrize('suffix', ['safetensors', 'pth'])
def test_pretrained_weights_come_from_a_local_file(tmp_path, suffix):
    torch.manual_seed(0)
    theirs, ours = encoders.ResNet18(), encoders.ResNet18()
    weights = theirs.state_dict() | {
        'fc.weight': torch.zeros(1000, 512), 'bn1.running_mean': torch.zeros(64)}
    path = tmp_path / f'weights.{suffix}'
    save_file(weights, path) if suffix == 'safetensors' else torch.save(weights, path)
    encoders.load_pretrained(ours, str(path))
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters()))


def test_wrong_pretrained_files_are_told(tmp_path):
    network = encoders.ResNet18()
    with pytest.raises(ConfigError, match='no file.*nothing is downloaded'):
        encoders.load_pretrained(network, str(tmp_path / 'x.pth'))
    save_file({'conv1.weight': torch.zeros(1)}, tmp_path / 'other.safetensors')
    with pytest.raises(ConfigError, match='first conv1.weight'):
        encoders.load_pretrained(network, str(tmp_path / 'other.safetensors'))
    for name, content in (('text.pth', b'hello'), ('text.safetensors', b'hello')):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ConfigError, match=name):
            encoders.load_pretrained(network, str(tmp_path / name))
    torch.save(torch.nn.Linear(1, 1), tmp_path / 'code.pth')  # would run code
    with pytest.raises(ConfigError, match='no plain weights'):
        encoders.load_pretrained(network, str(tmp_path / 'code.pth'))


@pytest.mark.parametrize('values', [
    {'crop': 0.3}, {'jitter': 1.0}, {'widths': ()}, {'keypoints': 0}, {'pretrained': 'x.pth'}])
def test_bad_values_are_refused(values):
    with pytest.raises(ValueError, match=next(iter(values))):
        EncoderConfig(**values)


def test_pictures_too_small_for_the_network_are_told():
    with pytest.raises(ConfigError, match='larger image_size'):
        CameraEncoder(EncoderConfig('resnet18'), (32, 32))
