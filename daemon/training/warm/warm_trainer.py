"""Keeps one trainer ready for the next job, and sends it previews of the job, so that a cycle starts faster."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Protocol

import psutil

from daemon.errors import DaemonError
from daemon.process.child import Child, ChildSpec, trainer_command
from daemon.process.interpreter import python_for
from daemon.process.machine import Memory, free_memory, memory_of, total_memory, usable_cores
from daemon.process.output_log import last_line
from daemon.runtime.context import Context
from daemon.training.warm.decision import Situation, is_engine_fast, is_enough, is_wanted, lead_s, needed_memory
from daemon.training.warm.previews import JobPreviews
from schemas.backoff import backoff_s
from schemas.job import Ready
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
    """At most one trainer that waits for a job. It runs only one; then another one is started."""

    def __init__(self, context: Context, launcher: Launcher) -> None:
        self._context = context
        self._launcher = launcher
        self._child: Child | None = None
        self._is_ready = False
        self._previews = JobPreviews(context)
        self._started_s = self._last_event_s = 0.0  #: monotonic s of the start and of the last event
        self._failures = 0
        self._not_before = 0.0
        self._memory: Memory | None = None  #: of the last trainer that became ready
        self._start_s: float | None = None  #: how long the start of that trainer took
        self._has_reported_memory = False

    def tick(self, situation: Situation) -> None:
        """Start the warm trainer if it is wanted and does not run; send it previews; end it if it is silent."""
        if self._child is None:
            if self._context.clock.monotonic() >= self._not_before and self._may_start(situation):
                self._start()
            return
        self._read_events(self._child)
        if (exit_code := self._child.poll()) is not None:
            self._child.reap()
            ending = f"the warm trainer ended with {exit_words(exit_code)}: {last_line(self._log) or 'no message'}"
            self._end_and_start_later(with_remedy(ending, exit_code))
        elif self._is_silent():
            self._end_and_start_later("the warm trainer sent no event in time")
        elif self._is_ready and (situation.is_idle or situation.is_beside_another):
            job = self._previews.next_job(is_beside_another=situation.is_beside_another)
            if job is not None:
                self._child.send(job)

    def hand_over(self, log: Path) -> tuple[Child, bool] | None:
        """Return the trainer and whether it is ready, or None if none runs. It writes to `log` from now on."""
        child = self.release()
        if child is None:
            return None
        self._read_events(child)
        if child.poll() is not None or self._is_silent():
            child.stop(0.0)
            return None
        child.redirect_log(log)
        return child, self._is_ready

    def release(self) -> Child | None:
        """Return the trainer, which the caller must end, or None if none runs."""
        child, self._child = self._child, None
        return child

    def will_start_beside(self, gap_s: float | None) -> bool:
        """Return whether another warm trainer will probably start while the one that was handed over trains."""
        return is_engine_fast(gap_s, cores=usable_cores(), lead_s=lead_s(self._start_s))

    def measure(self, child: Child, start_s: float) -> None:
        """Measure a trainer that became ready after `start_s`: another one will need as much memory and time."""
        self._start_s = start_s
        with contextlib.suppress(psutil.Error):
            self._memory = memory_of(child.pid)

    @property
    def _log(self) -> Path:
        return self._context.paths.logs / LOG_NAME

    def _may_start(self, situation: Situation) -> bool:
        is_useful = is_wanted(situation, cores=usable_cores(), lead_s=lead_s(self._start_s))
        if not is_useful or self._context.ledger.meta("paused") is not None:
            return False
        try:
            free, total_bytes = free_memory(), total_memory()
        except (OSError, psutil.Error):
            return not situation.is_beside_another
        needed = needed_memory(self._memory, total_bytes=total_bytes, is_beside_another=situation.is_beside_another)
        if not is_enough(free, needed):
            self._report_memory(free, needed)
            return False
        return True

    def _report_memory(self, free: Memory, needed: Memory) -> None:
        if not self._has_reported_memory:
            self._has_reported_memory = True
            is_committed = free.resident >= needed.resident
            pair = (free.committed, needed.committed) if is_committed else (free.resident, needed.resident)
            what = "memory and page file" if is_committed else "memory"
            self._context.log.info(
                f"no trainer is started ahead of its cycle for now: {pair[0] / 1e6:.0f} MB of {what} are free, "
                f"{pair[1] / 1e6:.0f} MB are needed; cycles start some seconds later"
            )

    def _read_events(self, child: Child) -> None:
        events = child.events()
        if events:
            self._last_event_s = self._context.clock.monotonic()
        if any(isinstance(event, Ready) for event in events):
            self._is_ready, self._failures = True, 0
            self.measure(child, self._context.clock.monotonic() - self._started_s)

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
        self._is_ready = False
        self._started_s = self._last_event_s = context.clock.monotonic()
        self._previews = JobPreviews(context)

    def _end_and_start_later(self, reason: str) -> None:
        """End the warm trainer and start another one later. Until then, each cycle starts a trainer of its own."""
        if self._child is not None:
            self._child.stop(0.5)
            self._child = None
        self._failures += 1
        delay_s = backoff_s(self._failures, first_s=FIRST_DELAY_S, longest_s=LONGEST_DELAY_S)
        self._not_before = self._context.clock.monotonic() + delay_s
        self._context.log.warning(f"{reason}; the next one starts in {delay_s / 60:.0f} min")
