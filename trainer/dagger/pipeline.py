"""Run the milestones, each in a worker process, and write the results."""

from __future__ import annotations

import os
import queue
import subprocess
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from pydantic import ValidationError

from schemas.errors import ConfigError
from schemas.process.exit_codes import exit_words, remedy
from schemas.process.tree import ProcessTree
from schemas.program.children import PYTHON, child_environment
from schemas.storage.file_lock import try_acquire
from schemas.storage.files import REAL_DISK
from schemas.storage.guarded import guard, open_own, require_real
from schemas.storage.windows_paths import shown_path
from trainer.dagger.messages import EVENTS, Event, MilestoneDone, MilestoneJob
from trainer.dagger.milestones import MilestoneConfig
from trainer.dagger.reporting.html_report import write_report
from trainer.dagger.results import MilestoneResult, PipelineState, new_result, read_pipeline_state, write_results
from trainer.dagger.schedule import Schedule, Selection, can_start, make_schedule
from trainer.dagger.settings import DaggerSettings

_TIMEOUT_S = 0.5
_EXIT_TIMEOUT_S = 5.0
"""Time that a worker has to end by itself after it closed its output."""
_FOLDERS = ("work", "models", "expert_eval_videos", "dagger_videos")
"""The folders in the output folder that have a folder for each milestone."""
_WORKER = ("-P", "-m", "trainer.dagger.training.worker")


@dataclass(frozen=True, slots=True)
class PipelineOptions:
    """The options of one run."""

    config: MilestoneConfig
    settings: DaggerSettings
    selection: Selection
    expert_dir: Path
    state_dir: Path
    output_dir: Path
    device: str
    record_video: bool
    jobs: int
    start_from: Path | None = None  #: a model whose weights every policy starts with
    stall_timeout_s: float = 1800.0  #: a worker that makes no progress for this time is ended

    def __post_init__(self) -> None:
        """Raise ConfigError for a time limit that would end every worker at once."""
        if not self.stall_timeout_s > 0:
            raise ConfigError(f"--stall-timeout is {self.stall_timeout_s:g}, but must be above 0", hint="see --help")


class PipelineListener(Protocol):
    """Receives the events of a run; the console and the tracker are listeners."""

    def run_started(self, schedule: Schedule, options: PipelineOptions) -> None:
        """Handle the start of the run."""

    def milestone_started(self, milestone_id: str) -> None:
        """Handle the start of a milestone."""

    def event_received(self, milestone_id: str, event: Event) -> None:
        """Handle an event of a milestone."""

    def milestone_ended(self, result: MilestoneResult) -> None:
        """Handle the end of a milestone."""


@dataclass(slots=True)
class _Worker:
    tree: ProcessTree
    reader: threading.Thread
    last_event_s: float  #: time of the last event, monotonic
    result: MilestoneResult | None = None
    stalled: bool = False


