"""Carries one cycle through its phases: launches the trainer, listens, times it, publishes what it leaves."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from daemon.cycle import (
    Broken,
    Cycle,
    Event,
    Launching,
    Lost,
    Patience,
    Phase,
    Published,
    Retrying,
    Selected,
    Trained,
    advance,
)
from daemon.errors import DaemonError
from daemon.jobs import make_job, project_contract
from daemon.launch import Child, last_line, python_for, script_command, script_for, trainer_command
from daemon.project import Project
from daemon.publish import PublishError, publish
from daemon.records import Publication
from daemon.spare import Launcher, Spare
from schemas.errors import HotlapError, ModelError
from schemas.job import EpochDone, ExitCode, Failure, Heartbeat, Job, Notice, Ready, Result, Selecting
from schemas.text import shown

PUBLISH_RETRY_S = 2.0
RESUMED_AFTER_S = 20.0
"""A gap this long between two looks means that the machine slept: nobody is to blame for the silence."""


@dataclass(slots=True)
class _Run:
    """A trainer at work, with what it said so far."""

    child: Child
    log: Path
    started: float
    last_heard: float
    speaks_events: bool
    ready: bool = False
    result: Result | None = None
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class Progress:
    """What the dashboard shows of the running, or else the last, cycle."""

    epochs: tuple[EpochDone, ...] = ()
    epochs_total: int = 0
    chosen: int | None = None
    doing: str = ""
    fraction: float = 0.0


class Runner:
    """At most one cycle at a time. `tick` never waits for a trainer."""

    def __init__(self, project: Project, launcher: Launcher, *, attempts: int, keep_warm: bool = False) -> None:
        self._project = project
        self._launcher = launcher
        settings = project.settings.daemon
        self._patience = Patience(attempts, settings.failures_before_parking, settings.retry_delay_s)
        self._run: _Run | None = None
        self._spare = Spare(project, launcher) if keep_warm else None
        self._retiring: list[tuple[Child, float]] = []
        self._last_tick = project.clock.monotonic()
        self._began = self._last_tick
        self._next_publish = 0.0
        self._is_recovering = False
        self.cycle: Cycle | None = None
        self.progress = Progress()

    @property
    def busy(self) -> bool:
        """Tell whether a cycle is under way, parked ones not counted."""
        return self.cycle is not None and self.cycle.phase not in {Phase.PUBLISHED, Phase.FAILED, Phase.PARKED}

    @property
    def trainer_pid(self) -> int | None:
        """The running trainer."""
        return self._run.child.pid if self._run else None

    @property
    def elapsed_s(self) -> float:
        """Seconds since the running cycle began."""
        return self._project.clock.monotonic() - self._began if self.busy else 0.0

    def recover(self) -> None:
        """Take up the cycle that an earlier daemon left: publishing is finished, training is done again."""
        cycle = self._project.ledger.unfinished()
        if cycle is None:
            return
        self.cycle = cycle
        if cycle.phase in {Phase.TRAINING, Phase.SELECTING}:
            self._move(Lost())
            self._project.log.info(f"cycle {cycle.id} was interrupted while {cycle.phase}: it is done again")
        self._is_recovering = cycle.phase is Phase.PUBLISHING

    def begin(self, cycle: Cycle) -> None:
        """Take over a cycle that was just claimed."""
        self.cycle = cycle
        self._began = self._project.clock.monotonic()
        self.progress = Progress()

    def retry(self) -> bool:
        """Try a parked cycle again; tell whether there was one."""
        if self.cycle is None or self.cycle.phase is not Phase.PARKED:
            return False
        self._began = self._project.clock.monotonic()
        self._move(Retrying())
        return True

    def stop(self) -> None:
        """End the trainer; its cycle is done again at the next start."""
        grace_s = self._project.settings.daemon.stop_grace_s
        for child in [*([self._run.child] if self._run else []), *(child for child, _ in self._retiring)]:
            child.stop(grace_s)
        if self._spare is not None:
            self._spare.stop()
        self._run = None
        self._retiring = []

    def tick(self) -> float:
        """Do what is due; give the seconds until the next tick at the latest."""
        now = self._project.clock.monotonic()
        if self._run and now - self._last_tick > RESUMED_AFTER_S:
            self._run.last_heard = now
        self._last_tick = now
        self._reap(now)
        if self._spare is not None:
            self._spare.tick(may_start=self._may_warm())
        if self.cycle is None:
            return 60.0
        if self._run is None and self.cycle.phase in {Phase.TRAINING, Phase.SELECTING}:
            self._fail(Broken("its trainer was lost when the ledger or the disk refused"))
        if self.cycle.phase is Phase.CLAIMED:
            wait_s = self.cycle.due_s - self._project.clock.utc_s()
            if wait_s > 0:
                return min(wait_s, 1.0)
            self._launch()
        if self._run is not None:
            self._listen(self._run, now)
        if self.cycle.phase is Phase.PUBLISHING and now >= self._next_publish:
            self._publish(now)
        return 0.5 if self.busy or self._retiring else 60.0

    def _move(self, event: Event) -> None:
        assert self.cycle is not None
        now_s = self._project.clock.utc_s()
        failures = self._project.ledger.failures_in_a_row() if isinstance(event, Broken) else 0
        after = advance(self.cycle, event, now_s=now_s, patience=self._patience, failures_in_a_row=failures)
        self._project.ledger.move(self.cycle, after, at_s=now_s)
        self.cycle = after

    def _staging(self) -> Path:
        assert self.cycle is not None
        return self._project.layout.staging / f"cycle_{self.cycle.id:06d}"

    def _launch(self) -> None:
        assert self.cycle is not None
        cycle, settings = self.cycle, self._project.settings
        staging = self._staging()
        self._move(Launching())
        self._project.settle(prefix="W_TRAINER")
        try:
            shutil.rmtree(staging, ignore_errors=True)
            staging.mkdir(parents=True)
            if settings.daemon.training_script and cycle.kind == "train":
                self._start_script(staging)
            else:
                self._start_trainer("initial" if cycle.kind == "initial" else "train")
        except (DaemonError, OSError) as error:
            self._fail(
                Broken(str(error), ExitCode.BAD_CONFIG if isinstance(error, DaemonError) else ExitCode.TEMPORARY)
            )

    def _start_trainer(self, kind: str) -> None:
        assert self.cycle is not None
        project = self._project
        log = project.layout.cycle_log(self.cycle.id)
        job = make_job(project, self.cycle, kind=kind, output=self._staging(), log=log)
        child, is_ready = self._trainer(log)
        child.give(job)
        self._adopt(child, log, speaks_events=True, ready=is_ready)
        self._announce(job, kind)

    def _trainer(self, log: Path) -> tuple[Child, bool]:
        """Give the spare trainer, or a new one; and whether it is ready."""
        if self._spare is not None and (taken := self._spare.take()) is not None:
            return taken
        project = self._project
        python = python_for(project.settings.daemon.python_executable)
        command = trainer_command(python, folder=self._staging(), log=log, project=project.layout.project)
        return self._launcher.start(command, speaks_events=True), False

    def _may_warm(self) -> bool:
        """A spare is worth its memory once there is a model to go on from and nothing runs."""
        settings = self._project.settings.daemon
        is_free = not self.busy and self.cycle is not None and self.cycle.phase is not Phase.PARKED
        return is_free and settings.enable_auto_training and not settings.training_script

    def _start_script(self, staging: Path) -> None:
        assert self.cycle is not None
        project, settings = self._project, self._project.settings
        log = project.layout.cycle_log(self.cycle.id)
        script = script_for(settings.daemon.training_script, project.layout.project)
        python = python_for(settings.daemon.python_executable)
        arguments = (str(project.layout.exports), str(staging), str(settings.trainer.epochs), settings.trainer.device)
        command = script_command(python, script, arguments, folder=staging, log=log)
        self._adopt(self._launcher.start(command, speaks_events=False), log, speaks_events=False)
        self._project.log.info(f"[2/5] training with {script.name}: {settings.trainer.epochs} epochs")

    def _adopt(self, child: Child, log: Path, *, speaks_events: bool, ready: bool = False) -> None:
        now = self._project.clock.monotonic()
        total = self._project.settings.trainer.epochs
        self._run = _Run(child, log, started=now, last_heard=now, speaks_events=speaks_events, ready=ready)
        self.progress = replace(self.progress, epochs_total=total, doing="starting", fraction=0.0)

    def _announce(self, job: Job, kind: str) -> None:
        if kind == "initial":
            self._project.log.info(
                f"making the initial model (version 0): {job.contract.observation_size} observations, "
                f"{job.contract.action_space.in_words()}"
            )
        elif kind == "train":
            new = sum(rollout.is_new for rollout in job.rollouts)
            self._project.log.info(
                f"[2/5] training: {new} new rollouts, {len(job.rollouts) - new} older to draw from, "
                f"{job.settings.epochs} epochs"
            )

    def _listen(self, run: _Run, now: float) -> None:
        exit_code = run.child.poll()
        for event in run.child.events():
            run.last_heard = now
            self._hear(run, event)
        if run.result is not None:
            self._run = None
            self._retiring.append((run.child, now + self._project.settings.daemon.stop_grace_s))
            self._selected(run.result)
        elif exit_code is not None:
            self._run = None
            run.child.stop(0.5)
            self._ended(run, exit_code)
        elif reason := self._overdue(run, now):
            self._run = None
            run.child.stop(self._project.settings.daemon.stop_grace_s)
            self._fail(Broken(reason))

    def _hear(self, run: _Run, event: object) -> None:
        assert self.cycle is not None
        match event:
            case Ready():
                run.ready = True
            case Heartbeat(doing=doing, progress=fraction):
                self.progress = replace(self.progress, doing=shown(doing), fraction=fraction)
            case Notice(code=code, message=message):
                self._project.warn(f"W_TRAINER_{code}", shown(message))
            case EpochDone():
                self.progress = replace(
                    self.progress,
                    epochs=(*self.progress.epochs, event),
                    epochs_total=event.epochs,
                    fraction=event.epoch / event.epochs,
                )
            case Selecting() if self.cycle.phase is Phase.TRAINING:
                self._project.log.info(f"[3/5] selecting the best of {len(self.progress.epochs)} epochs")
                self._move(Trained())
            case Result():
                run.result = event
            case Failure():
                run.failure = event

    def _overdue(self, run: _Run, now: float) -> str | None:
        settings = self._project.settings.daemon
        if run.speaks_events and not run.ready and now - run.started > settings.startup_timeout_s:
            return f"the trainer was not ready after {settings.startup_timeout_s:g} s; see {run.log.name}"
        if run.speaks_events and run.ready and now - run.last_heard > settings.silence_timeout_s:
            return f"the trainer gave no sign of life for {settings.silence_timeout_s:g} s; see {run.log.name}"
        if now - run.started > settings.training_timeout_s:
            return f"the training took longer than training_timeout_s = {settings.training_timeout_s:g} s"
        return None

    def _ended(self, run: _Run, exit_code: int) -> None:
        """The child is gone without a result: a script that is done, or a failure."""
        assert self.cycle is not None
        if not run.speaks_events and exit_code == 0:
            self._move(Trained())
            self._project.log.info("[3/5] selecting the best of what the script left")
            try:
                self._start_trainer("select")
            except DaemonError as error:
                self._fail(Broken(str(error), ExitCode.BAD_CONFIG))
            except OSError as error:
                self._fail(Broken(str(error)))
            return
        if run.failure is not None:
            code = f"[{run.failure.code}]"
            reason = run.failure.message if code in run.failure.message else f"{run.failure.message} {code}"
        elif exit_code < 0:
            reason = f"the trainer was killed by signal {-exit_code}, most often because memory ran out"
        else:
            said = last_line(run.log)
            what = "trainer" if run.speaks_events else "training script"
            reason = (
                f"the {what} ended with exit code {exit_code}: {said}" if said else f"exit code {exit_code}, no message"
            )
        self._fail(Broken(reason, exit_code or ExitCode.BUG))

    def _fail(self, broken: Broken) -> None:
        assert self.cycle is not None
        cycle = self.cycle
        self._move(replace(broken, why=shown(broken.why)))
        log = self._project.log
        if self.cycle.phase is Phase.CLAIMED:
            delay_s = self.cycle.due_s - self._project.clock.utc_s()
            log.warning(f"cycle {cycle.id}: {broken.why}; trying again in {delay_s:.0f} s")
        elif self.cycle.phase is Phase.PARKED:
            self._project.warn(
                "W_PARKED", f"cycle {cycle.id} is parked: {broken.why} -> `python -m daemon trigger` retries"
            )
        else:
            self._project.warn("W_CYCLE_FAILED", f"cycle {cycle.id} failed: {broken.why} (log: cycle_{cycle.id}.log)")

    def _selected(self, result: Result) -> None:
        assert self.cycle is not None
        if self.cycle.phase is Phase.TRAINING:
            self._move(Trained())
        now_s = self._project.clock.utc_s()
        after = advance(self.cycle, Selected(), now_s=now_s, patience=self._patience)
        value_loss = result.losses.get("value_loss")
        self._project.ledger.store_result(self.cycle, after, result, value_loss=value_loss, at_s=now_s)
        self.cycle = after
        self.progress = replace(self.progress, chosen=result.epoch, doing="publishing", fraction=1.0)
        self._next_publish = 0.0

    def _publish(self, now: float) -> None:
        assert self.cycle is not None
        project, cycle = self._project, self.cycle
        result = project.ledger.result(cycle.id)
        contract = result.contract if result and cycle.kind == "initial" else project_contract(project)
        try:
            if result is None:
                raise PublishError("its result is not in the ledger", hint="it is trained again")
            placed = publish(
                result,
                staging=self._staging(),
                cycle=cycle.id,
                contract=contract,
                layout=project.layout,
                keep_checkpoints=project.settings.daemon.keep_checkpoints == "all",
            )
        except (PublishError, ModelError) as error:
            if self._is_recovering:
                self._is_recovering = False
                self._move(Lost())
            else:
                self._fail(Broken(str(error), ExitCode.BAD_DATA))
            return
        except (OSError, HotlapError) as error:
            project.warn("W_PUBLISH", f"version {cycle.policy_version} cannot be published yet: {error}; trying again")
            self._next_publish = now + PUBLISH_RETRY_S
            return
        project.settle("W_PUBLISH", "W_PARKED", "W_CYCLE_FAILED")
        self._is_recovering = False
        at_s = project.clock.utc_s()
        publication = Publication(cycle.id, cycle.policy_version, result.epoch, placed.model, placed.sha256, at_s)
        self._commit(result, publication, contract.to_bytes())

    def _commit(self, result: Result, publication: Publication, contract: bytes) -> None:
        assert self.cycle is not None
        cycle = self.cycle
        after = advance(cycle, Published(), now_s=publication.at_s, patience=self._patience)
        seconds = self._project.clock.monotonic() - self._began
        self._project.ledger.commit_publication(cycle, after, publication, seconds=seconds, contract=contract)
        self.cycle = after
        score = "" if result.score is None else f", score {result.score:.4f}"
        chosen = f"version {publication.policy_version} is epoch {result.epoch}{score}"
        self._project.log.info(f"[4/5] published: {chosen} ({publication.model})")

    def _reap(self, now: float) -> None:
        """Let trainers that are done go by themselves; end those that linger."""
        still = []
        for child, until in self._retiring:
            if child.poll() is not None or now > until:
                child.stop(0.5)
            else:
                still.append((child, until))
        self._retiring = still
