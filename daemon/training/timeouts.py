"""The time limits of a trainer: for its start, its signs of life, its progress and the whole training."""

from __future__ import annotations

from dataclasses import dataclass

from schemas.settings.models import DaemonSettings


@dataclass(slots=True)
class Timeouts:
    """The times of one run, in seconds of an `AwakeClock`. Events without progress are signs of life only."""

    settings: DaemonSettings
    speaks_events: bool  #: a user's script does not, so only its whole time is limited
    started: float
    ready: bool = False
    heard: float = 0.0
    advanced: float = 0.0

    def __post_init__(self) -> None:
        self.heard = self.advanced = self.started

    def hear(self, now: float, *, is_ready: bool, has_advanced: bool) -> None:
        """Record that the trainer sent an event."""
        self.heard = now
        if is_ready and not self.ready:
            self.ready, has_advanced = True, True
        if has_advanced:
            self.advanced = now

    def excuse(self, now: float) -> None:
        """Count silence from now: the daemon could not receive events before."""
        self.heard = now

    def overdue(self, now: float, log_name: str) -> str | None:
        """Return a message if the trainer exceeded a limit, else None."""
        limits = self.settings
        if now - self.started > limits.training_timeout_s:
            return f"the training took longer than training_timeout_s = {limits.training_timeout_s:g} s"
        if not self.speaks_events:
            return None
        if not self.ready:
            limit = f"startup_timeout_s = {limits.startup_timeout_s:g} s"
            is_late = now - self.started > limits.startup_timeout_s
            return f"the trainer was not ready after {limit}; see {log_name}" if is_late else None
        if now - self.heard > limits.silence_timeout_s:
            limit = f"silence_timeout_s = {limits.silence_timeout_s:g} s"
            return f"the trainer gave no sign of life for {limit}; see {log_name}"
        if now - self.advanced > limits.progress_timeout_s:
            limit = f"progress_timeout_s = {limits.progress_timeout_s:g} s"
            return f"the trainer made no progress for {limit}, though it is alive; see {log_name}"
        return None
