"""A daemon for the soak test: real threads, log and ledger, an instant trainer, and a clock that the test moves."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import cast
from unittest.mock import patch

from daemon.process.child import Child, ChildSpec
from daemon.ui.log import Log
from schemas.job import Event
from tests.faults.support.disk import Op, TestDisk
from tests.faults.support.harness import InstantChild, InstantHarness, InstantLauncher, train
from tests.helpers import FakeClock, v1_bytes, write_rollout

HOURS_AHEAD_S = 3 * 3600.0
"""The clock is ahead of the files' times, so that retention removes old files from the first cycle on."""

LINES = 100
"""Log lines in each cycle, which are a million in ten thousand cycles."""


class SoakLauncher(InstantLauncher):
    """Writes to the cycle's log, as a trainer does, and does not keep the children in memory."""

    def start(self, spec: ChildSpec, *, sends_events: bool) -> Child:
        spec.log.write_text("training\n" * 20, "utf-8")
        return cast(Child, DelayedChild(train))


class DelayedChild(InstantChild):
    """Finishes at the second call of `events`: a real trainer cannot finish in the pass that starts it."""

    _calls = 0

    def events(self) -> list[Event]:
        self._calls += 1
        if self._calls == 1:
            return []
        self.end(0)
        return super().events()


class SoakHarness(InstantHarness):
    """A harness for many fast cycles."""

    def make_cycle(self, number: int) -> None:
        """Write two rollouts, log many lines, and wait until their model is published."""
        for index in (2 * number, 2 * number + 1):
            write_rollout(self.paths.exports, index, v1_bytes(seed=index, n=4))
        for line in range(LINES):
            self.context.log.info(f"line {line} of cycle {number}")
        self.until_version(number)


@contextlib.contextmanager
def soak_harness(folder: Path) -> Iterator[SoakHarness]:
    """Open a harness whose disk does not sync and whose clock does not wait."""
    clock = FakeClock()
    clock.wall = time.time() + HOURS_AHEAD_S
    disk = TestDisk()

    def forget(number: int, op: Op) -> None:
        disk.ops.clear()

    disk.before = forget
    path = folder / "Saved" / "Training" / "Logs" / "daemon.log"
    with contextlib.ExitStack() as stack:
        stack.enter_context(patch("tests.faults.support.harness.InstantLauncher", SoakLauncher))
        stack.enter_context(patch("tests.faults.support.harness.ListLog", lambda: Log(path)))
        harness = SoakHarness(folder, disk=disk, clock=clock, clear_exports_after_training=True, keep_cycles=5)
        assert isinstance(harness.context.log, Log)
        stack.callback(harness.context.log.close)
        stack.enter_context(harness)
        yield harness
