"""Timers that jumps of the wall clock and sleep of the machine do not change."""

from __future__ import annotations

from daemon.ledger.cycle import Cycle, RetryPolicy
from daemon.runtime.clock import Clock

LONGEST_GAP_S = 5.0
"""The daemon reads its clocks at least once a second: after a longer gap, it or the machine was stopped."""


class AwakeClock:
    """Seconds for which this process was awake, added up from one `read` to the next."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._seen = clock.monotonic()
        self._awake_s = 0.0
        self.resumed = False  #: whether the last `read` came after a gap; a trainer's silence in it does not count

    def read(self) -> float:
        """Return the seconds until now; gaps are not counted."""
        now = self._clock.monotonic()
        passed_s, self._seen = now - self._seen, now
        self.resumed = passed_s > LONGEST_GAP_S
        if not self.resumed:
            self._awake_s += passed_s
        return self._awake_s


class RetryTimer:
    """When a cycle may be tried again. The time is stored by the wall clock, which is read only once for it."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._cycle: Cycle | None = None
        self._due_s = 0.0

    def left_s(self, cycle: Cycle, now: float, retry_policy: RetryPolicy) -> float:
        """Return the seconds until a claimed cycle may start; `now` is in seconds of an `AwakeClock`."""
        if cycle != self._cycle:
            self._cycle = cycle
            longest_s = retry_policy.delay_s(max(1, cycle.attempt))
            self._due_s = now + max(0.0, min(cycle.due_s - self._clock.utc_s(), longest_s))
        return self._due_s - now
