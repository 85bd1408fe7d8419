"""Waiting that neither a jump of the wall clock nor the machine's sleep can shorten or stretch."""

from __future__ import annotations

from daemon.ledger.cycle import Cycle, RetryPolicy
from daemon.runtime.clock import Clock

LONGEST_GAP_S = 5.0
"""A daemon looks at least once a second: a longer gap means that it, or the whole machine, stood still."""


class AwakeClock:
    """Seconds for which this process was awake, measured from look to look."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._seen = clock.monotonic()
        self._awake_s = 0.0
        self.resumed = False  #: whether the last look came after a gap: nobody is to blame for the silence in it

    def read(self) -> float:
        """Return the seconds until now; a gap counts for nothing."""
        now = self._clock.monotonic()
        passed_s, self._seen = now - self._seen, now
        self.resumed = passed_s > LONGEST_GAP_S
        if not self.resumed:
            self._awake_s += passed_s
        return self._awake_s


class RetryTimer:
    """When a cycle may be tried again: remembered by the wall clock, which is asked for it only once."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._of: Cycle | None = None
        self._at = 0.0

    def left_s(self, cycle: Cycle, now: float, retry_policy: RetryPolicy) -> float:
        """Return the seconds that a claimed cycle has left to wait at `now`, in the seconds of an `AwakeClock`."""
        if cycle != self._of:
            self._of = cycle
            longest_s = retry_policy.delay_s(max(1, cycle.attempt))
            self._at = now + max(0.0, min(cycle.due_s - self._clock.utc_s(), longest_s))
        return self._at - now
