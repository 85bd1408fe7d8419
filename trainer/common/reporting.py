"""What a training says while it runs. Who listens (the daemon, a console, a test) is not its business."""

from __future__ import annotations

from typing import Protocol

from schemas.job import EpochDone, Notice, Selecting


class Reporter(Protocol):
    """Takes what a training says."""

    def doing(self, what: str, progress: float) -> None:
        """Say what is being done and how far the whole job is, in [0, 1]; shown with the next heartbeat."""

    def send(self, event: Notice | EpochDone | Selecting) -> None:
        """Pass an event on at once."""


class Notices:
    """Notices of one job, each code once."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter
        self._said: set[str] = set()

    def say(self, code: str, message: str) -> None:
        """Send a notice, unless one of this code was sent before."""
        if code not in self._said:
            self._said.add(code)
            self._reporter.send(Notice(code=code, message=message))


class MemoryReporter:
    """Keeps what it is told; for tests and for callers in Python."""

    def __init__(self) -> None:
        self.events: list[Notice | EpochDone | Selecting] = []
        self.last = ""

    def doing(self, what: str, progress: float) -> None:
        """Remember the last activity."""
        del progress
        self.last = what

    def send(self, event: Notice | EpochDone | Selecting) -> None:
        """Remember the event."""
        self.events.append(event)

    def codes(self) -> list[str]:
        """Return the codes of all notices, in order."""
        return [event.code for event in self.events if isinstance(event, Notice)]
