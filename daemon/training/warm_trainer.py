"""Keeps one trainer ready while the daemon waits, and sends it previews of its job, so that a cycle starts faster."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from daemon.errors import DaemonError
from daemon.process.child import Child, ChildSpec, trainer_command
from daemon.process.interpreter import python_for
from daemon.process.output_log import last_line
from daemon.runtime.context import Context
from daemon.training.job_builder import expected_job
from schemas.backoff import backoff_s
from schemas.job import Job, Ready
from schemas.process.exit_codes import exit_words, with_remedy
from schemas.storage.windows_paths import error_text

LOG_NAME = "warm_trainer.log"
FIRST_DELAY_S = 60.0
LONGEST_DELAY_S = 3600.0


class Launcher(Protocol):
    """Starts children. Tests replace it."""

    def start(self, spec: ChildSpec, *, sends_events: bool) -> Child:
        """Start a child. Raises DaemonError if the program cannot be started."""


class WarmTrainer:
    """At most one trainer that waits for a job. It runs only one; another warm trainer is started after the cycle."""

    def __init__(self, context: Context, launcher: Launcher) -> None:
        self._context = context
        self._launcher = launcher
        self._child: Child | None = None
        self._is_ready = False
        self._preview = JobPreview(context)
        self._last_event_s = 0.0  #: monotonic s of the last event
        self._failures = 0
        self._not_before = 0.0

    def tick(self, *, may_start: bool) -> None:
        """Start the warm trainer if it does not run and `may_start`; send it previews; end it if it is silent."""
        if self._child is None:
            if may_start and self._context.clock.monotonic() >= self._not_before:
                self._start()
            return
        self._read_events(self._child)
        if (exit_code := self._child.poll()) is not None:
            self._child.reap()
            ending = f"the warm trainer ended with {exit_words(exit_code)}: {last_line(self._log) or 'no message'}"
            self._end_and_start_later(with_remedy(ending, exit_code))
        elif self._is_silent():
            self._end_and_start_later("the warm trainer sent no event in time")
        elif self._is_ready and may_start and (job := self._preview.next_job()) is not None:
            self._child.send(job)

    def hand_over(self, log: Path) -> tuple[Child, bool] | None:
        """Return the trainer and whether it is ready, or None if none runs. It writes to `log` from now on."""
        child, self._child = self._child, None
        if child is None:
            return None
        self._read_events(child)
        if child.poll() is not None or self._is_silent():
            child.stop(0.0)
            return None
        child.redirect_log(log)
        return child, self._is_ready

    def stop(self) -> None:
        """End the trainer."""
        if self._child is not None:
            self._child.stop(self._context.settings.daemon.stop_grace_s)
            self._child = None

    @property
    def _log(self) -> Path:
        return self._context.paths.logs / LOG_NAME

    def _read_events(self, child: Child) -> None:
        events = child.events()
        if events:
            self._last_event_s = self._context.clock.monotonic()
        if any(isinstance(event, Ready) for event in events):
            self._is_ready, self._failures = True, 0

    def _is_silent(self) -> bool:
        limits = self._context.settings.daemon
        limit_s = limits.silence_timeout_s if self._is_ready else limits.startup_timeout_s
        return self._context.clock.monotonic() - self._last_event_s > limit_s

    def _start(self) -> None:
        context = self._context
        try:
            context.disk.truncate(self._log)
            python = python_for(context.settings.daemon.python_executable)
            command = trainer_command(
                python,
                log=self._log,
                project=context.paths.project,
                settings=context.settings.trainer,
            )
            self._child = self._launcher.start(command, sends_events=True)
        except (DaemonError, OSError) as error:
            self._end_and_start_later(f"no warm trainer could be started: {error_text(error)}")
        self._is_ready, self._last_event_s = False, context.clock.monotonic()
        self._preview = JobPreview(context)

    def _end_and_start_later(self, reason: str) -> None:
        """End the warm trainer and start another one later. Until then, each cycle starts a trainer of its own."""
        if self._child is not None:
            self._child.stop(0.5)
            self._child = None
        self._failures += 1
        delay_s = backoff_s(self._failures, first_s=FIRST_DELAY_S, longest_s=LONGEST_DELAY_S)
        self._not_before = self._context.clock.monotonic() + delay_s
        self._context.log.warning(f"{reason}; the next one starts in {delay_s / 60:.0f} min")


class JobPreview:
    """The previews for one warm trainer. Each contains only what the earlier ones did not contain."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._sent: set[str] = set()  #: hashes of rollouts
        self._basis: tuple[str, int] | None = None

    def next_job(self) -> Job | None:
        """Return the next preview; None if neither the parent nor the pending rollouts have changed.

        Also None if enough rollouts for a cycle are pending, because the job itself follows at once.
        """
        ledger, needed = self._context.ledger, self._context.settings.daemon.auto_train_after_n_rollouts
        last = ledger.last_publication()
        if last is None:
            return None
        basis = (last.sha256, ledger.pending_count())
        if basis == self._basis or basis[1] >= needed:
            return None
        self._basis = basis
        job = expected_job(self._context, self._sent)
        self._sent.update(rollout.sha256 for rollout in job.rollouts)
        return job
