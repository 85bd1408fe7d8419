"""All milestones: one process each, as many at once as asked for, every result on disk before the next begins."""

from __future__ import annotations

import queue
import shutil
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from pydantic import ValidationError

from schemas.errors import ConfigError
from schemas.program.children import child_environment
from schemas.storage.file_lock import try_acquire
from schemas.storage.files import read_regular
from trainer.dagger.messages import (
    EVENTS,
    Event,
    Finished,
    MilestoneJob,
    MilestoneResult,
    PipelineState,
    Status,
    write_results,
)
from trainer.dagger.milestones import MilestoneConfig
from trainer.dagger.reporting.html_report import write_report
from trainer.dagger.schedule import Schedule, Selection, done_in, make_schedule, may_start
from trainer.dagger.settings import DaggerSettings

_TIMEOUT_S = 0.5
_WORKER = ("-P", "-m", "trainer.dagger.training.worker")


@dataclass(frozen=True, slots=True)
class PipelineOptions:
    """A whole run."""

    config: MilestoneConfig
    settings: DaggerSettings
    selection: Selection
    policy_dir: Path
    state_dir: Path
    output_dir: Path
    device: str
    record_video: bool
    jobs: int
    stall_timeout_s: float = 1800.0  #: a worker that plays no episode and learns nothing for so long is ended


class PipelineListener(Protocol):
    """Who is told what happens: the progress display, the tracker."""

    def begin(self, plan: Schedule, options: PipelineOptions) -> None:
        """The run begins."""

    def started(self, milestone_id: str) -> None:
        """A milestone begins."""

    def heard(self, milestone_id: str, event: Event) -> None:
        """A milestone said something."""

    def ended(self, result: MilestoneResult) -> None:
        """A milestone is over."""


@dataclass(slots=True)
class _Worker:
    process: subprocess.Popen[bytes]
    listener: threading.Thread
    heard_s: float  #: monotonic
    result: MilestoneResult | None = None
    stalled: bool = False


