"""Time as an argument: monotonic for waiting, wall clock for remembering."""

from __future__ import annotations

import time


class Clock:
    """The real clocks. Tests put their own in its place."""

    def monotonic(self) -> float:
        """Seconds for durations; never goes back."""
        return time.monotonic()

    def utc_s(self) -> float:
        """Seconds since 1970; for records only."""
        return time.time()
