"""Builds the service from settings and folders, and runs it."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import sqlite3
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from daemon.errors import DaemonError, Exit, nothing_to_train_on
from daemon.ledger.cycle import Phase
from daemon.ledger.sqlite_errors import LedgerDamaged
from daemon.process.child import ChildLauncher
from daemon.process.interpreter import check_device, check_python, script_for
from daemon.publishing.ledger_recovery import open_or_rebuild
from daemon.rollouts.inbox import Inbox
from daemon.runtime.clock import REAL_CLOCK
from daemon.runtime.context import Context
from daemon.runtime.failure_messages import CLEARED_BY_SUCCESS, describe_failure
from daemon.runtime.in_the_way import clear_files, clear_folders, clear_the_way, report_moved
from daemon.runtime.instance_lock import ProjectLock
from daemon.runtime.loop import Mailbox, run, stop_on_signals
from daemon.runtime.own_folders import detach_hard_links, linked_exports_note, require_own_folders
from daemon.runtime.project_folder import long_path_problem, note_without_engine_file
from daemon.runtime.project_mark import require_own_project
from daemon.runtime.state_folder import with_state_setting
from daemon.security.config_monitor import ConfigMonitor
from daemon.service import Service
from daemon.training.runner import Runner
from daemon.ui.dashboard import wants_dashboard
from daemon.ui.log import Log
from daemon.ui.screen import DashboardScreen
from daemon.ui.status_writer import StatusWriter
from daemon.ui.system_stats import SystemStatsSampler
from schemas import __version__
from schemas.errors import HotlapError
from schemas.settings.models import Settings
from schemas.storage.files import REAL_DISK
from schemas.storage.layout import ProjectPaths
from schemas.storage.windows_paths import shown_path

MAX_ATTEMPTS = 3
MAX_REBUILDS = 3


@dataclass(slots=True)
class App:
    """A service, and the parts that its main loop needs."""

    service: Service
    context: Context
    mailbox: Mailbox
    config_monitor: ConfigMonitor

    def run(self, until: Callable[[], bool] = lambda: False) -> bool:
        """Run until `until()` is true or a signal stops the daemon; return whether `until()` was true."""

        def report(error: Exception, delay_s: float) -> None:
            self.context.warn(*describe_failure(error, self.context.paths))
            _ignore_errors(lambda: clear_the_way(self.context))
            _ignore_errors(self.service.report_end)

        def tick() -> float:
            self.config_monitor.check()
            delay_s = self.service.tick()
            self.context.clear_warning(*CLEARED_BY_SUCCESS)
            return delay_s

        with stop_on_signals(self.mailbox):
            return run(tick, self.mailbox, until=until, on_error=report)


def _ignore_errors(report: Callable[[], object]) -> None:
    """Call `report` and ignore its errors: the status is written again soon."""
    with contextlib.suppress(OSError, sqlite3.Error, HotlapError):
        report()


@contextlib.contextmanager
def open_service(
    paths: ProjectPaths, settings: Settings, *, dashboard: bool, automatic: bool = True, config: Path | None = None
) -> Iterator[App]:
    """Open everything that a daemon needs, from the lock to the dashboard; close it at the end, in reverse order."""
    with contextlib.ExitStack() as stack:
        paths.leave()
        check_python(settings.daemon.python_executable)
        check_device(settings.daemon.python_executable, settings.trainer.device)
        if settings.daemon.training_script:
            script_for(settings.daemon.training_script, paths.project)
        paths = with_state_setting(paths, settings.daemon)
        require_own_folders(paths)
        require_own_project(paths)
        now_s = REAL_CLOCK.utc_s()
        moved = clear_folders((paths.training, paths.state), at_s=now_s)
        _make_folders(paths, paths.state)
        lock = ProjectLock(paths.lock, status=paths.status)
        moved += lock.acquire()
        stack.callback(lock.release)
        moved += clear_folders(paths.folders(), at_s=now_s)
        _make_folders(paths, *paths.folders_to_make())
        lock.lock_models(paths.models)
        _require_writable(paths.models, paths.cache, paths.staging)
        more, in_the_way = clear_files(paths, at_s=now_s)
        detach_hard_links(paths)
        shows_dashboard = dashboard and wants_dashboard(sys.stdout)
        log = Log(paths.daemon_log, console=sys.stdout)
        stack.callback(log.close)
        log.info(f"hotlap {__version__}, Python {platform.python_version()}, project {shown_path(paths.project)}")
        removes = settings.daemon.clear_exports_after_training or settings.daemon.max_export_files > 0
        if note := linked_exports_note(paths, removes=removes):
            log.info(note)
        if automatic:
            stack.callback(log.info, "stopped; the next start continues from here")
        ledger, rebuilt = open_or_rebuild(paths, now_s=REAL_CLOCK.utc_s())
        stack.callback(ledger.close)
        mailbox = Mailbox()
        paths = replace(paths, engine_project=settings.daemon.engine_path)
        context = Context(paths, settings, ledger, log, REAL_CLOCK, mailbox.wake, REAL_DISK)
        report_moved(context, [*moved, *more], in_the_way)
        if rebuilt is not None:
            context.warn("W_LEDGER_REBUILT", rebuilt)
        if too_long := long_path_problem(paths):
            context.warn("W_LONG_PATH", too_long)
        inbox = Inbox(context)
        stack.callback(inbox.close)
        keep_warm = automatic and settings.daemon.warm_trainer
        runner = Runner(
            context, ChildLauncher(mailbox.wake), attempts=MAX_ATTEMPTS if automatic else 1, keep_warm=keep_warm
        )
        stack.callback(runner.stop)
        screen = DashboardScreen(log) if shows_dashboard else None
        if screen is not None:
            stack.callback(screen.stop)
        service = Service(
            context, inbox, runner, StatusWriter(context, SystemStatsSampler()), screen, automatic=automatic
        )
        service.start()
        stack.callback(_ignore_errors, service.report_end)
        yield App(service, context, mailbox, ConfigMonitor(context, lock, config=config))


def _make_folders(paths: ProjectPaths, *folders: Path) -> None:
    for folder in folders:
        try:
            REAL_DISK.make_folder(folder)
        except OSError as error:
            above = (paths.project / "Saved", paths.training, paths.state, folder)
            if other := next((path for path in above if os.path.lexists(path) and not path.is_dir()), None):
                what, hint = f"{shown_path(other)} is not a folder", "move or rename it"
            else:
                what = f"{shown_path(folder)} cannot be created: {error.strerror or error}"
                hint = f"check the rights of {shown_path(folder.parent)}"
            raise DaemonError(what, hint=hint, code="E_PROJECT") from None


def _require_writable(*folders: Path) -> None:
    """Raise DaemonError if no file can be made in one of these folders: a cycle could not end."""
    for folder in folders:
        if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
            hint = f"correct the permissions of {shown_path(folder)}, or mount the disk for writing"
            raise DaemonError(f"{shown_path(folder)} cannot be written", hint=hint, code="E_PROJECT")


def serve(paths: ProjectPaths, settings: Settings, *, dashboard: bool, config: Path | None = None) -> Exit:
    """Watch and train until stopped. `config` is the settings file if it is not the project's own.

    If the ledger turns out to be damaged, the service is opened again, which rebuilds it.
    """
    rebuilds = 0
    while True:
        try:
            return _serve(paths, settings, dashboard=dashboard, config=config)
        except LedgerDamaged:
            rebuilds += 1
            if rebuilds > MAX_REBUILDS:
                raise


def _serve(paths: ProjectPaths, settings: Settings, *, dashboard: bool, config: Path | None) -> Exit:
    with open_service(paths, settings, dashboard=dashboard, config=config) as app:
        needed = settings.daemon.auto_train_after_n_rollouts
        if note := note_without_engine_file(paths.project):
            app.context.log.info(note)
        app.context.log.info(f"watching {paths.exports.relative_to(paths.project)}: a cycle every {needed} rollouts")
        app.run()
    return Exit.DONE


def run_once(paths: ProjectPaths, settings: Settings, *, again: bool = False) -> Exit:
    """Run one cycle on the new rollouts in Exports, however few; if `again`, also if none is new.

    Raises DaemonError if it fails.
    """
    with open_service(paths, settings, dashboard=False, automatic=False) as app:
        service, context = app.service, app.context
        rejected = context.ledger.rejected_count()
        if not app.run(until=lambda: service.inbox.is_up_to_date):
            raise _stopped()
        for name, reason in service.inbox.incomplete.items():
            context.log.warning(f"{name} is not used and stays in Exports: {reason}")
        is_parked = service.runner.cycle is not None and service.runner.cycle.phase is Phase.PARKED
        nothing = service.nothing_to_train_on(again=again, rejected=context.ledger.rejected_count() - rejected)
        if nothing is not None and not (service.runner.busy or is_parked):
            raise nothing
        if not _continues_a_cycle(service) or context.ledger.pending_count():
            service.trigger("once", again=again)
        ended = app.run(until=lambda: _cycle_is_over(service))
        if not ended:
            raise _stopped()
        cycle = service.runner.cycle
        if cycle is None or (cycle.job_kind != "train" and cycle.phase is Phase.PUBLISHED):
            raise nothing_to_train_on(paths.exports)  # the files were removed after they were counted
        if cycle.phase is not Phase.PUBLISHED:
            raise _cycle_error(cycle.why)
        publication = context.ledger.last_publication()
        assert publication is not None
        context.log.info(f"the engine's model is {context.paths.for_engine(paths.models / publication.model)}")
    return Exit.DONE


def _stopped() -> DaemonError:
    hint = "the next start continues from here"
    return DaemonError("stopped before the cycle was published", hint=hint, code="E_STOPPED", exit_code=Exit.STOPPED)


def _cycle_error(reason: str) -> DaemonError:
    """Return the error of a failed cycle, with the code that the reason ends with, if it has one."""
    found = re.fullmatch(r"(?P<text>.*) \[(?P<code>E_[A-Z_]+)\]", reason, re.DOTALL)
    text, code = (found["text"], found["code"]) if found else (reason, "E_CYCLE")
    return DaemonError(f"the cycle failed: {text}", code=code, exit_code=Exit.CYCLE_FAILED)


def _continues_a_cycle(service: Service) -> bool:
    """Return whether a cycle that was interrupted is trained again: that is the one cycle."""
    cycle = service.runner.cycle
    return cycle is not None and cycle.job_kind == "train" and cycle.phase not in {Phase.FAILED, Phase.PARKED}


def _cycle_is_over(service: Service) -> bool:
    cycle = service.runner.cycle
    if service.runner.busy:
        return False
    if cycle is None:
        return not service.is_triggered
    return cycle.phase in {Phase.FAILED, Phase.PARKED} or not service.is_triggered
