"""The first message starts a pass at once, a burst is merged into one pass, and merging is limited."""

from __future__ import annotations

import pytest

from daemon.runtime import loop
from daemon.runtime.loop import LONGEST_MERGE_S, MERGE_S, Mailbox, Wakeup
from tests.helpers import FakeClock


@pytest.fixture
def clock(monkeypatch):
    clock = FakeClock()
    monkeypatch.setattr(loop, "REAL_CLOCK", clock)
    return clock


class Queue:
    """A queue of (seconds until it arrives, message) that records the timeouts of `get`."""

    def __init__(self, clock, *coming):
        self.clock, self.coming, self.waited = clock, list(coming), []

    def get(self, timeout):
        self.waited.append(timeout)
        if not self.coming or self.coming[0][0] > timeout:
            self.clock.now += timeout
            raise loop.queue.Empty
        after_s, message = self.coming.pop(0)
        self.clock.now += after_s
        return message


def mailbox_with(clock, *coming):
    mailbox = Mailbox()
    mailbox._queue = Queue(clock, *coming)
    return mailbox


def test_the_first_message_after_a_quiet_time_starts_a_pass_at_once(clock):
    mailbox = mailbox_with(clock, (0.5, Wakeup.CHECK))
    assert mailbox.wait(1.0) is Wakeup.CHECK
    assert mailbox._queue.waited == [1.0, 0.0]


def test_messages_that_follow_closely_are_merged_into_one_pass(clock):
    burst = [(MERGE_S / 2, Wakeup.CHECK)] * 4
    mailbox = mailbox_with(clock, (0.5, Wakeup.CHECK), *burst)
    mailbox.wait(1.0)
    mailbox.wait(1.0)
    assert mailbox._queue.coming == []
    assert mailbox._queue.waited[2:] == [1.0, *[MERGE_S] * 4]


def test_merging_does_not_delay_a_pass_for_long(clock):
    mailbox = mailbox_with(clock, *[(MERGE_S / 2, Wakeup.CHECK)] * 100)
    mailbox.wait(1.0)
    before = clock.now
    mailbox.wait(1.0)
    assert clock.now - before <= LONGEST_MERGE_S + 2 * MERGE_S


def test_stop_ends_a_burst(clock):
    mailbox = mailbox_with(
        clock, (0.5, Wakeup.CHECK), (0.001, Wakeup.CHECK), (0.001, Wakeup.STOP), (0.001, Wakeup.CHECK)
    )
    assert mailbox.wait(1.0) is Wakeup.CHECK
    assert mailbox.wait(1.0) is Wakeup.STOP
