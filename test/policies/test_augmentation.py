import numpy as np
import torch

from il_robot.policies import augmentation


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def pictures(count=4, steps=2, size=(24, 32), seed=0):
    return torch.randint(256, (count, steps, 3, *size), generator=generator(seed),
                         dtype=torch.uint8)


def test_the_crop_is_a_part_drawn_by_the_generator_alone():
    images = pictures(64)
    first, again, other = (
        augmentation.crop_pictures(images, (20, 28), generator(s)) for s in (1, 1, 2))
    assert first.shape == (64, 2, 3, 20, 28)
    assert torch.equal(first, again) and not torch.equal(first, other)
    places = set()
    for image, part in zip(images, first):
        found = [(y, x) for y in range(5) for x in range(5)
                 if torch.equal(image[..., y:y + 20, x:x + 28], part)]
        assert len(found) == 1  # both instants from one place
        places.add(found[0])
    assert len(places) > 15  # of 25
    middle = augmentation.crop_pictures(images, (20, 28), None)
    assert torch.equal(middle, images[..., 2:22, 2:30])


def test_the_crop_is_the_same_in_whatever_order_the_bytes_lie():
    images = pictures()
    last = images.permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3)
    first, second = (augmentation.crop_pictures(i, (20, 28), generator()) for i in (images, last))
    assert torch.equal(first, second)


def test_jitter_is_brightness_then_contrast_then_saturation():
    """Against the three steps one after the other."""
    images = (pictures(3, 1).float() * 0.4 + 60).to(torch.uint8)  # far from 0 and 255
    found = augmentation.scaled(images, 0.2, generator())
    draw = torch.rand(3, 3, generator=generator())  # (samples, factors)
    luma = torch.tensor([0.299, 0.587, 0.114])
    mean, std = (torch.tensor(v)[:, None, None] for v in (augmentation._MEAN, augmentation._STD))
    for i, image in enumerate(images[:, 0].float() / 255):
        brightness, contrast, saturation = (1 + 0.2 * (2 * draw[i] - 1)).tolist()
        x = brightness * image
        x = contrast * x + (1 - contrast) * (luma @ x.flatten(1)).mean()
        x = saturation * x + (1 - saturation) * torch.einsum('c,chw->hw', luma, x)
        torch.testing.assert_close(found[i, 0], (x - mean) / std, rtol=1e-4, atol=1e-4)


def test_without_jitter_bytes_are_scaled_to_imagenet():
    white = augmentation.scaled(torch.full((1, 1, 3, 2, 2), 255, dtype=torch.uint8))
    np.testing.assert_allclose(white[0, 0, :, 0, 0], [2.2489, 2.4286, 2.64], atol=1e-3)
    plain = augmentation.scaled(pictures(), 0.3, None)
    assert torch.equal(plain, augmentation.scaled(pictures()))
