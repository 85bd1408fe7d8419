"""The mailbox and the loop around it: mail wakes the deciding thread and never informs it."""

from __future__ import annotations

import queue
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum, auto
from types import FrameType

from daemon.runtime.clock import REAL_CLOCK

LONGEST_WAIT_S = 1.0
"""Windows hears Ctrl-C only between waits, so none is longer."""
MERGE_S = 0.002
"""Mail that comes this soon after other mail is a burst, and answered by one pass; the first is answered at once."""
LONGEST_MERGE_S = 0.05
"""A storm of mail does not put off the pass for longer than this."""
MOST_MAIL = 64
"""More mail says nothing new: it is not kept."""


class Wakeup(Enum):
    """Why the deciding thread wakes."""

    CHECK = auto()
    STOP = auto()


class Mailbox:
    """Any thread and any signal handler may post; `SimpleQueue.put` is reentrant."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[Wakeup] = queue.SimpleQueue()
        self._answered_at = REAL_CLOCK.monotonic() - MERGE_S

    def wake(self) -> None:
        """Ask for another pass."""
        if self._queue.qsize() < MOST_MAIL:
            self._queue.put(Wakeup.CHECK)

    def stop(self) -> None:
        """Ask for the end."""
        self._queue.put(Wakeup.STOP)

    def wait(self, delay_s: float) -> Wakeup:
        """Wait for mail, at most `delay_s`; a burst counts as one."""
        try:
            mail = self._queue.get(timeout=max(0.0, min(delay_s, LONGEST_WAIT_S)))
            began = REAL_CLOCK.monotonic()
            quiet_s = MERGE_S if began - self._answered_at < MERGE_S else 0.0
            while mail is not Wakeup.STOP and REAL_CLOCK.monotonic() < began + LONGEST_MERGE_S:
                mail = self._queue.get(timeout=quiet_s)
        except queue.Empty:
            mail = Wakeup.CHECK
        self._answered_at = REAL_CLOCK.monotonic()
        return mail


@contextmanager
def stop_on_signals(mailbox: Mailbox) -> Iterator[None]:
    """While inside, Ctrl-C, SIGTERM and the closing of a console post STOP; a second one ends at once.

    A hangup that was ignored from the start, as under nohup, stays ignored.
    """
    received: list[int] = []

    def post(signum: int, frame: FrameType | None) -> None:
        received.append(signum)
        if len(received) > 1:
            raise KeyboardInterrupt
        mailbox.stop()

    names = ("SIGINT", "SIGTERM", "SIGBREAK") if sys.platform == "win32" else ("SIGINT", "SIGTERM", "SIGHUP")
    numbers = [getattr(signal, name) for name in names]
    if sys.platform != "win32" and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        numbers.remove(signal.SIGHUP)
    old = {number: signal.signal(number, post) for number in numbers}
    try:
        yield
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


def run(
    tick: Callable[[], float],
    mailbox: Mailbox,
    *,
    until: Callable[[], bool],
    on_error: Callable[[Exception, float], None],
) -> bool:
    """Call `tick` on mail, and after as many seconds as it last asked for, until STOP or `until()`.

    A tick that fails is reported and tried again with a delay that doubles up to a minute; file events do not
    shorten it. Gives False where STOP ended it.
    """
    delay_s, failures = 0.0, 0
    while True:
        try:
            delay_s = tick()
            failures = 0
        except Exception as error:  # noqa: BLE001  the service outlives any single failure
            failures += 1
            delay_s = min(60.0, 0.5 * 2.0 ** min(failures, 16))
            on_error(error, delay_s)
        if until():
            return True
        if failures:
            if _rest(mailbox, delay_s):
                return False
        elif mailbox.wait(delay_s) is Wakeup.STOP:
            return False


def _rest(mailbox: Mailbox, delay_s: float) -> bool:
    """Wait the whole delay whatever mail comes; tell whether STOP came."""
    end = REAL_CLOCK.monotonic() + delay_s
    while (left := end - REAL_CLOCK.monotonic()) > 0:
        if mailbox.wait(left) is Wakeup.STOP:
            return True
        if left > LONGEST_WAIT_S:
            continue
        REAL_CLOCK.sleep(min(left, 0.05))
    return False
