"""Video files of a dataset: encoding in a thread of its own while recording, and decoding."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from pathlib import Path

import av
import numpy as np

from il_robot.errors import DatasetError
from il_robot.types import UInt8


def decode(file: Path, clip_start: float, fps: float, start: int, stop: int) -> Iterator[UInt8]:
    """Frames ``[start, stop)`` of a clip that begins at ``clip_start`` [s] of a video file.

    Yields:
        ``(H, W, 3)`` uint8 RGB.

    Raises:
        DatasetError: missing, damaged, or the video ends early.
    """
    wanted = start
    try:
        with av.open(str(file), 'r') as container:
            stream = container.streams.video[0]
            stream.thread_type = 'AUTO' if stop - start > 8 else 'SLICE'
            if stream.time_base is None:
                raise DatasetError(f'{file} is damaged: no time base')
            seconds = clip_start + start / fps
            if seconds > 0:
                container.seek(int((seconds + 0.25 / fps) / stream.time_base), stream=stream)
            for frame in container.decode(stream):
                if wanted >= stop:
                    return
                position = round(((frame.time or 0.0) - clip_start) * fps)
                if position < wanted:
                    continue
                if position > wanted:
                    raise DatasetError(f'{file} lacks frame {wanted} of the clip')
                yield _rgb(frame)
                wanted += 1
    except (av.FFmpegError, IndexError, OSError) as error:
        raise DatasetError(f'cannot decode {file}: {error}') from None
    if wanted < stop:
        raise DatasetError(f'{file} ends after {wanted - start} of {stop - start} frames')


def decode_stills(pictures: Sequence[bytes], start: int, stop: int) -> Iterator[UInt8]:
    """The same for pictures kept as encoded bytes (LeRobot's dtype ``image``).

    Raises:
        DatasetError: a damaged picture.
    """
    for picture in pictures[start:stop]:
        try:
            with av.open(io.BytesIO(picture), 'r') as container:
                yield _rgb(next(container.decode(video=0)))
        except (av.FFmpegError, IndexError, StopIteration) as error:
            raise DatasetError(f'cannot decode a picture: {error!r}') from None


def _rgb(frame: av.VideoFrame) -> UInt8:
    return np.asarray(frame.to_ndarray(format='rgb24'), dtype=np.uint8)
