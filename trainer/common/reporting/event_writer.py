"""Events of a trainer process, written as JSON lines on stdout."""

from __future__ import annotations

import logging
import os
import sys
import threading

from schemas.base import StrictModel
from schemas.job import EpochDone, Heartbeat, Notice, Selecting

log = logging.getLogger("trainer")


class EventWriter:
    """Writes events to a private copy of stdout. Output of user code goes to stderr."""

    def __init__(self) -> None:
        sys.stdout.flush()
        self._fd = os.dup(1)
        os.dup2(2, 1)
        sys.stdout = sys.stderr
        self._lock = threading.Lock()
        self._activity, self._progress = "waiting for a job", 0.0

    def emit(self, event: StrictModel) -> None:
        """Write one event as one JSON line."""
        line = event.to_bytes()
        with self._lock:
            while line:
                line = line[os.write(self._fd, line) :]

    def report_activity(self, activity: str, progress: float) -> None:
        """Set the activity for the heartbeats, and send one now."""
        log.info("%s", activity)
        self._activity, self._progress = activity, progress
        self.heartbeat()

    def heartbeat(self) -> None:
        """Send a heartbeat with the current activity."""
        self.emit(Heartbeat(doing=self._activity, progress=self._progress))

    def send(self, event: Notice | EpochDone | Selecting) -> None:
        """Send an event, and write a line to the log."""
        if isinstance(event, Notice):
            log.warning("%s [%s]", event.message, event.code)
        if isinstance(event, EpochDone):
            numbers = " ".join(f"{name}={value:.4g}" for name, value in event.losses.items() if value is not None)
            log.info("epoch %d of %d: %s, %.2f s", event.epoch, event.epochs, numbers, event.seconds)
        self.emit(event)
