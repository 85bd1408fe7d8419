"""Carries one cycle through its phases: launches the trainer, listens, times it, publishes what it leaves."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace
from pathlib import Path

from daemon.errors import DaemonError
from daemon.ledger.cycle import (
    Cycle,
    Event,
    Failed,
    Interrupted,
    Launching,
    Phase,
    Published,
    RetryPolicy,
    RetryRequested,
    Selected,
    Trained,
    advance,
)
from daemon.ledger.records import Publication
from daemon.process.child import Child, ChildSpec, script_command, trainer_command
from daemon.process.interpreter import command_line, python_for, script_for
from daemon.process.orphans import kill_orphans
from daemon.process.output_log import last_line
from daemon.process.reaper import Reaper
from daemon.publishing.pointer import PublishError
from daemon.publishing.publish import publish
from daemon.runtime.context import Context
from daemon.training.disk_space import has_room
from daemon.training.exit_reason import exit_reason
from daemon.training.job_builder import make_job, project_contract
from daemon.training.notices import remember_notice
from daemon.training.progress import CycleProgress
from daemon.training.timeouts import Timeouts
from daemon.training.timers import AwakeClock, RetryTimer
from daemon.training.warm_trainer import Launcher, WarmTrainer
from schemas.errors import HotlapError, ModelError
from schemas.job import Event as Said
from schemas.job import ExitCode, Failure, Job, JobKind, Notice, Ready, Result, Selecting
from schemas.text import printable

PUBLISH_RETRY_S = 2.0
MOST_NOTICES = 20
"""How many notices of one trainer people are shown."""


@dataclass(slots=True)
class _Run:
    """A trainer at work, with what it said so far."""

    child: Child
    spec: ChildSpec
    deadlines: Timeouts
    unheard: deque[Said] = field(default_factory=deque)
    notices: int = 0
    result: Result | None = None
    failure: Failure | None = None


class Runner:
    """At most one cycle at a time. `tick` never waits for a trainer."""

    def __init__(self, context: Context, launcher: Launcher, *, attempts: int, keep_warm: bool = False) -> None:
        self._context = context
        self._launcher = launcher
        settings = context.settings.daemon
        self._retry_policy = RetryPolicy(attempts, settings.failures_before_parking, settings.retry_delay_s)
        self._run: _Run | None = None
        self._spare = WarmTrainer(context, launcher) if keep_warm else None
        self._endings = Reaper(context.clock, settings.stop_grace_s)
        self._overdue: Failed | None = None
        self._awake, self._due = AwakeClock(context.clock), RetryTimer(context.clock)
        self._began = context.clock.monotonic()
        self._next_publish = 0.0
        self._is_recovering = False
        self.cycle: Cycle | None = None
        self.progress = CycleProgress()

    @property
    def busy(self) -> bool:
        """Return whether a cycle is under way, parked ones not counted."""
        return self.cycle is not None and self.cycle.phase not in {Phase.PUBLISHED, Phase.FAILED, Phase.PARKED}

    @property
    def trainer_pid(self) -> int | None:
        """The running trainer."""
        return self._run.child.pid if self._run else None

    @property
    def elapsed_s(self) -> float:
        """Seconds since the running cycle began."""
        return self._context.clock.monotonic() - self._began if self.busy else 0.0

    def recover(self) -> None:
        """Take up what an earlier daemon left: its trainers end, publishing is finished, training is done again."""
        count, undying = kill_orphans(self._context.paths.project)
        self._endings.adopt(undying)
        if count:
            self._context.log.info(f"{count} processes that an earlier daemon had left were ended")
        cycle = self._context.ledger.unfinished()
        if cycle is None:
            return
        self.cycle = cycle
        if cycle.phase in {Phase.TRAINING, Phase.SELECTING}:
            self._move(Interrupted())
            self._context.log.info(f"cycle {cycle.id} was interrupted while {cycle.phase}: it is done again")
        self._is_recovering = cycle.phase is Phase.PUBLISHING

    def begin(self, cycle: Cycle) -> None:
        """Take over a cycle that was just claimed."""
        self.cycle = cycle
        self._began = self._context.clock.monotonic()
        self.progress = CycleProgress()

    def retry(self) -> bool:
        """Try a parked cycle again; tell whether there was one."""
        if self.cycle is None or self.cycle.phase is not Phase.PARKED:
            return False
        self._began = self._context.clock.monotonic()
        self._move(RetryRequested())
        return True

    def stop(self) -> None:
        """End the trainer; its cycle is done again at the next start."""
        if self._run is not None:
            self._endings.terminate(self._run.child)
        self._run = None
        self._endings.shut_down()
        if self._spare is not None:
            self._spare.stop()

    def tick(self) -> float:
        """Do what is due; give the seconds until the next tick at the latest."""
        now = self._awake.read()
        if self._run and self._awake.resumed:
            self._run.deadlines.excuse(now)
        self._see_them_out()
        if self._spare is not None:
            self._spare.tick(may_start=self._may_warm())
        if self.cycle is None:
            return 60.0
        if self._overdue is None and self._run is None and self.cycle.phase in {Phase.TRAINING, Phase.SELECTING}:
            self._fail(Failed("its trainer was lost when the ledger or the disk refused"))
        if self.cycle.phase is Phase.CLAIMED:
            wait_s = self._due.left_s(self.cycle, now, self._retry_policy)
            if wait_s > 0 or self._endings.busy or not has_room(self._context):
                return min(max(wait_s, 0.1), 1.0)
            self._launch()
        if self._run is not None:
            self._listen(self._run, now)
        if self.cycle.phase is Phase.PUBLISHING and now >= self._next_publish:
            self._publish(now)
        return 0.5 if self.busy or self._endings.busy else 60.0

    def _move(self, event: Event) -> None:
        assert self.cycle is not None
        now_s = self._context.clock.utc_s()
        failures = self._context.ledger.failures_in_a_row() if isinstance(event, Failed) else 0
        after = advance(self.cycle, event, now_s=now_s, retry_policy=self._retry_policy, failures_in_a_row=failures)
        self._context.ledger.move(self.cycle, after, at_s=now_s)
        self.cycle = after

    def _staging(self) -> Path:
        assert self.cycle is not None
        return self._context.paths.staging / f"cycle_{self.cycle.id:06d}"

    def _launch(self) -> None:
        assert self.cycle is not None
        cycle, settings = self.cycle, self._context.settings
        staging = self._staging()
        self._move(Launching())
        self._context.clear_warning(prefix="W_TRAINER")
        try:
            self._context.disk.remove_folder(staging)
            self._context.disk.make_folder(staging)
            if settings.daemon.training_script and cycle.kind == "train":
                self._start_script(staging)
            else:
                self._start_trainer("initial" if cycle.kind == "initial" else "train")
        except (DaemonError, OSError) as error:
            self._fail(Failed(str(error)))

    def _start_trainer(self, kind: JobKind) -> None:
        assert self.cycle is not None
        context = self._context
        log = context.paths.cycle_log(self.cycle.id)
        job = make_job(context, self.cycle, kind=kind, output=self._staging())
        python = python_for(context.settings.daemon.python_executable)
        command = trainer_command(
            python, folder=self._staging(), log=log, project=context.paths.project, settings=context.settings.trainer
        )
        taken = self._spare.take(log) if self._spare is not None else None
        child, is_ready = taken or (self._launcher.start(command, speaks_events=True), False)
        child.send(job)
        self._adopt(child, command, speaks_events=True, ready=is_ready)
        self._announce(job, kind)

    def _may_warm(self) -> bool:
        """A spare is worth its memory once there is a model to go on from and nothing runs."""
        settings = self._context.settings.daemon
        is_free = not self.busy and not self._endings.busy
        is_free = is_free and self.cycle is not None and self.cycle.phase is not Phase.PARKED
        return is_free and settings.enable_auto_training and not settings.training_script

    def _start_script(self, staging: Path) -> None:
        assert self.cycle is not None
        context, settings = self._context, self._context.settings
        log = context.paths.cycle_log(self.cycle.id)
        script = script_for(settings.daemon.training_script, context.paths.project)
        python = python_for(settings.daemon.python_executable)
        arguments = (str(context.paths.exports), str(staging), str(settings.trainer.epochs), settings.trainer.device)
        command = script_command(python, script, arguments, folder=staging, log=log, project=context.paths.project)
        self._adopt(self._launcher.start(command, speaks_events=False), command, speaks_events=False)
        self._context.log.info(f"[2/5] training with {script.name}: {settings.trainer.epochs} epochs")

    def _adopt(self, child: Child, spec: ChildSpec, *, speaks_events: bool, ready: bool = False) -> None:
        settings = self._context.settings
        deadlines = Timeouts(settings.daemon, speaks_events, started=self._awake.read(), ready=ready)
        self._run = _Run(child, spec, deadlines)
        self.progress = CycleProgress(epochs_total=settings.trainer.epochs, doing="starting")

    def _announce(self, job: Job, kind: str) -> None:
        if kind == "initial":
            self._context.log.info(
                f"making the initial model (version 0): {job.contract.observation_size} observations, "
                f"{job.contract.action_space.in_words()}"
            )
        elif kind == "train":
            new = sum(rollout.is_new for rollout in job.rollouts)
            self._context.log.info(
                f"[2/5] training: {new} new rollouts, {len(job.rollouts) - new} older to draw from, "
                f"{job.settings.epochs} epochs"
            )

    def _listen(self, run: _Run, now: float) -> None:
        exit_code = run.child.poll()
        if exit_code is not None and not run.child.reap():
            self._endings.await_exit(run.child)
        run.unheard += run.child.events()
        while run.unheard:  # where the ledger refuses one, the rest is heard the next time
            self._hear(run, run.unheard.popleft(), now)
        if run.result is not None:
            self._selected(run.result)  # first: a ledger that refuses is asked again, the result is not lost
            self._run = None
            self._endings.await_exit(run.child)
        elif exit_code is not None:
            self._run = None
            self._ended(run, exit_code)
        elif reason := run.deadlines.overdue(now, run.spec.log.name):
            self._run, self._overdue = None, Failed(reason)
            self.progress = replace(self.progress, doing="ending a trainer that is overdue")
            self._endings.terminate(run.child)

    def _see_them_out(self) -> None:
        """Let trainers end, and fail the cycle of an overdue one when it is gone; until then there is no other."""
        self._endings.tick()
        if stuck := self._endings.stuck:
            who = f"the trainer (pid {', '.join(map(str, stuck))}) was killed and does not end"
            self._context.warn(
                "W_STUCK", f"stuck: {who}; no other is started -> a driver or a disk hangs: restart the machine"
            )
            self.progress = replace(self.progress, doing=f"stuck: {who}")
        else:
            self._context.clear_warning("W_STUCK")
        if self._overdue is not None and not self._endings.busy:
            overdue, self._overdue = self._overdue, None
            self._fail(overdue)

    def _hear(self, run: _Run, event: Said, now: float) -> None:
        assert self.cycle is not None
        before, self.progress = self.progress, self.progress.after(event)
        has_advanced = self.progress.is_ahead_of(before)
        match event:
            case Notice(code=code, message=message) if run.notices < MOST_NOTICES:
                run.notices += 1
                self._context.warn(f"W_TRAINER_{printable(code, limit=40)}", printable(message))
                remember_notice(self._context.ledger, self.cycle.id, printable(code, limit=40), printable(message))
            case Selecting() if self.cycle.phase is Phase.TRAINING:
                has_advanced = True
                self._context.log.info(f"[3/5] selecting the best of {len(self.progress.epochs)} epochs")
                self._move(Trained())
            case Result():
                run.result = event
            case Failure():
                run.failure = event
        run.deadlines.hear(now, is_ready=isinstance(event, Ready), has_advanced=has_advanced)

    def _ended(self, run: _Run, exit_code: int) -> None:
        """The child is gone without a result: a script that is done, or a failure."""
        assert self.cycle is not None
        is_script = not run.deadlines.speaks_events
        if is_script and exit_code == 0 and not self._endings.busy:
            self._move(Trained())
            self._context.log.info("[3/5] selecting the best of what the script left")
            try:
                self._start_trainer("select")
            except (DaemonError, OSError) as error:
                self._fail(Failed(str(error)))
            return
        broken = exit_reason(
            exit_code,
            run.failure,
            last_words=last_line(run.spec.log),
            is_script=is_script,
            was_ready=run.deadlines.ready,
            command=command_line(run.spec.arguments),
        )
        self._fail(broken)

    def _fail(self, failed: Failed) -> None:
        assert self.cycle is not None
        cycle = self.cycle
        self._move(replace(failed, why=printable(failed.why)))
        log = self._context.log
        if self.cycle.phase is Phase.CLAIMED:
            delay_s = self.cycle.due_s - self._context.clock.utc_s()
            log.warning(f"cycle {cycle.id}: {failed.why}; trying again in {delay_s:.0f} s")
        elif self.cycle.phase is Phase.PARKED:
            self._context.warn(
                "W_PARKED", f"cycle {cycle.id} is parked: {failed.why} -> `python -m daemon trigger` retries"
            )
        else:
            self._context.warn("W_CYCLE_FAILED", f"cycle {cycle.id} failed: {failed.why} (log: cycle_{cycle.id}.log)")

    def _selected(self, result: Result) -> None:
        assert self.cycle is not None
        if self.cycle.phase is Phase.TRAINING:
            self._move(Trained())
        now_s = self._context.clock.utc_s()
        after = advance(self.cycle, Selected(), now_s=now_s, retry_policy=self._retry_policy)
        value_loss = result.losses.get("value_loss")
        self._context.ledger.store_result(self.cycle, after, result, value_loss=value_loss, at_s=now_s)
        self.cycle = after
        self.progress = replace(self.progress, chosen=result.epoch, doing="publishing", fraction=1.0)
        self._next_publish = 0.0

    def _publish(self, now: float) -> None:
        assert self.cycle is not None
        context, cycle = self._context, self.cycle
        result = context.ledger.result(cycle.id)
        contract = result.contract if result and cycle.kind == "initial" else project_contract(context)
        try:
            if result is None:
                raise PublishError("its result is not in the ledger", hint="it is trained again")
            placed = publish(
                result,
                staging=self._staging(),
                cycle=cycle.id,
                contract=contract,
                paths=context.paths,
                keep_checkpoints=context.settings.daemon.keep_checkpoints == "all",
                disk=context.disk,
            )
        except (PublishError, ModelError) as error:
            if self._is_recovering:
                self._is_recovering = False
                self._move(Interrupted())
            else:
                self._fail(Failed(str(error), ExitCode.BAD_DATA))
            return
        except (OSError, HotlapError) as error:
            context.warn("W_PUBLISH", f"version {cycle.policy_version} cannot be published yet: {error}; trying again")
            self._next_publish = now + PUBLISH_RETRY_S
            return
        context.clear_warning("W_PUBLISH", "W_PARKED", "W_CYCLE_FAILED")
        self._is_recovering = False
        at_s = context.clock.utc_s()
        publication = Publication(cycle.id, cycle.policy_version, result.epoch, placed.model, placed.sha256, at_s)
        self._commit(result, publication, contract.to_bytes())

    def _commit(self, result: Result, publication: Publication, contract: bytes) -> None:
        assert self.cycle is not None
        cycle = self.cycle
        after = advance(cycle, Published(), now_s=publication.at_s, retry_policy=self._retry_policy)
        seconds = self._context.clock.monotonic() - self._began
        self._context.ledger.commit_publication(cycle, after, publication, seconds=seconds, contract=contract)
        self.cycle = after
        score = "" if result.score is None else f", score {result.score:.4f}"
        chosen = f"version {publication.policy_version} is epoch {result.epoch}{score}"
        self._context.log.info(f"[4/5] published: {chosen} ({publication.model})")
