"""What is done to pictures before they are encoded: a part is cut out, bytes become numbers.

In training the part lies at random (Chi et al., "Diffusion Policy", RSS 2023, section III-B) and
the colours change, both drawn from the generator passed in, on its device. Running, the middle is
seen and no colour changes.
"""

from __future__ import annotations

import torch

from il_robot.policies.policy import draw_rows

#: Of ImageNet, red, green, blue, on a scale from 0 to 1: what pretrained weights expect.
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_LUMA = (0.299, 0.587, 0.114)


def cropped_size(size: tuple[int, int], crop: float) -> tuple[int, int]:
    """``(h, w)`` of the part seen of a picture ``(H, W)``."""
    return round(size[0] * crop), round(size[1] * crop)


def crop_pictures(
    pictures: torch.Tensor, size: tuple[int, int], generator: torch.Generator | None,
    part: torch.Tensor | None = None,
) -> torch.Tensor:
    """A part of each picture.

    Args:
        pictures: ``(B, T, 3, H, W)``.
        size: ``(h, w)`` of the part.
        generator: Draws where the part lies, one place per sample, the same at all its T
            instants; None takes the middle.
        part: The batch's ``part``, see :func:`il_robot.policies.policy.draw_rows`.

    Returns:
        ``(B, T, 3, h, w)``.
    """
    h, w = size
    spare_y, spare_x = pictures.shape[3] - h, pictures.shape[4] - w
    if generator is None:
        top, left = spare_y // 2, spare_x // 2
        return pictures[..., top:top + h, left:left + w]

    def places(spare: int) -> torch.Tensor:
        return draw_rows(len(pictures), part, lambda n: torch.randint(
            spare + 1, (n,), generator=generator, device=pictures.device))

    y, x = places(spare_y), places(spare_x)
    sample = torch.arange(len(pictures), device=pictures.device)
    parts = pictures.unfold(3, h, 1).unfold(4, w, 1)  # a view: (B, T, 3, rows, columns, h, w)
    return parts[sample, :, :, y, x]


def scaled(
    pictures: torch.Tensor, jitter: float = 0.0, generator: torch.Generator | None = None,
    part: torch.Tensor | None = None,
) -> torch.Tensor:
    """Bytes to numbers of ImageNet's mean 0 and deviation 1, with the colours changed.

    Brightness, contrast and saturation, in this order, by a factor each, drawn per sample from
    [1 - jitter, 1 + jitter]. All three are linear in a pixel's colour, so that they cost one
    3 x 3 matrix and one offset per sample.

    Args:
        pictures: ``(B, T, 3, h, w)`` uint8.
        jitter: See :class:`~il_robot.policies.encoders.EncoderConfig`.
        generator: None changes no colour.
        part: The batch's ``part``, see :func:`il_robot.policies.policy.draw_rows`.

    Returns:
        ``(B, T, 3, h, w)`` float32.
    """
    x = pictures.float() / 255
    mean, std = (x.new_tensor(v)[:, None, None] for v in (_MEAN, _STD))
    if jitter and generator is not None:
        draw = draw_rows(len(x), part, lambda n: torch.rand(
            n, 3, 1, 1, generator=generator, device=x.device)).transpose(0, 1)
        brightness, contrast, saturation = 1 + jitter * (2 * draw - 1)  # (B, 1, 1) each
        luma = x.new_tensor(_LUMA)
        grey = brightness * (x.mean((1, 3, 4)) @ luma)[:, None, None]  # (B, 1, 1)
        eye = torch.eye(3, device=x.device)
        # saturation keeps the grey of a pixel, so it does not touch contrast's offset
        matrix = brightness * contrast * (
            saturation * eye + (1 - saturation) * luma.expand(3, 3))  # (B, 3, 3)
        x = torch.einsum('bij,btjhw->btihw', matrix, x)
        x = (x + ((1 - contrast) * grey)[:, :, None, None]).clamp(0, 1)
    return (x - mean) / std
