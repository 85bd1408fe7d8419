"""Runs one cycle: starts the trainer, handles its events, enforces its time limits, publishes its model."""

from __future__ import annotations

from dataclasses import replace

from daemon.errors import DaemonError
from daemon.ledger.cycle import Cycle, Failed, Interrupted, Launching, Phase, RetryPolicy, RetryRequested, Trained
from daemon.process.orphans import kill_orphans
from daemon.process.reaper import Reaper
from daemon.publishing.pointer import PublishError
from daemon.runtime.context import Context
from daemon.runtime.in_the_way import clear_passing_problem, clear_the_way
from daemon.training.active_cycle import ActiveCycle
from daemon.training.disk_space import may_start
from daemon.training.exit_reason import ConsoleClosed
from daemon.training.messages import report_failure, report_parked, report_stuck, report_unpublished
from daemon.training.notices import ShownNotices, remember_settings, settings_have_changed
from daemon.training.progress import CycleProgress
from daemon.training.recovery.decision import remove_cause
from daemon.training.result_check import checked_result
from daemon.training.timers import AwakeClock, RetryTimer
from daemon.training.trainer_run import TrainerRun, start_script, start_trainer
from daemon.training.warm.pace import Pace, situation_of
from daemon.training.warm.warm_trainer import Launcher, WarmTrainer
from schemas.errors import HotlapError, ModelError
from schemas.job import Event, ExitCode, Failure, JobKind, Notice, Ready, Result, Selecting
from schemas.storage.windows_paths import error_text
from schemas.text import printable

PUBLISH_RETRY_S = 2.0


