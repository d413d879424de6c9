"""Video files of a dataset: encoding in a thread of its own while recording, and decoding."""

from __future__ import annotations

import io
import math
import queue
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from il_robot.data.features import PIXEL_FORMAT
from il_robot.data.stats import ColumnStats, image_stats
from il_robot.errors import DatasetError
from il_robot.types import UInt8

#: Every second frame is a key frame (LeRobot's choice: training reads frames at random), no
#: B-frames and no look-ahead, so that the first time stamp is 0 and little is left to do when
#: an episode ends. ``ultrafast`` costs 2 to 3 ms for 640 x 480, a third of ``veryfast``.
ENCODER_OPTIONS = {
    'preset': 'ultrafast', 'tune': 'zerolatency', 'crf': '23', 'g': '2', 'bf': '0',
}
#: Frames waiting for one encoder; beyond it :meth:`VideoEncoder.put` waits. Never dropped.
QUEUE_BYTES = 48_000_000
#: Pictures per second that enter the statistics, every ``STRIDE``-th pixel of them.
STATS_RATE, STATS_STRIDE = 10.0, 4


@dataclass(frozen=True)
class EncodedVideo:
    """A finished video file: how many frames it holds, and their statistics."""

    file: Path
    frames: int
    stats: ColumnStats


class VideoEncoder:
    """Encodes one camera of one episode while it is recorded, in a thread of its own.

    Frame ``i`` has time stamp ``i / fps`` exactly. Errors of the thread (a full disk) are
    raised by the next :meth:`put` and by :meth:`result`.
    """

    def __init__(self, file: Path, height: int, width: int, fps: float) -> None:
        self.file = file
        self._height, self._width = height, width
        self._rate = Fraction(fps).limit_denominator(1001)
        self._every = max(1, round(fps / STATS_RATE))
        self._histogram = np.zeros((3, 256), dtype=np.int64)
        self._pictures = self._frames = 0
        self._cancelled = self._ended = False
        self._error: Exception | None = None
        waiting = max(4, QUEUE_BYTES // (height * width * 3))
        self._queue: queue.Queue[UInt8 | None] = queue.Queue(waiting)
        # Daemon: a recorder that dies without closing must not hang on a waiting encoder.
        self._thread = threading.Thread(target=self._run, name=f'encode {file.stem}', daemon=True)
        self._thread.start()

    def put(self, image: UInt8) -> None:
        """Hand over one frame ``(height, width, 3)``; it is copied, the array may be reused.

        Raises:
            DatasetError: the encoder failed.
        """
        self._check()
        self._queue.put(image.copy())

    def finish(self) -> None:
        """Say that no frame follows; returns at once."""
        self._queue.put(None)

    def result(self) -> EncodedVideo:
        """Wait for the file, after :meth:`finish`.

        Raises:
            DatasetError: encoding or writing failed, or no frame came.
        """
        self._thread.join()
        self._check()
        if not self._frames:
            raise DatasetError(f'no frame for {self.file.name}')
        return EncodedVideo(self.file, self._frames, image_stats(self._histogram, self._pictures))

    def cancel(self) -> None:
        """Stop, and remove the unfinished file."""
        self._cancelled = True
        self._queue.put(None)
        self._thread.join()
        self.file.unlink(missing_ok=True)

    def _check(self) -> None:
        if self._error is not None:
            raise DatasetError(f'cannot write {self.file.name}: {self._error}')

    def _run(self) -> None:
        try:
            self._encode()
        except Exception as error:  # handed to the recording thread by _check
            self._error = error
            # Keep taking frames, so that nobody waits on a full queue for ever.
            while self._next() is not None:
                pass

    def _next(self) -> UInt8 | None:
        """The next frame; None once :meth:`finish` or :meth:`cancel` was called, for good."""
        if not self._ended:
            image = self._queue.get()
            self._ended = image is None
            return image
        return None

    def _encode(self) -> None:
        with av.open(str(self.file), 'w', format='mp4') as container:
            stream = container.add_stream('libx264', rate=self._rate, options=ENCODER_OPTIONS)
            stream.width, stream.height = self._width, self._height
            stream.pix_fmt = PIXEL_FORMAT
            stream.codec_context.time_base = 1 / self._rate
            stream.codec_context.thread_count = 1  # parallel over cameras already
            while (image := self._next()) is not None:
                if self._cancelled:
                    continue
                if self._frames % self._every == 0:
                    self._count(image)
                frame = av.VideoFrame.from_ndarray(image, format='rgb24')
                frame.pts, frame.time_base = self._frames, 1 / self._rate
                container.mux(stream.encode(frame))
                self._frames += 1
            container.mux(stream.encode(None))

    def _count(self, image: UInt8) -> None:
        sampled = image[::STATS_STRIDE, ::STATS_STRIDE].reshape(-1, 3)
        for channel in range(3):
            self._histogram[channel] += np.bincount(sampled[:, channel], minlength=256)
        self._pictures += 1


def count_frames(file: Path) -> int:
    """Frames in a video file, from its index alone (nothing is decoded).

    Raises:
        DatasetError: missing or damaged.
    """
    try:
        with av.open(str(file), 'r') as container:
            return container.streams.video[0].frames
    except (av.FFmpegError, IndexError, OSError) as error:
        raise DatasetError(f'cannot read {file}: {error}') from None


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


def write(file: Path, frames: Iterable[UInt8], fps: float) -> int:
    """Write a video for people to look at: good quality, starts playing before it is loaded.

    Args:
        file: ``.mp4``; replaced where it exists.
        frames: ``(H, W, 3)`` uint8 RGB, all of one size with even sides.
        fps: Frames per second [Hz].

    Returns:
        The number of frames.

    Raises:
        DatasetError: no frame, or the file cannot be written.
    """
    waiting = iter(frames)
    image = next(waiting, None)
    if image is None:
        raise DatasetError(f'no frame to write to {file}')
    count = 0
    try:
        with av.open(str(file), 'w', options={'movflags': 'faststart'}) as container:
            rate = Fraction(fps).limit_denominator(1001)
            stream = container.add_stream('libx264', rate=rate, options={'crf': '20'})
            stream.height, stream.width = image.shape[:2]
            stream.pix_fmt = PIXEL_FORMAT
            while image is not None:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format='rgb24')))
                count += 1
                image = next(waiting, None)
            container.mux(stream.encode(None))
    except (av.FFmpegError, OSError) as error:
        raise DatasetError(f'cannot write {file}: {error}') from None
    return count


def grid(images: Sequence[UInt8]) -> UInt8:
    """Pictures side by side in a near-square grid, each padded to the largest; black is empty.

    Returns:
        ``(H, W, 3)`` with even sides.
    """
    columns = math.ceil(math.sqrt(len(images)))
    height = max(image.shape[0] for image in images) // 2 * 2
    width = max(image.shape[1] for image in images) // 2 * 2
    rows = math.ceil(len(images) / columns)
    canvas = np.zeros((rows * height, columns * width, 3), dtype=np.uint8)
    for i, image in enumerate(images):
        y, x = i // columns * height, i % columns * width
        part = image[:height, :width]
        canvas[y:y + part.shape[0], x:x + part.shape[1]] = part
    return canvas