@dataclass(slots=True)
class Pipeline:
    """One run. Workers are started, and their events handled, on the thread that calls `run`."""

    options: PipelineOptions
    listeners: tuple[PipelineListener, ...]
    state: PipelineState = field(default_factory=PipelineState)
    _events: queue.SimpleQueue[tuple[str, Event | None]] = field(default_factory=queue.SimpleQueue)
    _workers: dict[str, _Worker] = field(default_factory=dict)

    def run(self) -> tuple[MilestoneResult, ...]:
        """Run the milestones that are not completed. Return the results of all selected ones, also from earlier runs.

        Raises ConfigError if another pipeline uses the output folder, or if a folder in it is a link.
        """
        output = self.options.output_dir
        guard(output)
        names = self.options.config.ids()
        folders = [output / kind for kind in (*_FOLDERS, "logs", "milestone_details")]
        below = [output / kind / name for kind in _FOLDERS for name in names]
        require_real([*folders, *below], hint="remove the link, or use another --output-dir")
        lock, holder = try_acquire(self.options.output_dir / ".lock")
        if lock is None:
            raise ConfigError(
                f"another pipeline (pid {holder}) uses {shown_path(self.options.output_dir)}",
                hint="wait until it ends, or use another --output-dir",
            )
        with lock:
            return self._run()

    def _run(self) -> tuple[MilestoneResult, ...]:
        options = self.options
        self.state = read_pipeline_state(options.output_dir)
        schedule = make_schedule(options.config, options.selection, self.state)
        for listener in self.listeners:
            listener.run_started(schedule, options)
        if options.selection.fresh:
            for name in schedule.to_run:
                _remove_files(options.output_dir, name)
        for name in schedule.skipped:
            self._record(new_result(options.config, name, "skipped", "named by --skip-milestones"))
        pending = list(schedule.to_run)
        try:
            while pending or self._workers:
                self._start_ready(pending)
                self._handle_event()
                self._end_stalled_workers()
        finally:
            for worker in self._workers.values():
                worker.tree.end()
        write_results(options.output_dir, self.state)
        write_report(options.output_dir, self.state.results)
        selected = {*schedule.to_run, *schedule.skipped, *schedule.completed_before}
        return tuple(result for result in self.state.results if result.milestone_id in selected)

    def _start_ready(self, pending: list[str]) -> None:
        """Start the pending milestones that can start, at most `jobs` at the same time."""
        milestones = {milestone.id: milestone for milestone in self.options.config.milestones}
        completed = self.state.completed_ids()
        for name in list(pending):
            if len(self._workers) >= self.options.jobs:
                return
            unfinished = [*pending, *self._workers]
            if can_start(milestones[name], unfinished, completed, lambda n: (self.options.state_dir / n).is_file()):
                pending.remove(name)
                self._start(name, completed)

    def _start(self, name: str, completed: tuple[str, ...]) -> None:
        options = self.options
        job = MilestoneJob(
            config=options.config,
            milestone_id=name,
            settings=options.settings,
            expert_dir=str(options.expert_dir),
            state_dir=str(options.state_dir),
            output_dir=str(options.output_dir),
            device=options.device,
            record_video=options.record_video,
            completed_ids=completed,
            start_from="" if options.start_from is None else str(options.start_from.resolve()),
        )
        logs = options.output_dir / "logs"
        REAL_DISK.make_folder(logs)
        with os.fdopen(open_own(logs / f"{name}.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT), "ab") as log:
            tree = ProcessTree(
                [PYTHON, *_WORKER],
                project=options.output_dir,
                environment=child_environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
            )
        reader = threading.Thread(target=self._read_events, args=(name, tree.process), daemon=True)
        self._workers[name] = _Worker(tree, reader, time.monotonic())
        reader.start()
        stdin = tree.process.stdin
        assert stdin is not None
        with suppress(OSError):  # if the worker has ended already, its missing result is reported
            stdin.write(job.to_bytes())
            stdin.flush()
        for listener in self.listeners:
            listener.milestone_started(name)

    def _read_events(self, name: str, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            with suppress(ValidationError):
                self._events.put((name, EVENTS.validate_json(line)))
        self._events.put((name, None))

    def _handle_event(self) -> None:
        """Wait up to _TIMEOUT_S for one event, and handle it."""
        try:
            # Not without a time limit: on Windows, Ctrl-C has no effect while it waits.
            name, event = self._events.get(timeout=_TIMEOUT_S)
        except queue.Empty:
            return
        worker = self._workers[name]
        worker.last_event_s = time.monotonic()
        if isinstance(event, MilestoneDone):
            worker.result = event.result
        elif event is not None:
            for listener in self.listeners:
                listener.event_received(name, event)
        else:
            self._workers.pop(name)
            exit_code = worker.tree.end(wait_s=_EXIT_TIMEOUT_S)
            self._record(worker.result or self._failed_result(name, exit_code, stalled=worker.stalled))
            for pipe in (worker.tree.process.stdin, worker.tree.process.stdout):
                if pipe is not None:
                    with suppress(OSError):
                        pipe.close()

    def _end_stalled_workers(self) -> None:
        """Kill workers that sent nothing for too long, with all processes that they started.

        The end of a worker arrives as an event. If a worker that ended has left a process that keeps its output open,
        that process is killed as well.
        """
        limit_s = self.options.stall_timeout_s
        for worker in self._workers.values():
            is_stalled = time.monotonic() - worker.last_event_s > limit_s
            if worker.tree.poll() is not None:
                worker.tree.release()
            elif is_stalled and not worker.stalled:
                worker.stalled = True
                worker.tree.kill()

    def _failed_result(self, name: str, code: int | None, *, stalled: bool) -> MilestoneResult:
        if stalled:
            limit_s = self.options.stall_timeout_s
            cause = f"it made no progress for {limit_s:g} s: its environment hangs, or --stall-timeout is too short"
            return new_result(self.options.config, name, "failed", f"{cause} -> see logs/{name}.log")
        hint = "; ".join(filter(None, (remedy(code), f"see logs/{name}.log")))
        reason = f"its process ended with {exit_words(code)} -> {hint}"
        return new_result(self.options.config, name, "failed", reason)

    def _record(self, result: MilestoneResult) -> None:
        self.state = self.state.with_result(result)
        write_results(self.options.output_dir, self.state)
        write_report(self.options.output_dir, self.state.results)
        for listener in self.listeners:
            listener.milestone_ended(result)


def _remove_files(output_dir: Path, name: str) -> None:
    """Remove a milestone's labels, progress, models and videos, as --fresh requires."""
    for kind in _FOLDERS:
        with suppress(OSError):
            REAL_DISK.remove_folder(output_dir / kind / name)