class Runner:
    """Runs at most one cycle at a time. `tick` never waits for a trainer."""

    def __init__(self, context: Context, launcher: Launcher, *, attempts: int, keep_warm: bool = False) -> None:
        self._context = context
        self._launcher = launcher
        settings = context.settings.daemon
        self._retry_policy = RetryPolicy(attempts, settings.failures_before_parking, settings.retry_delay_s)
        self._active: ActiveCycle | None = None
        self._run: TrainerRun | None = None
        keep_warm = keep_warm and settings.enable_auto_training and not settings.training_script
        self._warm_trainer = WarmTrainer(context, launcher) if keep_warm else None
        self._pace = Pace()
        self._reaper = Reaper(context.clock, settings.stop_grace_s)
        self._timed_out: Failed | None = None
        self._awake_clock, self._retry_timer = AwakeClock(context.clock), RetryTimer(context.clock)
        self._next_publish = 0.0
        self._is_recovering = False
        self._console_closed = ConsoleClosed()
        self._notices = ShownNotices(context)
        self.progress = CycleProgress()

    @property
    def cycle(self) -> Cycle | None:
        """Return the running cycle, or else the last one since the daemon started."""
        return self._active.cycle if self._active else None

    @property
    def busy(self) -> bool:
        """Return whether a cycle is running. A parked cycle is not."""
        return self._active is not None and not self._active.is_over

    @property
    def trainer_pid(self) -> int | None:
        """Return the pid of the running trainer, or None."""
        return self._run.child.pid if self._run else None

    @property
    def elapsed_s(self) -> float:
        """Return the seconds since the running cycle began; 0 if none is running."""
        return self._active.elapsed_s if self._active and self.busy else 0.0

    def recover(self) -> None:
        """Continue after an earlier daemon: end its trainers, then finish its publish or train its cycle again."""
        count, remaining = kill_orphans(self._context.paths.project)
        self._reaper.adopt(remaining)
        if count:
            self._context.log.info(f"{count} processes of an earlier daemon were ended")
        ledger = self._context.ledger
        cycle = ledger.unfinished()
        if cycle is None:
            result = ledger.result(ledger.last_cycle_id())
            self.progress = CycleProgress() if result is None else CycleProgress.of_result(result)
            return
        self._active = ActiveCycle(self._context, cycle, self._retry_policy)
        if cycle.phase in {Phase.TRAINING, Phase.SELECTING}:
            self._active.move(Interrupted())
            self._context.log.info(f"cycle {cycle.id} was interrupted while {cycle.phase}: it is trained again")
        self._is_recovering = cycle.phase is Phase.PUBLISHING
        if cycle.phase is Phase.PARKED:
            self._recover_parked(cycle)

    def _recover_parked(self, cycle: Cycle) -> None:
        """Try a parked cycle once if the settings have changed since then; else report that it is parked."""
        if settings_have_changed(self._context):
            remember_settings(self._context)  # so that a start that is interrupted does not try again and again
            self._context.log.info(f"the settings have changed since cycle {cycle.id} was parked: it is tried again")
            self.retry()
        else:
            report_parked(self._context, cycle)

    def begin(self, cycle: Cycle) -> None:
        """Run a cycle that was just claimed."""
        self._active = ActiveCycle(self._context, cycle, self._retry_policy)
        self._pace.record_claim(self._awake_clock.read())
        self.progress = CycleProgress()

    def retry(self) -> bool:
        """Try a parked cycle again; return False if no cycle is parked."""
        if self._active is None or self._active.phase is not Phase.PARKED:
            return False
        self._active.restart_timer()
        self._active.move(RetryRequested())
        return True

    def stop(self) -> None:
        """End the trainers. The next start trains the running cycle again."""
        if self._run is not None:
            self._reaper.terminate(self._run.child)
        self._run = None
        self._end_warm_trainer()
        self._reaper.shut_down()

    def tick(self) -> float:
        """Do the work that is due; return the seconds after which the next tick must follow."""
        now = self._awake_clock.read()
        if self._run and self._awake_clock.resumed:
            self._run.timeouts.restart_silence(now)
        self._end_trainers()
        self._tick_warm_trainer(now)
        if self._active is None:
            return 60.0
        return self._advance(self._active, now)

    def _advance(self, active: ActiveCycle, now: float) -> float:
        is_training = active.phase in {Phase.TRAINING, Phase.SELECTING}
        if is_training and self._run is None and self._timed_out is None:
            self._fail(active, Failed("its trainer was lost when a write to the ledger or the disk failed"))
        if active.phase is Phase.CLAIMED:
            wait_s = self._retry_timer.left_s(active.cycle, now, self._retry_policy)
            wait_s = max(wait_s, self._console_closed.left_s(now))
            if wait_s > 0 or self._reaper.busy or not may_start(self._context):
                return min(max(wait_s, 0.1), 1.0)
            self._launch(active)
        if self._run is not None:
            self._follow(active, self._run, now)
        if active.phase is Phase.PUBLISHING and now >= self._next_publish:
            self._publish(active, now)
        return 0.5 if self.busy or self._reaper.busy else 60.0

    def _launch(self, active: ActiveCycle) -> None:
        settings, disk = self._context.settings, self._context.disk
        active.move(Launching())
        self._notices.clear()
        try:
            disk.remove_folder(active.staging)
            disk.make_folder(active.staging)
            if settings.daemon.training_script and active.cycle.job_kind == "train":
                self._begin_run(start_script(active, self._context, self._launcher, now=self._awake_clock.read()))
            else:
                self._start_trainer(active, active.cycle.job_kind)
        except (DaemonError, OSError) as error:
            self._fail(active, Failed(error_text(error)))

    def _tick_warm_trainer(self, now: float) -> None:
        if self._active is not None and self._active.phase is Phase.PARKED:
            self._end_warm_trainer()  # nobody knows when the next cycle begins
        elif self._warm_trainer is not None:
            left_s = self._pace.training_left_s(self._run.timeouts if self._run else None, self.progress, now)
            situation = situation_of(
                self._context, self._active, is_ending=self._reaper.busy, gap_s=self._pace.gap_s, left_s=left_s
            )
            self._warm_trainer.tick(situation)

    def _end_warm_trainer(self) -> None:
        child = self._warm_trainer.release() if self._warm_trainer is not None else None
        if child is not None:
            self._reaper.terminate(child)

    def _start_trainer(self, active: ActiveCycle, kind: JobKind) -> None:
        now = self._awake_clock.read()
        gap_s, warm_trainer = self._pace.gap_s, self._warm_trainer
        self._begin_run(start_trainer(active, kind, self._context, self._launcher, warm_trainer, now=now, gap_s=gap_s))

    def _begin_run(self, run: TrainerRun) -> None:
        self._run = run
        self.progress = CycleProgress(epochs_total=self._context.settings.trainer.epochs, doing="starting")

    def _follow(self, active: ActiveCycle, run: TrainerRun, now: float) -> None:
        """Handle the trainer's events, then its result, its exit or an exceeded time limit."""
        exit_code = run.child.poll()
        if exit_code is not None and not run.child.reap():
            self._reaper.await_exit(run.child)
        run.unhandled += run.child.events()
        while run.unhandled:  # if the ledger raises an error, the next tick handles the other events
            self._handle(active, run, run.unhandled.popleft(), now)
        if run.result is not None:
            self._take_result(active, run, run.result, now)
        elif exit_code is not None:
            self._run = None
            self._handle_exit(active, run, exit_code)
        elif reason := run.timeouts.overdue(now, run.spec.log.name):
            self._run, self._timed_out = None, Failed(reason)
            self.progress = replace(self.progress, doing="ending a trainer that exceeded a time limit")
            self._reaper.terminate(run.child)

    def _handle(self, active: ActiveCycle, run: TrainerRun, event: Event, now: float) -> None:
        before, self.progress = self.progress, self.progress.after(event)
        has_advanced = self.progress.is_ahead_of(before)
        match event:
            case Ready() if self._warm_trainer is not None and not run.was_warm:
                self._warm_trainer.measure(run.child, now - run.timeouts.started)
            case Notice():
                self._notices.show(active.cycle.id, event)
            case Selecting() if active.phase is Phase.TRAINING:
                has_advanced = True
                self._context.log.info(f"[3/5] selecting the best of {len(self.progress.epochs)} epochs")
                active.move(Trained())
            case Result() if run.result is None:
                run.result = event
            case Failure():
                run.failure = event
        run.timeouts.record_event(now, is_ready=isinstance(event, Ready), has_advanced=has_advanced)

    def _handle_exit(self, active: ActiveCycle, run: TrainerRun, exit_code: int) -> None:
        """After a successful script, start the selection of an epoch; else fail the attempt."""
        is_script = not run.timeouts.sends_events
        if is_script and exit_code == 0 and not self._reaper.busy:
            active.move(Trained())
            self._context.log.info("[3/5] selecting the best of the script's checkpoints")
            try:
                self._start_trainer(active, "select")
            except (DaemonError, PublishError, OSError) as error:
                self._fail(active, Failed(error_text(error)))
            return
        if self._console_closed.interrupts(active.cycle.id, exit_code, self._awake_clock.read()):
            active.move(Interrupted())
            self._context.log.warning(f"cycle {active.cycle.id}: Windows ended its trainer with the console")
            return
        self._fail(active, run.failed(exit_code))

    def _end_trainers(self) -> None:
        """Let the reaper do its next steps. After a trainer that exceeded a time limit has ended, fail its attempt."""
        self._reaper.tick()
        if pids := self._reaper.stuck:
            self.progress = replace(self.progress, doing=report_stuck(self._context, pids))
        else:
            self._context.clear_warning("W_STUCK")
        if self._active is not None and self._timed_out is not None and not self._reaper.busy:
            failed, self._timed_out = self._timed_out, None
            self._fail(self._active, failed)

    def _fail(self, active: ActiveCycle, failed: Failed) -> None:
        failed = replace(failed, why=printable(failed.why))
        if remove_cause(self._context, active, failed):
            return
        active.move(failed)
        if active.phase is Phase.PARKED:
            remember_settings(self._context)
        report_failure(self._context, active.cycle)

    def _take_result(self, active: ActiveCycle, run: TrainerRun, result: Result, now: float) -> None:
        """Store a result, which is published next, and let its trainer end. A wrong result fails the attempt."""
        try:
            active.store_result(checked_result(result, run.job) if run.job else result)
        except PublishError as error:
            self._run = None
            self._reaper.terminate(run.child)
            self._fail(active, Failed(error_text(error), ExitCode.BAD_DATA))
            return
        self.progress = replace(self.progress, chosen=result.epoch, doing="publishing", fraction=1.0)
        self._next_publish = 0.0
        self._pace.record_result(active.cycle, run.timeouts, now)
        self._run = None  # not before: if the ledger raises an error, the next tick tries again
        self._reaper.await_exit(run.child)

    def _publish(self, active: ActiveCycle, now: float) -> None:
        context = self._context
        try:
            publication = active.publish()
        except (PublishError, ModelError) as error:
            if self._is_recovering:  # the files are incomplete because of the crash, not because of the trainer
                self._is_recovering = False
                active.move(Interrupted())
            else:
                self._fail(active, Failed(error_text(error), ExitCode.BAD_DATA))
            return
        except (OSError, HotlapError) as error:
            report_unpublished(context, active.cycle, error)
            clear_the_way(context)
            self._next_publish = now + PUBLISH_RETRY_S
            return
        context.clear_warning("W_PUBLISH", "W_PARKED", "W_CYCLE_FAILED")
        clear_passing_problem(context)
        self._is_recovering = False
        active.commit(publication)
        self._pace.record_publish(now)
