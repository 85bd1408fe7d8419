"""MP4 files from frames. A file has its final name only when it is complete."""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from schemas.errors import ConfigError
from schemas.storage.files import REAL_DISK, rename_with_retries, unlink_with_retries

if TYPE_CHECKING:
    from av.container import OutputContainer
    from av.video.stream import VideoStream

Frame = NDArray[np.uint8]
"""An RGB image [height, width, 3]."""
_UNFINISHED = ".recording-{}.mp4"


def can_record() -> bool:
    """Return whether the video encoder is installed."""
    try:
        import av  # noqa: F401
    except ImportError:
        return False
    return True


class VideoWriter:
    """One video. The end of the `with` block removes it, unless `finish` was called."""

    def __init__(self, folder: Path, frames_per_second: float) -> None:
        REAL_DISK.make_folder(folder)
        self._folder = folder
        self._rate = Fraction(frames_per_second).limit_denominator(1000)
        self._unfinished = folder / _UNFINISHED.format(f"{os.getpid()}-{id(self)}")
        self._container: OutputContainer | None = None
        self._stream: VideoStream | None = None
        self.frames = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.discard()

    def write(self, frame: Frame) -> None:
        """Add a frame. All frames have the size of the first, less one row or column if it is odd."""
        import av

        height, width = (size // 2 * 2 for size in frame.shape[:2])  # the encoder accepts even sizes only
        if self._container is None or self._stream is None:
            if not height or not width:
                raise ConfigError(f"a frame of {frame.shape[1]} x {frame.shape[0]} is too small for a video")
            self._container = av.open(str(self._unfinished), "w", format="mp4")
            options = {"crf": "26", "preset": "veryfast"}
            self._stream = self._container.add_stream("libx264", rate=self._rate, options=options)
            self._stream.width, self._stream.height, self._stream.pix_fmt = width, height, "yuv420p"
            self._stream.thread_count = 1
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame[:height, :width]), format="rgb24")
        self._container.mux(self._stream.encode(picture))
        self.frames += 1

    def finish(self, name: str) -> Path:
        """Complete the file, rename it and return its path. An older file of that name is replaced."""
        if self._container is None or self._stream is None:
            raise ConfigError(f"{name} has no frames")
        self._container.mux(self._stream.encode(None))
        self._close()
        REAL_DISK.fsync(self._unfinished)
        path = self._folder / name
        rename_with_retries(self._unfinished, path)
        return path

    def discard(self) -> None:
        """Close and remove the file, unless it was finished."""
        if self._container is not None:
            try:
                self._close()
            finally:
                unlink_with_retries(self._unfinished)

    def _close(self) -> None:
        container, self._container, self._stream = self._container, None, None
        if container is not None:
            container.close()


def remove_unfinished(folder: Path) -> None:
    """Remove the videos that a killed process did not finish. Only for a folder that no other process writes to."""
    for path in folder.glob(_UNFINISHED.format("*")):
        unlink_with_retries(path)
