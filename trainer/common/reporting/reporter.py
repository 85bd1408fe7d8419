"""Progress and notices of a training, for the daemon, a console or a test."""

from __future__ import annotations

from typing import Protocol

from schemas.job import EpochDone, Notice, Selecting


class Reporter(Protocol):
    """Receives a training's progress and events."""

    def report_activity(self, activity: str, progress: float) -> None:
        """Report the current activity, and the progress of the whole job in [0, 1]."""

    def send(self, event: Notice | EpochDone | Selecting) -> None:
        """Report an event."""


class Notices:
    """Sends the notices of one job, each code once."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter
        self._sent: set[str] = set()

    def send(self, code: str, message: str) -> None:
        """Send a notice, unless one of this code was sent before."""
        if code not in self._sent:
            self._sent.add(code)
            self._reporter.send(Notice(code=code, message=message))


class MemoryReporter:
    """Keeps all events in memory, for tests and for callers in Python."""

    def __init__(self) -> None:
        self.events: list[Notice | EpochDone | Selecting] = []

    def report_activity(self, activity: str, progress: float) -> None:
        """Ignore the activity."""

    def send(self, event: Notice | EpochDone | Selecting) -> None:
        """Keep the event."""
        self.events.append(event)

    def codes(self) -> list[str]:
        """Return the codes of all notices, in order."""
        return [event.code for event in self.events if isinstance(event, Notice)]
