"""The clock that is passed to everything that needs the time: monotonic for waiting, wall clock for records."""

from __future__ import annotations

import time


class Clock:
    """The only access to the time. Tests replace it."""

    def monotonic(self) -> float:
        """Return seconds for measuring durations; never goes back."""
        return time.monotonic()

    def utc_s(self) -> float:
        """Return the seconds since 1970; for records only, because it can jump."""
        return time.time()

    def sleep(self, seconds: float) -> None:
        """Wait for some seconds."""
        time.sleep(seconds)


REAL_CLOCK = Clock()
