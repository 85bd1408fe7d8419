"""Opens the ledger. If it is lost or damaged, it is rebuilt from the published cycles in Models."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path

from daemon.errors import LedgerError
from daemon.ledger.ledger import Ledger
from daemon.ledger.records import Publication, PublishedCycle
from daemon.ledger.sqlite_errors import LedgerDamaged
from daemon.publishing.pointer import read_pointer
from daemon.publishing.published_cycles import find_published_cycles, has_published_above, highest_number
from daemon.runtime.project_mark import require_own_project, write_marks
from schemas.errors import HotlapError
from schemas.model import MAX_MODEL_BYTES, read_model
from schemas.storage.files import (
    REAL_DISK,
    Disk,
    read_with_retries,
    rename_with_retries,
    sha256_of,
    unlink_with_retries,
)
from schemas.storage.layout import ProjectPaths
from schemas.storage.windows_paths import error_text


def open_or_rebuild(paths: ProjectPaths, *, now_s: float, disk: Disk = REAL_DISK) -> tuple[Ledger, str | None]:
    """Return the project's ledger, and a message if it was rebuilt.

    Raises LedgerError, or DaemonError if Models or State belongs to another project.
    """
    require_own_project(paths)
    ledger, rebuilt = _open_or_rebuild(paths, now_s=now_s, disk=disk)
    write_marks(paths, disk=disk)
    return ledger, rebuilt


def _open_or_rebuild(paths: ProjectPaths, *, now_s: float, disk: Disk) -> tuple[Ledger, str | None]:
    damage: str | None = None
    if paths.ledger.exists() and paths.ledger.stat().st_size:
        try:
            return _open_checked(paths), None
        except LedgerDamaged as error:
            damage = error.message
    try:
        moved = _move_aside(paths, now_s, disk) if damage else None
        found = find_published_cycles(paths)
        highest = max((highest_number(paths), *(published.cycle for published in found)))
        if not found and highest < 0 and moved is None:
            return Ledger.open(paths.ledger), None
        _rebuild(paths, found, highest=highest, now_s=now_s, disk=disk)
    except (OSError, sqlite3.Error) as error:
        raise LedgerError(
            f"the ledger {paths.ledger.name} is {'damaged' if damage else 'missing'} and cannot be rebuilt:"
            f" {error_text(error)}",
            hint="free some disk space and check the rights of Saved/Training/State",
        ) from None
    what = f"was damaged and is now {moved.name}" if moved else "was missing"
    return Ledger.open(paths.ledger), (
        f"the ledger {paths.ledger.name} {what}; it was rebuilt from {len(found)} published cycles in Models. Rollouts"
        " of failed cycles count again, and the project is not paused any more"
    )


def _open_checked(paths: ProjectPaths) -> Ledger:
    """Open the ledger and check it. Raises LedgerDamaged, or LedgerError if it cannot be used for another reason."""
    ledger = Ledger.open(paths.ledger)
    problem = ledger.check()
    if problem is None and has_published_above(paths, ledger.last_cycle_id()):
        problem = "it is older than the cycles in Models"  # from a backup: used rollouts would be trained on again
    if problem is not None:
        ledger.close()
        raise LedgerDamaged(f"the ledger {paths.ledger.name} cannot be used: {problem}")
    return ledger


def _move_aside(paths: ProjectPaths, now_s: float, disk: Disk) -> Path:
    """Rename the damaged ledger; return its new path."""
    time_text = time.strftime("%Y%m%d_%H%M%S", time.gmtime(now_s))
    target, n = paths.state / f"ledger.corrupt-{time_text}", 1
    while target.exists():
        n += 1
        target = paths.state / f"ledger.corrupt-{time_text}-{n}"
    journal = paths.ledger.with_name(f"{paths.ledger.name}-journal")
    if journal.exists():
        rename_with_retries(journal, target.with_name(f"{target.name}-journal"), disk=disk)
    rename_with_retries(paths.ledger, target, disk=disk)
    disk.fsync_dir(paths.state)
    return target


def _rebuild(paths: ProjectPaths, found: Sequence[PublishedCycle], *, highest: int, now_s: float, disk: Disk) -> None:
    """Write a new ledger under another name and rename it at the end, so that a crash never leaves a partial ledger."""
    new = paths.ledger.with_name(f"{paths.ledger.name}.new")
    for path in (new, new.with_name(f"{new.name}-journal"), paths.ledger):
        unlink_with_retries(path, disk=disk)
    ledger = Ledger.open(new)
    try:
        ledger.restore(found, highest=highest, at_s=now_s)
        _record_pointer(ledger, paths, found, now_s)
    finally:
        ledger.close()
    rename_with_retries(new, paths.ledger, disk=disk)
    disk.fsync_dir(paths.state)


def _record_pointer(ledger: Ledger, paths: ProjectPaths, found: Sequence[PublishedCycle], now_s: float) -> None:
    """Record the model that the pointer file names as the last publication: a user may have published an older one."""
    pointer = read_pointer(paths)
    last = ledger.last_publication()
    published = next((p for p in found if pointer and pointer.startswith(f"cycle_{p.cycle:06d}/")), None)
    if pointer is None or last is None or published is None or pointer == last.model:
        return
    try:
        data = read_with_retries(paths.models / pointer, limit=MAX_MODEL_BYTES)
        epoch = read_model(data).lineage.epoch
    except (OSError, HotlapError):
        return
    version, sha256 = published.policy_version, sha256_of(data)
    ledger.add_publication(Publication(published.cycle, version, epoch, pointer, sha256, now_s))
