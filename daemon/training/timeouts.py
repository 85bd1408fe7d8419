"""The time limits of a trainer: for its start, its silence, its progress and the whole training."""

from __future__ import annotations

from dataclasses import dataclass

from schemas.settings.models import DaemonSettings


@dataclass(slots=True)
class Timeouts:
    """The times of one run, in seconds of an `AwakeClock`. Each event ends a silence; only some are progress."""

    settings: DaemonSettings
    sends_events: bool  #: a user's script sends none, so only its total time is limited
    started: float
    ready: bool = False
    last_event: float = 0.0
    last_progress: float = 0.0

    def __post_init__(self) -> None:
        self.last_event = self.last_progress = self.started

    def record_event(self, now: float, *, is_ready: bool, has_advanced: bool) -> None:
        """Record an event of the trainer."""
        self.last_event = now
        if is_ready and not self.ready:
            self.ready, has_advanced = True, True
        if has_advanced:
            self.last_progress = now

    def restart_silence(self, now: float) -> None:
        """Measure the silence from now on, because the daemon could not receive events before."""
        self.last_event = now

    def overdue(self, now: float, log_name: str) -> str | None:
        """Return a message if the trainer has exceeded a limit, else None."""
        limits = self.settings
        if now - self.started > limits.training_timeout_s:
            return f"the training took longer than training_timeout_s = {limits.training_timeout_s:g} s"
        if not self.sends_events:
            return None
        if not self.ready:
            limit = f"startup_timeout_s = {limits.startup_timeout_s:g} s"
            is_late = now - self.started > limits.startup_timeout_s
            return f"the trainer was not ready after {limit}; see {log_name}" if is_late else None
        if now - self.last_event > limits.silence_timeout_s:
            limit = f"silence_timeout_s = {limits.silence_timeout_s:g} s"
            return f"the trainer sent no event for {limit}; see {log_name}"
        if now - self.last_progress > limits.progress_timeout_s:
            limit = f"progress_timeout_s = {limits.progress_timeout_s:g} s"
            return f"the trainer made no progress for {limit}, although it sent events; see {log_name}"
        return None
