"""One trainer kept warm while the daemon waits, so that a cycle begins with its first gradient step."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from daemon.errors import DaemonError
from daemon.process.child import Child, ChildSpec, trainer_command
from daemon.process.interpreter import python_for
from daemon.process.output_log import last_line
from daemon.runtime.context import Context
from daemon.training.foretelling import JobPreview
from schemas.job import Ready

LOG_NAME = "spare_trainer.log"
RESTART_DELAY_S = 60.0
LONGEST_DELAY_S = 3600.0


class Launcher(Protocol):
    """Starts children. Tests put their own in its place."""

    def start(self, spec: ChildSpec, *, speaks_events: bool) -> Child:
        """Start a child. Raises DaemonError where there is no such program."""


class WarmTrainer:
    """Each trainer still serves one cycle; this one has only made itself ready for it before it is asked."""

    def __init__(self, context: Context, launcher: Launcher) -> None:
        self._context = context
        self._launcher = launcher
        self._child: Child | None = None
        self._ready = False
        self._foretelling = JobPreview(context)
        self._heard = 0.0
        self._failures = 0
        self._not_before = 0.0

    def tick(self, *, may_start: bool) -> None:
        """Start one where it is wanted and none is there; note what it says; end one that fell silent."""
        if self._child is None:
            if may_start and self._context.clock.monotonic() >= self._not_before:
                self._start()
            return
        self._listen(self._child)
        if self._child.poll() is not None:
            self._child.reap()
            self._give_up(f"the spare trainer ended: {last_line(self._log)}")
        elif self._is_silent():
            self._give_up("the spare trainer fell silent")
        elif self._ready and may_start and (expected := self._foretelling.next_job()) is not None:
            self._child.send(expected)

    def take(self, log: Path) -> tuple[Child, bool] | None:
        """Return the spare, which goes on in `log`, and whether it has said `ready`; None where there is none."""
        child, self._child = self._child, None
        if child is None:
            return None
        self._listen(child)
        if child.poll() is not None or self._is_silent():
            child.stop(0.0)
            return None
        child.redirect_log(log)
        return child, self._ready

    def stop(self) -> None:
        """End it; it has nothing to lose."""
        if self._child is not None:
            self._child.stop(self._context.settings.daemon.stop_grace_s)
            self._child = None

    @property
    def _log(self) -> Path:
        return self._context.paths.logs / LOG_NAME

    def _listen(self, child: Child) -> None:
        events = child.events()
        if events:
            self._heard = self._context.clock.monotonic()
        if any(isinstance(event, Ready) for event in events):
            self._ready, self._failures = True, 0

    def _is_silent(self) -> bool:
        limits = self._context.settings.daemon
        limit_s = limits.silence_timeout_s if self._ready else limits.startup_timeout_s
        return self._context.clock.monotonic() - self._heard > limit_s

    def _start(self) -> None:
        context = self._context
        try:
            context.disk.truncate(self._log)
            python = python_for(context.settings.daemon.python_executable)
            command = trainer_command(
                python,
                folder=context.paths.state,
                log=self._log,
                project=context.paths.project,
                settings=context.settings.trainer,
            )
            self._child = self._launcher.start(command, speaks_events=True)
        except (DaemonError, OSError) as error:
            self._give_up(f"no spare trainer could be started: {error}")
        self._ready, self._heard = False, context.clock.monotonic()
        self._foretelling = JobPreview(context)

    def _give_up(self, reason: str) -> None:
        """Try again later: a cycle then starts its own and says what is wrong."""
        if self._child is not None:
            self._child.stop(0.5)
            self._child = None
        delay_s = min(LONGEST_DELAY_S, RESTART_DELAY_S * 2.0 ** min(self._failures, 16))
        self._failures += 1
        self._not_before = self._context.clock.monotonic() + delay_s
        self._context.log.warning(f"{reason}; the next one starts in {delay_s / 60:.0f} min")
