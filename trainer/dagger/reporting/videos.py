"""The videos of a milestone. An environment that cannot be drawn has none, which is reported once."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Self

from schemas.errors import HotlapError
from trainer.common.reporting.video import VideoWriter
from trainer.dagger.environment.milestone_env import MilestoneEnv

log = logging.getLogger("trainer.dagger")


class MilestoneVideos:
    """Creates the videos of one milestone, until a frame cannot be recorded."""

    def __init__(self, output_dir: Path, milestone_id: str, report: Callable[[str], None], *, enabled: bool) -> None:
        self._output_dir, self._milestone_id, self._report = output_dir, milestone_id, report
        self._enabled = enabled

    def new(self, kind: str, env: MilestoneEnv) -> EpisodeVideo | None:
        """Return a video in the folder of its kind, or None if no videos are recorded."""
        if not self._enabled:
            return None
        return EpisodeVideo(VideoWriter(self._output_dir / kind / self._milestone_id, env.frames_per_second()), self)

    def end(self, reason: str) -> None:
        """Record no further videos, and report why."""
        if self._enabled:
            self._enabled = False
            self._report(f"{self._milestone_id}: no videos are recorded: {reason}")


class EpisodeVideo:
    """The video of one episode. The end of the `with` block removes it, unless `finish` was called."""

    def __init__(self, writer: VideoWriter, videos: MilestoneVideos) -> None:
        self._writer: VideoWriter | None = writer
        self._videos = videos

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._discard()

    def record(self, env: MilestoneEnv) -> None:
        """Add a frame of the environment's current state."""
        if self._writer is None:
            return
        try:
            self._writer.write(env.render())
        except (HotlapError, ValueError, OSError) as error:
            log.warning("a frame cannot be recorded", exc_info=True)
            self._discard()
            text = f"{error.message} -> {error.hint}" if isinstance(error, HotlapError) and error.hint else None
            self._videos.end(text or (error.message if isinstance(error, HotlapError) else str(error)))

    def finish(self, name: str) -> None:
        """Complete the file and rename it. It does nothing if a frame could not be recorded."""
        if self._writer is not None and self._writer.frames:
            self._writer.finish(name)

    def _discard(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.discard()
