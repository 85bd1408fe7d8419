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
from schemas.process.tree import ProcessTree
from schemas.program.children import PYTHON, child_environment
from schemas.storage.file_lock import try_acquire
from schemas.storage.files import REAL_DISK
from schemas.storage.guarded import guard, open_own, require_real
from schemas.storage.windows_paths import shown_path
from trainer.dagger.inputs import changes_since
from trainer.dagger.kept_work import keep_results
from trainer.dagger.messages import EVENTS, Event, Message, MilestoneDone, MilestoneJob
from trainer.dagger.milestones import MilestoneConfig
from trainer.dagger.reporting.html_report import write_report
from trainer.dagger.results import MilestoneResult, PipelineState, new_result, read_pipeline_state, write_results
from trainer.dagger.schedule import (
    Schedule,
    Selection,
    can_be_tried_again,
    can_start,
    make_schedule,
    require_possible_order,
)
from trainer.dagger.settings import DaggerSettings
from trainer.dagger.worker_process import WorkerProcess

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
    demonstrations: Path | None = None  #: folder of recorded play, which is the first round
    config_dir: Path | None = None  #: folder of the config
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
class Pipeline:
    """One run. Workers are started, and their events handled, on the thread that calls `run`."""

    options: PipelineOptions
    listeners: tuple[PipelineListener, ...]
    state: PipelineState = field(default_factory=PipelineState)
    _events: queue.SimpleQueue[tuple[str, Event | None]] = field(default_factory=queue.SimpleQueue)
    _workers: dict[str, WorkerProcess] = field(default_factory=dict)
    _failures: dict[str, int] = field(default_factory=dict)  #: of this run, by milestone

    def run(self) -> tuple[MilestoneResult, ...]:
        """Run the milestones that are not completed. Return the results of all selected ones, also from earlier runs.

        Raises ConfigError if another pipeline uses the output folder, if a folder in it is a link, or if the
        milestones have no possible order.
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
        require_possible_order(options.config, self._state_exists)
        for listener in self.listeners:
            listener.run_started(schedule, options)
        if options.selection.fresh:
            for name in schedule.to_run:
                self._keep_earlier(name)
        else:
            self._report_other_settings(schedule.completed_before)
        for name in schedule.skipped:
            self._record(new_result(options.config, name, "skipped", "named by --skip-milestones"))
        pending = list(schedule.to_run)
        try:
            while pending or self._workers:
                self._start_ready(pending)
                if not self._workers:
                    self._give_up(pending)
                    break
                self._handle_event(pending)
                self._end_slow_workers()
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
            if can_start(milestones[name], unfinished, completed, self._state_exists):
                pending.remove(name)
                self._start(name, completed)

    def _state_exists(self, name: str) -> bool:
        return (self.options.state_dir / name).is_file()

    def _give_up(self, pending: list[str]) -> None:
        """Record the milestones that cannot start, because nothing runs that they wait for."""
        for name in pending:
            state = self.options.config.milestone(name).start_state_name()
            reason = f"it cannot start: nothing that runs will make {state} -> save it in --state-dir"
            self._record(new_result(self.options.config, name, "failed", reason))

    def _keep_earlier(self, name: str) -> None:
        """Move a milestone's work and models to another folder, and remove its videos, as --fresh requires."""
        kept = keep_results(self.options.output_dir, name)
        for kind in ("expert_eval_videos", "dagger_videos"):
            with suppress(OSError):
                REAL_DISK.remove_folder(self.options.output_dir / kind / name)
        if kept is not None:
            self._report(name, f"starts from scratch; the earlier work is kept in {shown_path(kept)}")

    def _report_other_settings(self, completed: tuple[str, ...]) -> None:
        """Report completed milestones that were trained with other settings."""
        options = self.options
        for name in completed:
            changes = changes_since(options.output_dir, name, options.config, options.settings)
            if changes:
                self._report(name, f"completed before with other settings: now {changes} -> --fresh trains it again")

    def _report(self, name: str, text: str) -> None:
        for listener in self.listeners:
            listener.event_received(name, Message(text=f"{name}: {text}"))

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
            demonstrations="" if options.demonstrations is None else str(options.demonstrations.resolve()),
            config_dir="" if options.config_dir is None else str(options.config_dir.resolve()),
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
        now_s = time.monotonic()
        self._workers[name] = WorkerProcess(name, tree, reader, now_s, now_s)
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

    def _handle_event(self, pending: list[str]) -> None:
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
            failed = new_result(self.options.config, name, "failed", worker.reason(exit_code))
            self._handle_end(worker.result or failed, pending)
            for pipe in (worker.tree.process.stdin, worker.tree.process.stdout):
                if pipe is not None:
                    with suppress(OSError):
                        pipe.close()

    def _handle_end(self, result: MilestoneResult, pending: list[str]) -> None:
        """Record the result of a try, or try the milestone again, as the config's max_retries requires."""
        name, config = result.milestone_id, self.options.config
        if result.status == "failed":
            self._failures[name] = self._failures.get(name, 0) + 1
            retries = config.retries(name)
            if self._failures[name] <= retries and can_be_tried_again(result.reason):
                self._report(name, f"try {self._failures[name]} of {retries + 1} failed: {result.reason}")
                pending.insert(0, name)
                return
        self._record(result)
        if result.status == "failed" and config.stop_on_failure:
            for left in pending:
                reason = f"not started, because {name} failed and the config has stop_on_failure"
                self._record(new_result(config, left, "skipped", reason))
            pending.clear()

    def _end_slow_workers(self) -> None:
        """End workers that sent nothing or ran for too long."""
        now_s, options = time.monotonic(), self.options
        for name, worker in self._workers.items():
            timeout_s = options.config.timeout_s(name)
            worker.end_if_slow(now_s, stall_timeout_s=options.stall_timeout_s, timeout_s=timeout_s)

    def _record(self, result: MilestoneResult) -> None:
        self.state = self.state.with_result(result)
        write_results(self.options.output_dir, self.state)
        write_report(self.options.output_dir, self.state.results)
        for listener in self.listeners:
            listener.milestone_ended(result)
