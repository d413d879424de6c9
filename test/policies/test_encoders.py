import pytest
import torch
from safetensors.torch import save_file

from il_robot.errors import ConfigError
from il_robot.policies import encoders
from il_robot.policies.encoders import CameraEncoder, EncoderConfig

SMALL = {'widths': (8, 8), 'keypoints': 5}


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
