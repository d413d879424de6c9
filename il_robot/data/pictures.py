"""Pictures of recorded messages as RGB arrays, and their size."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from il_robot.errors import DatasetError
from il_robot.types import UInt8

#: Relative difference of the ratio of width to height that nobody sees in a picture.
_RATIO = 0.02
_CHANNELS = {'rgb8': 3, 'bgr8': 3, 'rgba8': 4, 'bgra8': 4, 'mono8': 1}


def decode_picture(data: bytes) -> UInt8:
    """``(H, W, 3)`` RGB of a JPEG or PNG file in memory.

    Raises:
        DatasetError: it cannot be decoded.
    """
    try:
        with Image.open(io.BytesIO(data)) as picture:
            return np.asarray(picture.convert('RGB'), dtype=np.uint8)
    except (OSError, UnidentifiedImageError, ValueError) as error:
        raise DatasetError(f'a picture cannot be decoded: {error}') from None


def raw_picture(message: Any) -> UInt8:
    """``(H, W, 3)`` RGB of a decoded ``sensor_msgs/Image``.

    Raises:
        DatasetError: an encoding that is not read, or a size that does not fit the data.
    """
    channels = _CHANNELS.get(message.encoding)
    if channels is None:
        raise DatasetError(
            f'encoding {message.encoding!r} is not read; use one of {", ".join(_CHANNELS)}')
    rows = np.frombuffer(message.data, np.uint8)
    height, width, step = message.height, message.width, message.step
    if not height or not width or rows.size != height * step or step < channels * width:
        raise DatasetError(f'{rows.size} bytes do not make {width} x {height} {message.encoding}')
    picture = rows.reshape(height, step)[:, :channels * width].reshape(height, width, channels)
    if channels == 1:
        return np.repeat(picture, 3, axis=2)
    if message.encoding.startswith('bgr'):
        picture = picture[..., 2::-1]
    return np.ascontiguousarray(picture[..., :3])


def resized(picture: UInt8, size: tuple[int, int]) -> UInt8:
    """A picture ``(H, W, 3)`` made smaller, every pixel the weighted mean of those it covers.

    The one function for pictures in training and in running: equal pictures give equal bytes.

    Args:
        picture: At least as large as ``size``; returned as it is where it has that size.
        size: Height and width [px] wanted.

    Raises:
        DatasetError: it would have to grow, or to change its shape.
    """
    if picture.shape[:2] == size:
        return picture
    why = misfit((picture.shape[0], picture.shape[1]), size)
    if why:
        raise DatasetError(why)
    return np.asarray(
        Image.fromarray(picture).resize(size[::-1], Image.Resampling.BILINEAR), dtype=np.uint8)


def misfit(have: tuple[int, int], want: tuple[int, int]) -> str:
    """Why pictures of height and width ``have`` cannot become ``want``, or an empty string."""
    (height, width), (h, w) = have, want
    shown = f'pictures of {width} x {height} (width x height) cannot become {w} x {h}: '
    if h > height or w > width:
        return shown + 'they would have to grow'
    if abs(w * height - h * width) > _RATIO * h * width:
        right = round(w * height / width)
        return shown + f'they would be distorted; of this shape is {w} x {right}'
    return ''
