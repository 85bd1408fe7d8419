"""Episodes as MP4 files: frames are encoded as they come, and a file gets its name once it is whole."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from av.container import OutputContainer
    from av.video.stream import VideoStream


def can_record() -> bool:
    """Return whether the encoder is installed."""
    try:
        import av  # noqa: F401
    except ImportError:
        return False
    return True


class VideoWriter:
    """One video in the making. `finish` names it; without that, `drop` removes it."""

    def __init__(self, folder: Path, frames_per_second: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._fps = folder, frames_per_second
        self._path = folder / f".recording-{os.getpid()}-{id(self)}.mp4"
        self._container: OutputContainer | None = None
        self._stream: VideoStream | None = None

    def write(self, frame: NDArray[np.uint8]) -> None:
        """Add one RGB frame [height, width, 3]; all have the size of the first."""
        import av

        height, width = (size - size % 2 for size in frame.shape[:2])  # the encoder wants even sizes
        if self._container is None or self._stream is None:
            self._container = av.open(str(self._path), "w", format="mp4")
            self._stream = self._container.add_stream(
                "libx264", rate=self._fps, options={"crf": "26", "preset": "veryfast"}
            )
            self._stream.width, self._stream.height, self._stream.pix_fmt = width, height, "yuv420p"
            self._stream.thread_count = 1
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame[:height, :width]), format="rgb24")
        self._container.mux(self._stream.encode(picture))

    def finish(self, name: str) -> str:
        """Close the file and give it its name; an older one of that name goes."""
        assert self._container is not None
        assert self._stream is not None
        self._container.mux(self._stream.encode(None))
        self._container.close()
        self._container = self._stream = None
        os.replace(self._path, self._folder / name)
        return name

    def drop(self) -> None:
        """Close and remove what was not finished."""
        if self._container is not None:
            self._container.close()
            self._container = self._stream = None
            self._path.unlink(missing_ok=True)


def remove_unfinished(folder: Path) -> None:
    """Remove what a killed process left behind."""
    for path in folder.glob(".recording-*.mp4"):
        path.unlink(missing_ok=True)
