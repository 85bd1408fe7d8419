"""The output of a run: progress bars with an estimate on a terminal, lines elsewhere, and a table at the end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

from schemas.text import ascii_safe
from trainer.common.reporting.console import ConsoleReporter
from trainer.dagger.messages import Event, ExpertEvaluated, Message, RoundDone
from trainer.dagger.results import MilestoneResult
from trainer.dagger.schedule import Schedule

if TYPE_CHECKING:
    from trainer.dagger.pipeline import PipelineOptions


class LineConsole:
    """A pipeline listener that prints one line for each event, for logs and pipes."""

    def __init__(self) -> None:
        self._reporter = ConsoleReporter()
        self._round_seconds: list[float] = []
        self._rounds_left, self._jobs = 0, 1

    def run_started(self, schedule: Schedule, options: PipelineOptions) -> None:
        """Print the number of milestones."""
        self._rounds_left, self._jobs = len(schedule.to_run) * options.settings.dagger_iterations, options.jobs
        before = f", {len(schedule.completed_before)} completed before" if schedule.completed_before else ""
        count = len(schedule.to_run)
        self._reporter.line(f"{count} milestone{'' if count == 1 else 's'} to do{before}")

    def milestone_started(self, milestone_id: str) -> None:
        """Print that a milestone starts."""
        self._reporter.line(f"{milestone_id}: starts")

    def event_received(self, milestone_id: str, event: Event) -> None:
        """Print an event."""
        if isinstance(event, Message):
            self._reporter.line(event.text)
        elif isinstance(event, ExpertEvaluated):
            self._reporter.line(
                f"{milestone_id}: expert {_rate(event.success_rate)}, {_steps(event.mean_steps)} steps, "
                f"step limit {event.max_episode_steps or 'none'}"
            )
        elif isinstance(event, RoundDone):
            self._round_seconds.append(event.seconds)
            self._rounds_left -= 1
            left_s = self._rounds_left * sum(self._round_seconds) / len(self._round_seconds) / self._jobs
            self._reporter.line(
                f"{milestone_id}: iteration {event.iteration + 1}/{event.iterations}, beta {event.beta:.2f}, success "
                f"{_rate(event.success_rate)}, {_steps(event.mean_steps)} steps, loss {event.loss:.3f}, "
                f"{event.labels} labels, {event.seconds:.1f} s, ETA {_duration(left_s)}"
            )

    def milestone_ended(self, result: MilestoneResult) -> None:
        """Print the result."""
        self._reporter.line(_result_line(result))


class ProgressConsole:
    """A pipeline listener with a bar for the whole run and one for each milestone that runs. Use it with `with`."""

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}", markup=False),
            TimeRemainingColumn(),
            console=console,
        )
        self._iterations, self._run_bar, self._bars = 1, TaskID(0), dict[str, TaskID]()

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def run_started(self, schedule: Schedule, options: PipelineOptions) -> None:
        """Show the bar of the run, which counts rounds."""
        self._iterations = options.settings.dagger_iterations
        total, note = len(schedule.to_run) * self._iterations, f"{len(schedule.to_run)} to do"
        self._run_bar = self._progress.add_task("all milestones", total=total, note=note)

    def milestone_started(self, milestone_id: str) -> None:
        """Show a milestone's bar."""
        self._bars[milestone_id] = self._progress.add_task(milestone_id, total=self._iterations, note="expert")

    def event_received(self, milestone_id: str, event: Event) -> None:
        """Update the bars, or print a message above them."""
        if isinstance(event, RoundDone):
            note = f"success {_rate(event.success_rate)}, {event.labels} labels"
            before = self._progress.tasks[self._bars[milestone_id]].completed
            self._progress.update(self._bars[milestone_id], completed=event.iteration + 1, note=note)
            self._progress.advance(self._run_bar, event.iteration + 1 - before)
        elif isinstance(event, ExpertEvaluated):
            self._progress.update(self._bars[milestone_id], note=f"expert {_rate(event.success_rate)}")
        elif isinstance(event, Message):
            self._print(event.text)

    def milestone_ended(self, result: MilestoneResult) -> None:
        """Print the result and hide the milestone's bar; the run's bar advances by the rounds that were not done."""
        bar = self._bars.pop(result.milestone_id, None)
        if bar is not None:
            self._progress.advance(self._run_bar, self._iterations - self._progress.tasks[bar].completed)
            self._progress.update(bar, visible=False)
        self._print(_result_line(result))

    def _print(self, text: str) -> None:
        self._progress.console.print(ascii_safe(text), markup=False, highlight=False)


def print_summary(results: Sequence[MilestoneResult], console: Console) -> None:
    """Print the table of results."""
    table = Table()
    for name in ("milestone", "status", "expert", "steps", "limit", "policy"):
        table.add_column(name, no_wrap=True)
    table.add_column("reason", overflow="fold")
    for r in results:
        steps = f"{_steps(r.expert_mean_steps)} +- {_steps(r.expert_std_steps)}" if r.expert_mean_steps else ""
        row = (r.milestone_id, r.status, _rate(r.expert_success_rate), steps, str(r.max_episode_steps or ""))
        table.add_row(*row, _rate(r.dagger_final_success_rate), escape(ascii_safe(r.reason)))
    console.print(table)


def _result_line(result: MilestoneResult) -> str:
    return f"{result.milestone_id}: {result.status}, " + (
        result.reason or f"success {_rate(result.dagger_final_success_rate)}"
    )


def _rate(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _steps(value: float | None) -> str:
    return "no" if value is None else f"{value:.1f}"


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{seconds:.0f} s" if seconds < 90 else f"{minutes // 60}:{minutes % 60:02d} h"
