"""Publishes an epoch of an earlier cycle. If necessary, the trainer exports it first."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from daemon.errors import DaemonError, Exit
from daemon.ledger.ledger import Ledger
from daemon.ledger.records import Publication
from daemon.ledger.sqlite_errors import as_ledger_errors
from daemon.process.child import Child, trainer_command
from daemon.process.interpreter import python_for
from daemon.process.output_log import last_line
from daemon.publishing.foreign_files import remove_copied, set_aside
from daemon.publishing.pointer import read_pointer, set_pointer
from daemon.runtime.clock import REAL_CLOCK
from daemon.runtime.commands import Command, Reply, send_command
from daemon.runtime.context import Context, LogLike
from daemon.runtime.instance_lock import ProjectLock, is_running
from daemon.runtime.own_folders import detach_hard_links, require_own_folders
from daemon.runtime.project_mark import require_own_project
from schemas.errors import HotlapError, split_code
from schemas.job import Failure, Job, Result
from schemas.process.exit_codes import exit_words, with_remedy
from schemas.settings.models import Settings
from schemas.storage.layout import ProjectPaths
from schemas.storage.windows_paths import error_text

TIMEOUT_S = 180.0
_HISTORY = "`hotlap history` lists the cycles"


def publish_epoch(
    paths: ProjectPaths,
    settings: Settings,
    *,
    cycle: int | None,
    epoch: int,
    open_log: Callable[[], contextlib.AbstractContextManager[LogLike]],
) -> Reply:
    """Publish an epoch of a published cycle (None: the last one): the running daemon does it, or else this process.

    Raises HotlapError.
    """
    if not paths.ledger.exists():
        raise DaemonError("no model was published yet", hint="train a cycle first: `hotlap`", code="E_NO_MODEL")
    require_own_folders(paths)
    require_own_project(paths)
    cycle_id = _ensure_exported(paths, settings, cycle=cycle, epoch=epoch)
    if is_running(paths):
        return send_command(paths, Command(what="publish", epoch=epoch, cycle=cycle_id))
    with contextlib.ExitStack() as stack:
        lock = ProjectLock(paths.lock, status=paths.status)
        lock.acquire()
        stack.callback(lock.release)
        lock.lock_models(paths.models)
        detach_hard_links(paths)
        log = stack.enter_context(open_log())
        ledger = Ledger.open(paths.ledger)
        stack.callback(ledger.close)
        context = Context(paths, settings, ledger, log, REAL_CLOCK, lambda: None)
        try:
            return Reply(ok=True, message=publish_exported_epoch(context, cycle=cycle_id, epoch=epoch))
        except OSError as error:
            raise DaemonError(
                f"{paths.pointer.name} cannot be written: {error.strerror}",
                hint="check the disk and the rights of Saved/Training/Models",
                exit_code=Exit.CYCLE_FAILED,
            ) from None


def publish_exported_epoch(context: Context, *, cycle: int | None, epoch: int) -> str:
    """Publish an epoch whose model JSON exists, and return a message. Raises HotlapError or OSError."""
    last = _last_publication(context.ledger, cycle)
    model = f"{context.paths.cycle_folder(last.cycle_id).name}/model_epoch_{epoch}.json"
    set_aside(context)
    sha256 = set_pointer(model, contract=context.contract, paths=context.paths, disk=context.disk)
    remove_copied(context)
    publication = replace(last, epoch=epoch, model=model, sha256=sha256, at_s=context.clock.utc_s())
    context.ledger.add_publication(publication)
    context.log.info(f"published on request: {model}")
    return f"published {model}; the next cycle continues from it"


def repair_pointer(context: Context) -> None:
    """Write the pointer file again if it does not name the last published model.

    This is needed after a backup was restored, the project was moved or the file was deleted.
    """
    last = context.ledger.last_publication()
    if last is None or read_pointer(context.paths) == last.model:
        return
    try:
        set_pointer(last.model, contract=None, paths=context.paths, disk=context.disk)
        remove_copied(context)
    except (OSError, HotlapError) as error:
        context.warn("W_POINTER", f"best_model_path.txt cannot be repaired: {error_text(error)}")


def _last_publication(ledger: Ledger, cycle: int | None) -> Publication:
    """Return the last publication, of this cycle or (None) of any. Raises DaemonError if it does not exist."""
    published = [p for p in ledger.publications() if cycle is None or p.cycle_id == cycle]
    if not published:
        what = "no model was published yet" if cycle is None else f"cycle {cycle} has not published a model"
        raise DaemonError(what, hint=_HISTORY, code="E_NO_MODEL")
    return published[-1]


def _ensure_exported(paths: ProjectPaths, settings: Settings, *, cycle: int | None, epoch: int) -> int:
    """Let the trainer write the epoch's model JSON if it does not exist; return the cycle. Raises DaemonError."""
    with contextlib.closing(Ledger.open(paths.ledger, read_only=True)) as ledger, as_ledger_errors(paths.ledger):
        ledger.require_sound()
        last = _last_publication(ledger, cycle)
        result = ledger.result(last.cycle_id)
    folder = paths.cycle_folder(last.cycle_id)
    checkpoint = folder / f"model_epoch_{epoch}.pt"
    if checkpoint.with_suffix(".json").exists():
        return last.cycle_id
    if result is None or not checkpoint.exists():
        raise DaemonError(
            f"cycle {last.cycle_id} does not have epoch {epoch}",
            hint=f"its epochs are in {folder.relative_to(paths.project).as_posix()}",
            code="E_NO_MODEL",
        )
    job = Job(
        kind="export",
        policy_version=last.policy_version,
        output=str(folder),
        contract=result.contract,
        hidden_sizes=result.hidden_sizes,
        settings=settings.trainer,
        export_epoch=epoch,
    )
    try:
        run_export(job, settings, log=paths.logs / "export.log", project=paths.project)
    except DaemonError as error:
        text = f"epoch {epoch} could not be exported: {error.message}"
        raise DaemonError(text, code=error.code, exit_code=Exit.CYCLE_FAILED) from None
    return last.cycle_id


def run_export(job: Job, settings: Settings, *, log: Path, project: Path) -> Result:
    """Run a short job in a trainer and return its result. Raises DaemonError with the trainer's message."""
    woken = threading.Event()
    python = python_for(settings.daemon.python_executable)
    command = trainer_command(python, log=log, project=project, settings=settings.trainer)
    child = Child(command, sends_events=True, wake=woken.set)
    failure = f"it took longer than {TIMEOUT_S:.0f} s"
    try:
        child.send(job)
        until = REAL_CLOCK.monotonic() + TIMEOUT_S
        while REAL_CLOCK.monotonic() < until:
            woken.wait(0.5)
            woken.clear()
            exit_code = child.poll()
            events = child.events()
            if results := [event for event in events if isinstance(event, Result)]:
                return results[-1]
            if failures := [event.message for event in events if isinstance(event, Failure)]:
                failure = failures[-1]
                break
            if exit_code is not None:
                failure = with_remedy(last_line(log) or f"the trainer ended with {exit_words(exit_code)}", exit_code)
                break
    finally:
        child.stop(2.0)
    text, code = split_code(failure)
    raise DaemonError(text, code=code, exit_code=Exit.CYCLE_FAILED)
