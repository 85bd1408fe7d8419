"""The main loop, and the mailbox that wakes it. A message only requests a pass; it has no content."""

from __future__ import annotations

import queue
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum, auto
from types import FrameType

from daemon.runtime.clock import REAL_CLOCK
from schemas.backoff import backoff_s

LONGEST_WAIT_S = 1.0
"""No wait is longer, because Windows handles Ctrl-C only between waits."""
MERGE_S = 0.002
"""The first message starts a pass at once. Messages that arrive so soon after it are merged into one pass."""
LONGEST_MERGE_S = 0.05
"""Merging does not delay a pass for longer than this."""
MAX_MESSAGES = 64
"""Further messages are dropped, because a pass is requested already."""


_LONGEST_RETRY_S = 60.0


class Wakeup(Enum):
    """The kinds of messages."""

    CHECK = auto()
    STOP = auto()


class Mailbox:
    """Messages to the main loop, from any thread and signal handler, because `SimpleQueue.put` is reentrant."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[Wakeup] = queue.SimpleQueue()
        self._answered_at = REAL_CLOCK.monotonic() - MERGE_S

    def wake(self) -> None:
        """Request another pass."""
        if self._queue.qsize() < MAX_MESSAGES:
            self._queue.put(Wakeup.CHECK)

    def stop(self) -> None:
        """Request the end of the loop."""
        self._queue.put(Wakeup.STOP)

    def wait(self, delay_s: float) -> Wakeup:
        """Wait for a message, at most `delay_s`, and merge the messages that follow within `MERGE_S`."""
        try:
            message = self._queue.get(timeout=max(0.0, min(delay_s, LONGEST_WAIT_S)))
            began = REAL_CLOCK.monotonic()
            quiet_s = MERGE_S if began - self._answered_at < MERGE_S else 0.0
            while message is not Wakeup.STOP and REAL_CLOCK.monotonic() < began + LONGEST_MERGE_S:
                message = self._queue.get(timeout=quiet_s)
        except queue.Empty:
            message = Wakeup.CHECK
        self._answered_at = REAL_CLOCK.monotonic()
        return message


@contextmanager
def stop_on_signals(mailbox: Mailbox) -> Iterator[None]:
    """Send STOP on Ctrl-C, and on what acts as Ctrl-C by `end_in_order`. The second one raises KeyboardInterrupt."""
    received: list[int] = []

    def post(signum: int, frame: FrameType | None) -> None:
        received.append(signum)
        if len(received) > 1:
            raise KeyboardInterrupt
        mailbox.stop()

    old = signal.signal(signal.SIGINT, post)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, old)


def run(
    tick: Callable[[], float],
    mailbox: Mailbox,
    *,
    until: Callable[[], bool],
    on_error: Callable[[Exception, float], None],
) -> bool:
    """Call `tick` at each message, and after the seconds that it returned, until STOP or `until()`.

    A tick that fails is reported and tried again, with a delay that doubles up to a minute and that messages do not
    shorten. Return False if STOP ended the loop.
    """
    delay_s, failures = 0.0, 0
    while True:
        try:
            delay_s = tick()
            failures = 0
        except Exception as error:  # noqa: BLE001  one failure must not end the daemon
            failures += 1
            delay_s = backoff_s(failures, first_s=1.0, longest_s=_LONGEST_RETRY_S)
            on_error(error, delay_s)
        if until():
            return True
        if failures:
            if _stopped_within(mailbox, delay_s):
                return False
        elif mailbox.wait(delay_s) is Wakeup.STOP:
            return False


def _stopped_within(mailbox: Mailbox, delay_s: float) -> bool:
    """Wait for the whole delay, also if messages arrive, unless one is STOP; return whether one was."""
    end = REAL_CLOCK.monotonic() + delay_s
    while (left := end - REAL_CLOCK.monotonic()) > 0:
        if mailbox.wait(left) is Wakeup.STOP:
            return True
        if left > LONGEST_WAIT_S:
            continue
        REAL_CLOCK.sleep(min(left, 0.05))
    return False
