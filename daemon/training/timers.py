"""Timers that are not affected by jumps of the wall clock and sleep of the machine."""

from __future__ import annotations

from daemon.ledger.cycle import Cycle, RetryPolicy
from daemon.runtime.clock import Clock

LONGEST_GAP_S = 5.0
"""The daemon reads its clocks at least once a second, so after a longer gap the daemon or the machine was stopped."""


class AwakeClock:
    """Counts the seconds in which this process was awake. `read` must be called often."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._last_read = clock.monotonic()
        self._awake_s = 0.0
        self.resumed = False  #: whether the last `read` came after a gap; a trainer's silence in it does not count

    def read(self) -> float:
        """Return the seconds since the start, without gaps."""
        now = self._clock.monotonic()
        passed_s, self._last_read = now - self._last_read, now
        self.resumed = passed_s > LONGEST_GAP_S
        if not self.resumed:
            self._awake_s += passed_s
        return self._awake_s


class RetryTimer:
    """The time of a cycle's next attempt. It is stored in wall clock time, which is read only once per attempt."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._cycle: Cycle | None = None
        self._due_s = 0.0

    def left_s(self, cycle: Cycle, now: float, retry_policy: RetryPolicy) -> float:
        """Return the seconds before a claimed cycle may start; `now` is in seconds of an `AwakeClock`."""
        if cycle != self._cycle:
            self._cycle = cycle
            longest_s = retry_policy.delay_s(max(1, cycle.attempt))
            self._due_s = now + max(0.0, min(cycle.due_s - self._clock.utc_s(), longest_s))
        return self._due_s - now
