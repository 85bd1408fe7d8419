"""When a trainer is overdue: limits for its start, its signs of life, its progress and the whole; pure."""

from __future__ import annotations

from dataclasses import dataclass

from schemas.settings.models import DaemonSettings


@dataclass(slots=True)
class Timeouts:
    """One run's times, in seconds for which the daemon was awake. Talk without progress is no progress."""

    settings: DaemonSettings
    speaks_events: bool  #: a user's script does not: only the whole is limited
    started: float
    ready: bool = False
    heard: float = 0.0
    advanced: float = 0.0

    def __post_init__(self) -> None:
        self.heard = self.advanced = self.started

    def hear(self, now: float, *, is_ready: bool, has_advanced: bool) -> None:
        """Note that it said something."""
        self.heard = now
        if is_ready and not self.ready:
            self.ready, has_advanced = True, True
        if has_advanced:
            self.advanced = now

    def excuse(self, now: float) -> None:
        """Note that nobody could listen until now: silence counts from here."""
        self.heard = now

    def overdue(self, now: float, log_name: str) -> str | None:
        """Return the limit that is passed, in words; None while none is."""
        limits = self.settings
        if now - self.started > limits.training_timeout_s:
            return f"the training took longer than training_timeout_s = {limits.training_timeout_s:g} s"
        if not self.speaks_events:
            return None
        if not self.ready:
            is_late = now - self.started > limits.startup_timeout_s
            text = f"the trainer was not ready after {limits.startup_timeout_s:g} s; see {log_name}"
            return text if is_late else None
        if now - self.heard > limits.silence_timeout_s:
            return f"the trainer gave no sign of life for {limits.silence_timeout_s:g} s; see {log_name}"
        if now - self.advanced > limits.progress_timeout_s:
            limit = f"progress_timeout_s = {limits.progress_timeout_s:g} s"
            return f"the trainer made no progress for {limit}, though it is alive; see {log_name}"
        return None
