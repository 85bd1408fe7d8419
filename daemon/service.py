"""One pass of the daemon: commands, scan of Exports, the running cycle, the next cycle, retention, status."""

from __future__ import annotations

from typing import Protocol

from daemon.errors import DaemonError, Exit, nothing_new, nothing_to_train_on
from daemon.ledger.cycle import Phase
from daemon.process.interpreter import check_launch
from daemon.publishing.adoption import claim_adoption, require_shape
from daemon.publishing.foreign_files import first_free_cycle, set_aside_or_warn
from daemon.publishing.republish import publish_exported_epoch, repair_pointer
from daemon.publishing.retention import apply_retention, remove_leftovers
from daemon.rollouts.inbox import Inbox
from daemon.rollouts.misplaced import find_misplaced
from daemon.runtime.commands import Command, Reply, clear_commands, handle_commands
from daemon.runtime.context import Context
from daemon.runtime.in_the_way import clear_the_way
from daemon.training.job_builder import project_contract
from daemon.training.recovery.parents import stored_name, usual_parent
from daemon.training.runner import Runner
from daemon.ui.snapshot import Snapshot
from daemon.ui.status_writer import StatusWriter
from schemas.errors import HotlapError
from schemas.job import Adoption
from schemas.storage.windows_paths import error_text
from schemas.text import printable


class Screen(Protocol):
    """Shows snapshots. `show` returns at once."""

    def show(self, snapshot: Snapshot) -> None:
        """Show the newest snapshot."""


