"""Pictures of recorded messages as RGB arrays."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from il_robot.errors import DatasetError
from il_robot.types import UInt8

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
    if rows.size != height * step or step < channels * width:
        raise DatasetError(f'{rows.size} bytes do not make {width} x {height} {message.encoding}')
    picture = rows.reshape(height, step)[:, :channels * width].reshape(height, width, channels)
    if channels == 1:
        return np.repeat(picture, 3, axis=2)
    if message.encoding.startswith('bgr'):
        picture = picture[..., 2::-1]
    return np.ascontiguousarray(picture[..., :3])
