"""The only place that constructs: settings and folders in, a running service out."""

from __future__ import annotations

import contextlib
import sqlite3
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from daemon.errors import DaemonError, Exit
from daemon.ledger.cycle import Phase
from daemon.ledger.sqlite_errors import LedgerDamaged
from daemon.process.child import ChildLauncher
from daemon.process.interpreter import check_python, script_for
from daemon.publishing.ledger_recovery import open_or_rebuild
from daemon.rollouts.inbox import Inbox
from daemon.runtime.clock import REAL_CLOCK
from daemon.runtime.context import Context
from daemon.runtime.failure_messages import PASSING, describe_failure
from daemon.runtime.instance_lock import ProjectLock
from daemon.runtime.loop import Mailbox, run, stop_on_signals
from daemon.security.config_monitor import ConfigMonitor
from daemon.service import Service
from daemon.training.runner import Runner
from daemon.ui.dashboard import wants_dashboard
from daemon.ui.log import Log
from daemon.ui.screen import DashboardScreen
from daemon.ui.status_writer import StatusWriter
from daemon.ui.system_stats import SystemStatsSampler
from schemas.errors import HotlapError, split_code
from schemas.settings.models import Settings
from schemas.storage.files import REAL_DISK
from schemas.storage.layout import ProjectPaths

MAX_ATTEMPTS = 3
MAX_REBUILDS = 3


@dataclass(slots=True)
class App:
    """A service with what surrounds it."""

    service: Service
    context: Context
    mailbox: Mailbox
    guard: ConfigMonitor

    def run(self, until: Callable[[], bool] = lambda: False) -> bool:
        """Serve until `until()`, a signal or STOP; give True where `until()` ended it."""

        def report(error: Exception, delay_s: float) -> None:
            self.context.warn(*describe_failure(error, self.context.paths))
            _quietly(self.service.report_end)

        def tick() -> float:
            self.guard.check()
            delay_s = self.service.tick()
            self.context.clear_warning(*PASSING)
            return delay_s

        with stop_on_signals(self.mailbox):
            return run(tick, self.mailbox, until=until, on_error=report)


def _quietly(report: Callable[[], None]) -> None:
    """A status that cannot be written is no reason to fail: the next one follows."""
    with contextlib.suppress(OSError, sqlite3.Error, HotlapError):
        report()


def project_layout(folder: Path) -> ProjectPaths:
    """Return the layout of a project folder. Raises DaemonError where there is none."""
    if not folder.is_dir():
        raise DaemonError(
            f"the project folder {folder} is not there", hint="create it or correct --project", code="E_PROJECT"
        )
    layout = ProjectPaths(folder.resolve())
    try:
        str(layout.project).encode("utf-8")
    except UnicodeEncodeError:
        raise DaemonError(
            f"the project's path {layout.project} is no text: no engine could be told where its model lies",
            hint="rename the folder, or use a UTF-8 locale",
            code="E_PROJECT",
        ) from None
    return layout


@contextlib.contextmanager
def open_service(
    paths: ProjectPaths, settings: Settings, *, dashboard: bool, automatic: bool = True, config: Path | None = None
) -> Iterator[App]:
    """Everything that a daemon needs, from the lock to the screen, and its orderly end."""
    with contextlib.ExitStack() as stack:
        check_python(settings.daemon.python_executable)
        if settings.daemon.training_script:
            script_for(settings.daemon.training_script, paths.project)
        _make_folders(paths)
        lock = ProjectLock(paths.lock)
        lock.acquire()
        stack.callback(lock.release)
        shows_dashboard = dashboard and wants_dashboard(sys.stdout)
        log = Log(paths.daemon_log, console=sys.stdout)
        stack.callback(log.close)
        if automatic:
            stack.callback(log.info, "stopped; the next start goes on from here")
        ledger, mended = open_or_rebuild(paths, now_s=REAL_CLOCK.utc_s())
        stack.callback(ledger.close)
        mailbox = Mailbox()
        project = Context(paths, settings, ledger, log, REAL_CLOCK, mailbox.wake, REAL_DISK)
        if mended is not None:
            project.warn("W_LEDGER_REBUILT", mended)
        inbox = Inbox(project)
        stack.callback(inbox.close)
        keep_warm = automatic and settings.daemon.warm_trainer
        runner = Runner(
            project, ChildLauncher(mailbox.wake), attempts=MAX_ATTEMPTS if automatic else 1, keep_warm=keep_warm
        )
        stack.callback(runner.stop)
        screen = DashboardScreen(log) if shows_dashboard else None
        if screen is not None:
            stack.callback(screen.stop)
        service = Service(
            project, inbox, runner, StatusWriter(project, SystemStatsSampler()), screen, automatic=automatic
        )
        service.start()
        stack.callback(_quietly, service.report_end)
        yield App(service, project, mailbox, ConfigMonitor(project, lock, config=config))


def _make_folders(paths: ProjectPaths) -> None:
    try:
        paths.make()
    except OSError as error:
        raise DaemonError(
            f"{paths.training} cannot be created: {error.strerror}",
            hint="check the rights of the project folder",
            code="E_PROJECT",
        ) from None


def serve(paths: ProjectPaths, settings: Settings, *, dashboard: bool, config: Path | None = None) -> Exit:
    """Watch and train until stopped. `config` is the settings file where it is not the project's own.

    A ledger that turns out damaged meanwhile is rebuilt by a new start.
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
        app.context.log.info(f"watching {paths.exports.relative_to(paths.project)}: a cycle every {needed} rollouts")
        app.run()
    return Exit.DONE


def run_once(paths: ProjectPaths, settings: Settings) -> Exit:
    """Train one cycle on what is there now, however few rollouts."""
    with open_service(paths, settings, dashboard=False, automatic=False) as app:
        service, project = app.service, app.context
        if not app.run(until=lambda: service.inbox.is_up_to_date):
            return Exit.CYCLE_FAILED
        for name, reason in service.inbox.incomplete.items():
            project.log.warning(f"{name} is left where it is: {reason}")
        if project.ledger.pending_count() == 0 and service.inbox.file_count == 0 and not service.runner.busy:
            raise DaemonError(
                f"there is no rollout in {paths.exports}",
                hint="let the engine write rollout_<i>_<date>.json there first",
                code="E_NO_ROLLOUTS",
                exit_code=Exit.NOTHING_TO_TRAIN_ON,
            )
        service.trigger("once")
        ended = app.run(until=lambda: _cycle_is_over(service))
        cycle = service.runner.cycle
        if not ended or cycle is None or cycle.phase is not Phase.PUBLISHED:
            why, code = split_code(cycle.why if cycle and ended else "it was stopped")
            raise DaemonError(f"the cycle failed: {why}", code=code or "E_CYCLE", exit_code=Exit.CYCLE_FAILED)
        publication = project.ledger.last_publication()
        assert publication is not None
        project.log.info(f"the engine's model is {paths.models / publication.model}")
    return Exit.DONE


def _cycle_is_over(service: Service) -> bool:
    cycle = service.runner.cycle
    if cycle is None or service.runner.busy:
        return False
    return cycle.phase in {Phase.FAILED, Phase.PARKED} or (cycle.kind == "train" and not service.is_triggered)
