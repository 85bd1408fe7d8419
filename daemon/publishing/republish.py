"""Have the trainer write the model JSON of a published cycle's epoch that was not chosen at the time."""

from __future__ import annotations

import threading
from dataclasses import replace

from daemon.errors import DaemonError, Exit
from daemon.ledger.ledger import Ledger
from daemon.ledger.records import Publication
from daemon.process.child import Child, trainer_command
from daemon.process.interpreter import python_for
from daemon.process.output_log import last_line
from daemon.publishing.pointer import point_at
from daemon.runtime.clock import REAL_CLOCK
from daemon.runtime.context import Context
from schemas.contract import PolicyContract
from schemas.errors import HotlapError
from schemas.job import Failure, Job, Result
from schemas.settings.models import Settings
from schemas.storage.layout import ProjectPaths

TIMEOUT_S = 180.0


def ensure_exported(paths: ProjectPaths, settings: Settings, *, cycle: int | None, epoch: int) -> int:
    """Make sure that the epoch's model JSON lies in its cycle's folder; give the cycle. Raises DaemonError."""
    ledger = Ledger.open(paths.ledger, read_only=True)
    try:
        published = [p for p in ledger.publications() if cycle is None or p.cycle_id == cycle]
        if not published:
            what = "nothing was published yet" if cycle is None else f"cycle {cycle} has published nothing"
            raise DaemonError(what, hint="`python -m daemon history` lists the cycles", code="E_NO_MODEL")
        result = ledger.result(published[-1].cycle_id)
    finally:
        ledger.close()
    cycle_id = published[-1].cycle_id
    folder = paths.cycle_folder(cycle_id)
    checkpoint = folder / f"model_epoch_{epoch}.pt"
    if checkpoint.with_suffix(".json").exists():
        return cycle_id
    if result is None or not checkpoint.exists():
        raise DaemonError(
            f"cycle {cycle_id} has no epoch {epoch}",
            hint=f"look into {folder.relative_to(paths.project)} for those it has",
            code="E_NO_MODEL",
        )
    job = Job(
        kind="export",
        policy_version=published[-1].policy_version,
        output=str(folder),
        contract=result.contract,
        hidden_sizes=result.hidden_sizes,
        settings=settings.trainer,
        export_epoch=epoch,
    )
    _run(job, paths, settings)
    return cycle_id


def _run(job: Job, paths: ProjectPaths, settings: Settings) -> None:
    log = paths.logs / "export.log"
    woken = threading.Event()
    python = python_for(settings.daemon.python_executable)
    child = Child(
        trainer_command(python, folder=paths.staging, log=log, project=paths.project, settings=settings.trainer),
        speaks_events=True,
        wake=woken.set,
    )
    try:
        child.send(job)
        until = REAL_CLOCK.monotonic() + TIMEOUT_S
        failure = f"it took longer than {TIMEOUT_S:.0f} s"
        while REAL_CLOCK.monotonic() < until:
            woken.wait(0.5)
            woken.clear()
            exit_code = child.poll()
            for event in child.events():
                if isinstance(event, Result):
                    return
                if isinstance(event, Failure):
                    failure = event.message
            if exit_code is not None:
                failure = failure if exit_code == 0 or "longer" not in failure else last_line(log)
                break
        raise DaemonError(f"epoch {job.export_epoch} could not be exported: {failure}", exit_code=Exit.CYCLE_FAILED)
    finally:
        child.stop(2.0)


def publish_epoch(context: Context, *, cycle_id: int | None, epoch: int) -> Publication:
    """Put one epoch of a published cycle before the engine. Raises HotlapError or OSError."""
    published = [p for p in context.ledger.publications() if cycle_id is None or p.cycle_id == cycle_id]
    if not published:
        raise HotlapError(f"cycle {cycle_id} has published nothing", hint="`python -m daemon history` lists them")
    last = published[-1]
    folder = context.paths.cycle_folder(last.cycle_id)
    model = f"{folder.name}/model_epoch_{epoch}.json"
    contract: PolicyContract | None = context.contract
    sha256 = point_at(model, contract=contract, paths=context.paths, disk=context.disk)
    publication = replace(last, epoch=epoch, model=model, sha256=sha256, at_s=context.clock.utc_s())
    context.ledger.note_publication(publication)
    context.log.info(f"published on request: {model}")
    return publication
