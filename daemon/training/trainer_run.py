"""One run of a trainer or a training script: its start, and the events so far."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from daemon.ledger.cycle import Failed
from daemon.process.child import Child, ChildSpec, script_command, trainer_command
from daemon.process.interpreter import command_line, python_for, script_for
from daemon.process.output_log import last_error
from daemon.publishing.publish import require_folder
from daemon.runtime.context import Context
from daemon.training.active_cycle import ActiveCycle
from daemon.training.exit_reason import exit_reason
from daemon.training.job_builder import make_job
from daemon.training.messages import log_script_start, log_trainer_start
from daemon.training.timeouts import Timeouts
from daemon.training.warm.warm_trainer import Launcher, WarmTrainer
from schemas.job import Event, Failure, Job, JobKind, Result
from schemas.storage.windows_paths import for_script


@dataclass(slots=True)
class TrainerRun:
    """A running trainer and its events so far."""

    child: Child
    spec: ChildSpec
    timeouts: Timeouts
    job: Job | None = None  #: None for a script, which sends no result
    was_warm: bool = False  #: whether it was started before its cycle
    unhandled: deque[Event] = field(default_factory=deque)
    result: Result | None = None
    failure: Failure | None = None

    def failed(self, exit_code: int) -> Failed:
        """Return the failure of a trainer that exited without a result."""
        return exit_reason(
            exit_code,
            self.failure,
            last_words=last_error(self.spec.log),
            is_script=not self.timeouts.sends_events,
            was_ready=self.timeouts.ready,
            command=command_line(self.spec.arguments),
        )


def start_trainer(
    active: ActiveCycle,
    kind: JobKind,
    context: Context,
    launcher: Launcher,
    warm_trainer: WarmTrainer | None,
    *,
    now: float,
    gap_s: float | None,
) -> TrainerRun:
    """Send the cycle's job to the warm trainer, or else to a new trainer. Raises DaemonError or OSError.

    `gap_s` are the seconds from the last publish to the claim of this cycle, if they are known.
    """
    settings, staging, log = context.settings, active.staging, active.log
    if kind == "select":
        require_folder(staging)  # a script has written to it
    job = make_job(context, active.cycle, kind=kind, output=staging)
    if warm_trainer is not None and warm_trainer.will_start_beside(gap_s):
        job = job.model_copy(update={"busy_cores": 1})
    python = python_for(settings.daemon.python_executable)
    spec = trainer_command(python, log=log, project=context.paths.project, settings=settings.trainer)
    warm = warm_trainer.hand_over(log) if warm_trainer is not None else None
    child, is_ready = warm or (launcher.start(spec, sends_events=True), False)
    child.send(job)
    log_trainer_start(context.log, job)
    timeouts = Timeouts(settings.daemon, sends_events=True, started=now, ready=is_ready)
    return TrainerRun(child, spec, timeouts, job, was_warm=warm is not None)


def start_script(active: ActiveCycle, context: Context, launcher: Launcher, *, now: float) -> TrainerRun:
    """Start the user's training script. Raises DaemonError or OSError."""
    settings, staging, project = context.settings, active.staging, context.paths.project
    script = script_for(settings.daemon.training_script, project)
    python = python_for(settings.daemon.python_executable)
    arguments = (
        for_script(context.paths.exports),
        for_script(staging),
        str(settings.trainer.epochs),
        settings.trainer.device,
    )
    spec = script_command(python, script, arguments, log=active.log, project=project)
    child = launcher.start(spec, sends_events=False)
    log_script_start(context.log, script, settings.trainer.epochs)
    return TrainerRun(child, spec, Timeouts(settings.daemon, sends_events=False, started=now))