class Service:
    """Makes all decisions of one daemon, on one thread. If not `automatic`, only `trigger` starts a cycle."""

    def __init__(
        self,
        context: Context,
        inbox: Inbox,
        runner: Runner,
        reporter: StatusWriter,
        screen: Screen | None,
        *,
        automatic: bool = True,
    ) -> None:
        self._automatic = automatic
        self._context = context
        self._inbox = inbox
        self._runner = runner
        self._reporter = reporter
        self._screen = screen
        self._triggered: str | None = None
        self._may_use_old = False

    def start(self) -> None:
        """Continue the cycle of an earlier daemon. Raises ContractError if the settings require another shape."""
        clear_the_way(self._context)
        clear_commands(self._context.paths, disk=self._context.disk)
        require_shape(self._context)
        set_aside_or_warn(self._context)
        self._inbox.rereading.start()
        self._runner.recover()
        remove_leftovers(self._context, self._runner.cycle)
        if self._runner.cycle is None or self._runner.cycle.phase is not Phase.PUBLISHING:
            repair_pointer(self._context)  # while a cycle is being published, it may name its model already
        if self.is_paused:
            self._context.log.warning("this project is paused: `hotlap resume` starts cycles again")

    @property
    def is_paused(self) -> bool:
        """Return whether a user has paused the project: rollouts are counted, but do not start a cycle."""
        return self._context.ledger.meta("paused") is not None

    @property
    def runner(self) -> Runner:
        """Return the runner of the cycles."""
        return self._runner

    @property
    def inbox(self) -> Inbox:
        """Return the inbox: the rollouts in Exports."""
        return self._inbox

    def trigger(self, cause: str, *, again: bool = False) -> None:
        """Start a cycle on the new rollouts as soon as no other cycle runs; if `again`, also if none is new."""
        self._triggered, self._may_use_old = cause, again

    @property
    def is_triggered(self) -> bool:
        """Return whether a trigger has not started its cycle yet."""
        return self._triggered is not None

    def nothing_to_train_on(self, *, again: bool, rejected: int = 0) -> DaemonError | None:
        """Return why a trigger would have no effect, or None. `rejected` files were rejected just now."""
        used, exports = self._inbox.file_count, self._context.paths.exports
        if self._context.ledger.pending_count() > 0 or (again and used):
            return None
        if used:
            return nothing_new(exports, used)
        misplaced = "; ".join(kind.sentence() for kind in find_misplaced(exports))
        return nothing_to_train_on(exports, misplaced, rejected=rejected)

    def tick(self) -> float:
        """Make one pass; return the seconds until the next one is due."""
        handle_commands(self._context, self._execute)
        delay_s = self._inbox.check()
        delay_s = min(delay_s, self._advance_cycle())
        if self._start_due_cycle():
            delay_s = min(delay_s, self._advance_cycle())  # start the trainer before the report, which takes some time
        self._report()
        return delay_s

    def _advance_cycle(self) -> float:
        """Let the cycle make one pass; return the seconds until the next one is due."""
        phase = self._runner.cycle.phase if self._runner.cycle else None
        delay_s = self._runner.tick()
        if self._runner.cycle and self._runner.cycle.phase is Phase.PUBLISHED and phase is not Phase.PUBLISHED:
            self._after_publish(self._runner.cycle.id)
        return delay_s

    def report_end(self) -> None:
        """Write a last status."""
        self._report(force=True)

    def _report(self, *, force: bool = False) -> None:
        pending = self._context.ledger.pending_count()
        runner = self._runner
        status = self._reporter.status(
            runner.cycle, runner.progress, is_paused=self.is_paused, pending=pending, elapsed_s=runner.elapsed_s
        )
        self._reporter.write(status, force=force)
        if self._screen is not None:
            self._screen.show(self._reporter.snapshot(status, runner.cycle, runner.trainer_pid))

    # Starting

    def _start_due_cycle(self) -> bool:
        runner, ledger, settings = self._runner, self._context.ledger, self._context.settings.daemon
        if runner.busy or not self._inbox.has_scanned or not (self._automatic or self._triggered):
            return False
        if self._inbox.rereading.is_busy or (self._automatic and not self._can_launch()):
            return False
        if self._is_parked:
            return self._retry_if_triggered()
        if self._initial_has_failed():
            if not (self._automatic and self._triggered):
                return False
            self._triggered = None
            return self._begin("initial", "trigger")
        if self._initial_is_due():
            return self._begin("initial", "initial") if self._inbox.is_up_to_date else False
        pending = ledger.pending_count()
        if self._triggered is not None:
            return self._begin_triggered()
        may_start = self._automatic and settings.enable_auto_training and not self.is_paused
        is_due = may_start and pending >= settings.auto_train_after_n_rollouts
        is_due = is_due and self._inbox.rereading.decide_contract(may_wait=True)
        return self._begin("train", "count") if is_due else False

    def _begin_triggered(self) -> bool:
        """Begin the triggered cycle. Without rollouts, wait until all files are read, then cancel the trigger."""
        reason = self.nothing_to_train_on(again=self._may_use_old)
        if reason is None:
            if not self._inbox.rereading.decide_contract(may_wait=False):
                return False
            cause, self._triggered = self._triggered or "", None
            return self._begin("train", cause)
        if self._inbox.is_up_to_date:
            self._triggered = None
            self._context.log.warning(reason.line())
        return False

    def _can_launch(self) -> bool:
        """Return whether the programs that a cycle starts exist. As long as they do not, no cycle begins."""
        try:
            check_launch(self._context.settings.daemon, self._context.paths.project)
        except HotlapError as error:
            self._context.warn("W_LAUNCH", f"no cycle can start: {error}")
            return False
        self._context.clear_warning("W_LAUNCH")
        return True

    def _retry_if_triggered(self) -> bool:
        if self._triggered is None:
            return False
        self._triggered = None
        self._context.clear_warning("W_PARKED")
        return self._runner.retry()

    def _initial_is_due(self) -> bool:
        """Return whether version 0 is missing, or has another contract than the first rollouts."""
        last = self._context.ledger.last_publication()
        if last is None:
            return True
        if self._context.ledger.has_trained():
            return False
        return self._context.ledger.meta("initial_contract") != project_contract(self._context).to_bytes().decode()

    @property
    def _is_parked(self) -> bool:
        return self._runner.cycle is not None and self._runner.cycle.phase is Phase.PARKED

    def _initial_has_failed(self) -> bool:
        cycle = self._runner.cycle
        return cycle is not None and cycle.job_kind == "initial" and cycle.phase is Phase.FAILED

    def _begin(self, kind: str, cause: str) -> bool:
        context = self._context
        if not clear_the_way(context):
            return False
        parent = stored_name(context, usual_parent(context))
        first, now_s = first_free_cycle(context), context.clock.utc_s()
        cycle = context.ledger.claim(kind=kind, cause=cause, parent=parent, at_s=now_s, first=first)
        if kind == "train":
            rollouts = context.ledger.rollouts_of(cycle.id)
            experiences = sum(used.row.experiences for used in rollouts)
            context.log.info(
                f"[1/5] rollouts taken in: {len(rollouts)} ({experiences:,} experiences), cycle {cycle.id}"
            )
            context.clear_warning("W_NONFINITE", "W_OLDER_PARENT")
        self._runner.begin(cycle)
        return True

    def _after_publish(self, cycle_id: int) -> None:
        context, settings = self._context, self._context.settings.daemon
        missing = max(0, settings.auto_train_after_n_rollouts - context.ledger.pending_count())
        seconds = context.ledger.history(1)[-1].seconds or 0.0
        context.log.info(f"[5/5] done in {seconds:.1f} s, waiting for {missing} more")
        apply_retention(context, cycle_id, self._inbox)

    # Commands

    def _execute(self, command: Command) -> Reply:
        ledger = self._context.ledger
        match command.what:
            case "trigger":
                return self._handle_trigger(again=command.again)
            case "pause":
                ledger.set_meta("paused", f"{self._context.clock.utc_s():.0f}")
                text = "paused: rollouts are counted, no cycle starts until `hotlap resume`"
                self._context.log.info(text)
                return Reply(ok=True, message=text)
            case "resume":
                ledger.set_meta("paused", None)
                self._context.log.info("resumed")
                return Reply(ok=True, message="resumed")
            case "publish":
                return self._publish_older(command)
            case "adopt":
                return self.adopt(command.adoption)

    def _handle_trigger(self, *, again: bool) -> Reply:
        if self.is_paused:
            return _refusal(DaemonError("paused: `hotlap resume` first", code="E_PAUSED"))
        if self._runner.busy:
            return Reply(ok=False, message="a cycle is running; the next one starts automatically")
        is_retry = self._is_parked or self._initial_has_failed()
        if not is_retry and self.nothing_to_train_on(again=again):
            self._inbox.scan_now()  # a rollout may have been written just now, and its event arrives later
            reason = self.nothing_to_train_on(again=again)
            if self._inbox.is_up_to_date and reason is not None:
                return _refusal(reason)
        self.trigger("trigger", again=again)
        return Reply(ok=True, message="a cycle starts on the rollouts in Exports")

    def adopt(self, adoption: Adoption | None) -> Reply:
        """Begin the cycle that adopts a model; the reply has its number. Refuse while another cycle is not over."""
        if adoption is None:
            return Reply(ok=False, message="the command does not name a file", exit_code=Exit.USAGE)
        if self._runner.busy:
            text = "a cycle is running; try again when it has ended"
            return Reply(ok=False, message=text, exit_code=Exit.USAGE)
        if self._is_parked:
            return _refusal(DaemonError("a cycle is parked", hint="`hotlap trigger` first", code="W_PARKED"))
        self._inbox.rereading.decide_contract(may_wait=False)  # the model must fit the pending rollouts
        cycle = claim_adoption(self._context, adoption)
        self._runner.begin(cycle)
        return Reply(ok=True, message=f"cycle {cycle.id} adopts {adoption.origin}", cycle=cycle.id)

    def _publish_older(self, command: Command) -> Reply:
        if self._runner.busy:
            return Reply(ok=False, message="a cycle is running; try again when it has ended")
        try:
            message = publish_exported_epoch(self._context, cycle=command.cycle, epoch=command.epoch)
        except (OSError, HotlapError) as error:
            return Reply(ok=False, message=printable(error_text(error)))
        return Reply(ok=True, message=message)


def _refusal(error: DaemonError) -> Reply:
    return Reply(ok=False, message=error.line(), exit_code=int(error.exit_code))
