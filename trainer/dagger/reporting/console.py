"""What people see of a run: bars with an ETA on a terminal, plain lines elsewhere, a table at the end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

from schemas.text import ascii_safe
from trainer.common.console import ConsoleReporter
from trainer.dagger.messages import Event, ExpertDone, Line, MilestoneResult, RoundDone
from trainer.dagger.schedule import Schedule

if TYPE_CHECKING:
    from trainer.dagger.pipeline import PipelineOptions


class Lines:
    """One line an event, for logs and pipes."""

    def __init__(self) -> None:
        self._reporter = ConsoleReporter()
        self._seconds: list[float] = []
        self._rounds_left, self._jobs = 0, 1

    def begin(self, plan: Schedule, options: PipelineOptions) -> None:
        """Say what is due."""
        self._rounds_left, self._jobs = len(plan.run) * options.settings.dagger_iterations, options.jobs
        already = f", {len(plan.completed)} completed before" if plan.completed else ""
        self._reporter.line(f"{len(plan.run)} milestones to do{already}")

    def started(self, milestone_id: str) -> None:
        """Say which begins."""
        self._reporter.line(f"{milestone_id}: begins")

    def heard(self, milestone_id: str, event: Event) -> None:
        """Say what happened."""
        if isinstance(event, Line):
            self._reporter.line(event.text)
        elif isinstance(event, ExpertDone):
            self._reporter.line(
                f"{milestone_id}: expert {_rate(event.success_rate)}, {_steps(event.mean_steps)} steps, "
                f"step limit {event.max_episode_steps or 'none'}"
            )
        elif isinstance(event, RoundDone):
            self._seconds.append(event.seconds)
            self._rounds_left -= 1
            left_s = self._rounds_left * sum(self._seconds) / len(self._seconds) / self._jobs
            self._reporter.line(
                f"{milestone_id}: iteration {event.iteration + 1}/{event.iterations}, beta {event.beta:.2f}, success "
                f"{_rate(event.success_rate)}, {_steps(event.mean_steps)} steps, loss {event.loss:.3f}, "
                f"{event.labels} labels, {event.seconds:.1f} s, ETA {_clock(left_s)}"
            )

    def ended(self, result: MilestoneResult) -> None:
        """Say how it went."""
        reason = f": {result.reason}" if result.reason else f", success {_rate(result.dagger_final_success_rate)}"
        self._reporter.line(f"{result.milestone_id}: {result.status}{reason}")


class Bars:
    """One bar for all milestones and one for each that runs. Use it with `with`."""

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}", markup=False),
            TimeRemainingColumn(),
            console=console,
        )
        self._iterations, self._all, self._bars = 1, TaskID(0), dict[str, TaskID]()

    def __enter__(self) -> Bars:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def begin(self, plan: Schedule, options: PipelineOptions) -> None:
        """Show the bar for all; it moves with every iteration."""
        self._iterations = options.settings.dagger_iterations
        total = len(plan.run) * self._iterations
        self._all = self._progress.add_task("all milestones", total=total, note=f"{len(plan.run)} to do")

    def started(self, milestone_id: str) -> None:
        """Show a milestone's bar."""
        self._bars[milestone_id] = self._progress.add_task(milestone_id, total=self._iterations, note="expert")

    def heard(self, milestone_id: str, event: Event) -> None:
        """Move the bars."""
        if isinstance(event, RoundDone):
            note = f"success {_rate(event.success_rate)}, {event.labels} labels"
            before = self._progress.tasks[self._bars[milestone_id]].completed
            self._progress.update(self._bars[milestone_id], completed=event.iteration + 1, note=note)
            self._progress.advance(self._all, event.iteration + 1 - before)
        elif isinstance(event, ExpertDone):
            self._progress.update(self._bars[milestone_id], note=f"expert {_rate(event.success_rate)}")
        elif isinstance(event, Line):
            self._progress.console.print(ascii_safe(event.text), markup=False, highlight=False)

    def ended(self, result: MilestoneResult) -> None:
        """Leave one line behind, and let the bar for all pass over what was not done."""
        bar = self._bars.pop(result.milestone_id, None)
        if bar is not None:
            self._progress.advance(self._all, self._iterations - self._progress.tasks[bar].completed)
            self._progress.update(bar, visible=False)
        how = result.reason or f"success {_rate(result.dagger_final_success_rate)}"
        text = ascii_safe(f"{result.milestone_id}: {result.status}, {how}")
        self._progress.console.print(text, markup=False, highlight=False)


def summary(results: Sequence[MilestoneResult], console: Console) -> None:
    """Print the table that a run ends with."""
    table = Table()
    for name in ("milestone", "status", "expert", "steps", "limit", "policy"):
        table.add_column(name, no_wrap=True)
    table.add_column("reason", overflow="fold")
    for r in results:
        steps = f"{_steps(r.expert_mean_steps)} +- {_steps(r.expert_std_steps)}" if r.expert_mean_steps else ""
        row = (r.milestone_id, r.status, _rate(r.expert_success_rate), steps, str(r.max_episode_steps or ""))
        table.add_row(*row, _rate(r.dagger_final_success_rate), ascii_safe(r.reason).replace("[", r"\["))
    console.print(table)


def _rate(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _steps(value: float | None) -> str:
    return "no" if value is None else f"{value:.1f}"


def _clock(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{seconds:.0f} s" if seconds < 90 else f"{minutes // 60}:{minutes % 60:02d} h"
