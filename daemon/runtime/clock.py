"""Time as an argument: monotonic for waiting, wall clock for remembering."""

from __future__ import annotations

import time


class Clock:
    """The one way to the time. Tests put their own in its place."""

    def monotonic(self) -> float:
        """Seconds for durations; never goes back."""
        return time.monotonic()

    def utc_s(self) -> float:
        """Seconds since 1970; for records only: it jumps."""
        return time.time()

    def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)


REAL_CLOCK = Clock()
