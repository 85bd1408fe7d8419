"""A ledger that is lost or damaged is moved aside, and made anew from what lies beside it."""

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
from daemon.publishing.published_cycles import highest_published, highest_number, find_published_cycles
from schemas.errors import HotlapError
from schemas.model import MAX_MODEL_BYTES, read_model
from schemas.storage.files import REAL_DISK, Disk, read_regular, rename_with_retries, sha256_of
from schemas.storage.layout import ProjectPaths


def open_or_rebuild(paths: ProjectPaths, *, now_s: float, disk: Disk = REAL_DISK) -> tuple[Ledger, str | None]:
    """Open the project's ledger; give it, and in words what had to be mended, if anything. Raises LedgerError."""
    trouble: str | None = None
    if paths.ledger.exists() and paths.ledger.stat().st_size:
        try:
            return _checked(paths), None
        except LedgerDamaged as error:
            trouble = error.message
    try:
        aside = _move_aside(paths, now_s, disk) if trouble else None
        found = find_published_cycles(paths)
        if not found and highest_number(paths) < 0 and aside is None:
            return Ledger.open(paths.ledger), None
        _build(paths, found, now_s=now_s, disk=disk)
    except (OSError, sqlite3.Error) as error:
        raise LedgerError(
            f"the ledger is {'damaged' if trouble else 'gone'} and cannot be rebuilt: {error}",
            hint="make room and check the rights of Saved/Training/State",
        ) from None
    what = f"was damaged and lies in {aside.name} now" if aside else "was gone"
    return Ledger.open(paths.ledger), (
        f"the ledger {what}; it was rebuilt from {len(found)} published cycles in Models: rollouts of failed cycles "
        "count again, a pause is forgotten"
    )


def _checked(paths: ProjectPaths) -> Ledger:
    """Open a ledger and have SQLite look through it. Raises LedgerDamaged, or LedgerError where it is not ours."""
    ledger = Ledger.open(paths.ledger)
    problem = ledger.check()
    if problem is None and highest_published(paths) > ledger.last_cycle_id():
        problem = "it is older than what lies in Models"  # a backup put back: it would train on the same again
    if problem is not None:
        ledger.close()
        raise LedgerDamaged(f"the ledger {paths.ledger.name} is not sound: {problem}")
    return ledger


def _move_aside(paths: ProjectPaths, now_s: float, disk: Disk) -> Path:
    stamp = time.strftime("%Y%m%d_%H%M%S", time.gmtime(now_s))
    target, n = paths.state / f"ledger.corrupt-{stamp}", 1
    while target.exists():
        n += 1
        target = paths.state / f"ledger.corrupt-{stamp}-{n}"
    journal = paths.ledger.with_name(f"{paths.ledger.name}-journal")
    if journal.exists():
        rename_with_retries(journal, target.with_name(f"{target.name}-journal"), disk=disk)
    rename_with_retries(paths.ledger, target, disk=disk)
    disk.fsync_dir(paths.state)
    return target


def _build(paths: ProjectPaths, found: Sequence[PublishedCycle], *, now_s: float, disk: Disk) -> None:
    """Fill a new file and give it its name last: a crash in between leaves nothing that looks like a ledger."""
    new = paths.ledger.with_name(f"{paths.ledger.name}.new")
    for path in (new, new.with_name(f"{new.name}-journal"), paths.ledger):
        disk.unlink(path)
    ledger = Ledger.open(new)
    try:
        ledger.restore(found, highest=highest_number(paths), at_s=now_s)
        _restore_pointer(ledger, paths, found, now_s)
    finally:
        ledger.close()
    rename_with_retries(new, paths.ledger, disk=disk)
    disk.fsync_dir(paths.state)


def _restore_pointer(ledger: Ledger, paths: ProjectPaths, found: Sequence[PublishedCycle], now_s: float) -> None:
    """What the engine is told stays what it is, also where a person had put an older model before it."""
    named = read_pointer(paths)
    last = ledger.last_publication()
    witness = next((w for w in found if named and named.startswith(f"cycle_{w.cycle:06d}/")), None)
    if named is None or last is None or witness is None or named == last.model:
        return
    try:
        data = read_regular(paths.models / named, limit=MAX_MODEL_BYTES)
        epoch = read_model(data).lineage.epoch
    except (OSError, HotlapError):
        return
    version, sha256 = witness.policy_version, sha256_of(data)
    ledger.add_publication(Publication(witness.cycle, version, epoch, named, sha256, now_s))