@dataclass(slots=True)
class Pipeline:
    """The run. Its one thread starts workers, takes their events in and writes results."""

    options: PipelineOptions
    watchers: tuple[PipelineListener, ...]
    state: PipelineState = field(default_factory=PipelineState)
    _inbox: queue.SimpleQueue[tuple[str, Event | None]] = field(default_factory=queue.SimpleQueue)
    _workers: dict[str, _Worker] = field(default_factory=dict)

    def run(self) -> tuple[MilestoneResult, ...]:
        """Do what is due; give the results of what was asked for, those of earlier runs among them."""
        lock, holder = try_acquire(self.options.output_dir / ".lock")
        if lock is None:
            raise ConfigError(
                f"another pipeline (pid {holder}) works in {self.options.output_dir}",
                hint="wait for it, or give another --output-dir",
            )
        with lock:
            return self._run()

    def _run(self) -> tuple[MilestoneResult, ...]:
        options = self.options
        self.state = read_state(options.output_dir / "pipeline_state.json")
        plan = make_schedule(options.config, options.selection, self.state)
        for watcher in self.watchers:
            watcher.begin(plan, options)
        if options.selection.fresh:
            for name in plan.run:
                _forget(options.output_dir, name)
        for name in plan.skipped:
            self._record(self._without_worker(name, "skipped", "named by --skip-milestones"))
        pending = list(plan.run)
        try:
            while pending or self._workers:
                self._start_what_may(pending)
                self._hear()
                self._end_the_stalled()
        finally:
            for worker in self._workers.values():
                worker.process.kill()
                worker.process.wait()
        write_results(options.output_dir, self.state)
        write_report(options.output_dir, self.state.results)
        asked = {*plan.run, *plan.skipped, *plan.completed}
        return tuple(result for result in self.state.results if result.milestone_id in asked)

    def _start_what_may(self, pending: list[str]) -> None:
        milestones = {milestone.id: milestone for milestone in self.options.config.milestones}
        done = done_in(self.state)
        for name in list(pending):
            if len(self._workers) >= self.options.jobs:
                return
            unfinished = [*pending, *self._workers]
            if may_start(milestones[name], unfinished, done, lambda state: (self.options.state_dir / state).is_file()):
                pending.remove(name)
                self._start(name, done)

    def _start(self, name: str, done: tuple[str, ...]) -> None:
        options = self.options
        job = MilestoneJob(
            config=options.config,
            milestone_id=name,
            settings=options.settings,
            policy_dir=str(options.policy_dir),
            state_dir=str(options.state_dir),
            output_dir=str(options.output_dir),
            device=options.device,
            record_video=options.record_video,
            done=done,
        )
        logs = options.output_dir / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        with (logs / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, *_WORKER],
                env=child_environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
            )
        listener = threading.Thread(target=self._listen, args=(name, process), daemon=True)
        self._workers[name] = _Worker(process, listener, time.monotonic())
        listener.start()
        assert process.stdin is not None
        with suppress(OSError):  # where it died at once, its silence says so
            process.stdin.write(job.to_bytes())
            process.stdin.flush()
        for watcher in self.watchers:
            watcher.started(name)

    def _listen(self, name: str, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            with suppress(ValidationError):
                self._inbox.put((name, EVENTS.validate_json(line)))
        self._inbox.put((name, None))

    def _hear(self) -> None:
        """Wait for one event and act on it."""
        try:
            # Not without end: on Windows Ctrl-C would wait with it.
            name, event = self._inbox.get(timeout=_TIMEOUT_S)
        except queue.Empty:
            return
        worker = self._workers[name]
        worker.heard_s = time.monotonic()
        if isinstance(event, Finished):
            worker.result = event.result
        elif event is not None:
            for watcher in self.watchers:
                watcher.heard(name, event)
        else:
            self._workers.pop(name)
            self._record(worker.result or self._died(name, worker.process.wait(), stalled=worker.stalled))
            for pipe in (worker.process.stdin, worker.process.stdout):
                if pipe is not None:
                    with suppress(OSError):
                        pipe.close()

    def _end_the_stalled(self) -> None:
        """Kill workers that have said nothing for too long; their end comes as an event."""
        limit_s = self.options.stall_timeout_s
        for worker in self._workers.values():
            if not worker.stalled and time.monotonic() - worker.heard_s > limit_s:
                worker.stalled = True
                worker.process.kill()

    def _died(self, name: str, code: int, *, stalled: bool) -> MilestoneResult:
        if stalled:
            limit_s = self.options.stall_timeout_s
            why = f"nothing happened for {limit_s:g} s: its environment hangs, or --stall-timeout is too short"
            return self._without_worker(name, "failed", f"{why} -> see logs/{name}.log")
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        return self._without_worker(name, "failed", f"its process ended with {how} -> see logs/{name}.log")

    def _without_worker(self, name: str, status: Status, reason: str) -> MilestoneResult:
        return MilestoneResult(
            milestone_id=name,
            index=self.options.config.ids().index(name),
            timestamp=datetime.now(UTC).isoformat(timespec="seconds"),
            status=status,
            reason=reason,
        )

    def _record(self, result: MilestoneResult) -> None:
        self.state = self.state.with_result(result)
        write_results(self.options.output_dir, self.state)
        write_report(self.options.output_dir, self.state.results)
        for watcher in self.watchers:
            watcher.ended(result)


def read_state(path: Path) -> PipelineState:
    """Read pipeline_state.json; where there is none, nothing was done. Raises ConfigError."""
    try:
        return PipelineState.from_bytes(read_regular(path, limit=1 << 28))
    except FileNotFoundError:
        return PipelineState()
    except (OSError, ValidationError) as error:
        what = error.strerror if isinstance(error, OSError) else "it is torn or of another program"
        raise ConfigError(f"{path} cannot be read: {what}", hint="remove it to begin anew") from None


def _forget(output_dir: Path, name: str) -> None:
    """Remove a milestone's work, so that it begins anew."""
    for kind in ("work", "models", "expert_eval_videos", "dagger_videos"):
        shutil.rmtree(output_dir / kind / name, ignore_errors=True)
