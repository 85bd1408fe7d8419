"""The clock of the daemon: monotonic time for delays, wall clock time for records."""

from __future__ import annotations

import time


class Clock:
    """The only access to the system's clocks. Tests replace it."""

    def monotonic(self) -> float:
        """Return seconds that never decrease, to measure durations."""
        return time.monotonic()

    def utc_s(self) -> float:
        """Return the seconds since 1970. Only for records, because this time can jump."""
        return time.time()

    def sleep(self, seconds: float) -> None:
        """Wait for some seconds."""
        time.sleep(seconds)


REAL_CLOCK = Clock()
