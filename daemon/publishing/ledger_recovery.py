"""Opens the ledger. If it is lost or damaged, it is rebuilt from the published cycles in Models."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from daemon.errors import LedgerError
from daemon.ledger.connection import require_own_file
from daemon.ledger.integrity.before_rollback import COMPANIONS, BeforeRollback, companion, copy_before_rollback
from daemon.ledger.integrity.merge import Merged, merge
from daemon.ledger.integrity.salvage import Rows, salvage
from daemon.ledger.ledger import Ledger
from daemon.ledger.records import Publication, PublishedCycle
from daemon.ledger.sqlite_errors import SQLITE_ERRORS, LedgerDamaged
from daemon.publishing.pointer import read_pointer
from daemon.publishing.published_cycles import find_published_cycles, has_published_above, highest_number
from daemon.runtime.project_mark import require_own_project, write_marks
from schemas.errors import HotlapError
from schemas.model import MAX_MODEL_BYTES, read_model
from schemas.status import DaemonState, Status
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

_MAX_STATUS_BYTES = 1 << 24


def open_or_rebuild(paths: ProjectPaths, *, now_s: float, disk: Disk = REAL_DISK) -> tuple[Ledger, str | None]:
    """Return the project's ledger, and a message if it was rebuilt.

    Raises LedgerError, or DaemonError if Models or State belongs to another project.
    """
    require_own_project(paths)
    ledger, rebuilt = _open_or_rebuild(paths, now_s=now_s, disk=disk)
    try:
        write_marks(paths, disk=disk)
    except BaseException:
        ledger.close()
        raise
    return ledger, rebuilt


def _open_or_rebuild(paths: ProjectPaths, *, now_s: float, disk: Disk) -> tuple[Ledger, str | None]:
    require_own_file(paths.ledger)
    if not paths.ledger.exists() or not paths.ledger.stat().st_size:
        return _rebuilt_after_errors(_Lost(paths, now_s, disk), None, "")
    before = copy_before_rollback(paths.ledger, disk)
    try:
        return _open_checked(paths), None
    except LedgerDamaged as error:
        return _rebuilt_after_errors(_Lost(paths, now_s, disk), before, error.message)
    finally:
        if before is not None:
            before.remove()


@dataclass(frozen=True, slots=True)
class _Lost:
    """A project whose ledger is missing or cannot be used."""

    paths: ProjectPaths
    now_s: float
    disk: Disk

    def new_name(self) -> Path:
        """Return a path in State that does not exist, for the damaged ledger."""
        time_text = time.strftime("%Y%m%d_%H%M%S", time.gmtime(self.now_s))
        target, n = self.paths.state / f"ledger.corrupt-{time_text}", 1
        while any(os.path.lexists(companion(target, suffix)) for suffix in ("", *COMPANIONS)):
            n += 1
            target = self.paths.state / f"ledger.corrupt-{time_text}-{n}"
        return target

    def move_aside(self) -> Path | None:
        """Rename the ledger and what SQLite keeps next to it; return the new path. Raises OSError."""
        target, ledger = self.new_name(), self.paths.ledger
        paths = {suffix: companion(ledger, suffix) for suffix in (*COMPANIONS, "")}
        existing = [suffix for suffix, path in paths.items() if path.exists() and path.stat().st_size]
        for suffix in existing:
            rename_with_retries(paths[suffix], companion(target, suffix), disk=self.disk)
        self.disk.fsync_dir(self.paths.state)
        return target if existing else None


def _rebuilt_after_errors(lost: _Lost, before: BeforeRollback | None, damage: str) -> tuple[Ledger, str | None]:
    try:
        if before is not None and (ledger := _without_journal(lost, before)) is not None:
            return ledger
        return _rebuilt(lost, before, damage)
    except (OSError, *SQLITE_ERRORS) as error:
        raise LedgerError(
            f"the ledger {lost.paths.ledger.name} is {'damaged' if damage else 'missing'} and cannot be rebuilt:"
            f" {error_text(error)}",
            hint="free some disk space and check the rights of Saved/Training/State",
        ) from None


def _open_checked(paths: ProjectPaths) -> Ledger:
    """Open the ledger and check it. Raises LedgerDamaged, or LedgerError if it cannot be used for another reason."""
    ledger = Ledger.open(paths.ledger)
    try:
        ledger.require_sound()
        if has_published_above(paths, ledger.last_cycle_id()):  # a backup: used rollouts would be trained on again
            raise LedgerDamaged(f"the ledger {paths.ledger.name} is older than the cycles in Models")
    except BaseException:
        ledger.close()
        raise
    return ledger


def _without_journal(lost: _Lost, before: BeforeRollback) -> tuple[Ledger, str] | None:
    """Use the ledger as it was before its journal was applied, if it is sound without it; else return None."""
    paths = lost.paths
    try:
        with contextlib.closing(Ledger.open(before.ledger, read_only=True)) as ledger:
            if ledger.check() is not None:
                return None
    except LedgerError:
        return None
    target = lost.new_name()
    before.move_journals_to(target)
    for suffix in COMPANIONS:
        unlink_with_retries(companion(paths.ledger, suffix), disk=lost.disk)
    rename_with_retries(before.ledger, paths.ledger, disk=lost.disk)
    lost.disk.fsync(paths.ledger)
    lost.disk.fsync_dir(paths.state)
    return _open_checked(paths), (
        f"the journal next to the ledger {paths.ledger.name} was of another file; it is now"
        f" {target.name}{before.journals[0][0]}, and the ledger is used without it"
    )


def _rebuilt(lost: _Lost, before: BeforeRollback | None, damage: str) -> tuple[Ledger, str | None]:
    """Write a new ledger from Models and from what can be read of the damaged one. Raises OSError or sqlite3.Error."""
    paths = lost.paths
    moved = lost.move_aside()
    salvaged: Rows = salvage(moved) if moved and damage else {}
    if before is not None:
        target = lost.new_name()
        before.move_to(target)
        salvaged = max(salvaged, salvage(target), key=_count)
    found = find_published_cycles(paths)
    highest = max((highest_number(paths), *(published.cycle for published in found)))
    if not found and highest < 0 and not damage and not _status_is_paused(paths):
        return Ledger.open(paths.ledger), None
    merged = merge(found, salvaged, highest=highest, at_s=lost.now_s)
    if "paused" not in merged.meta and _status_is_paused(paths):
        merged = replace(merged, meta={**merged.meta, "paused": f"{lost.now_s:.0f}"})
    _write(lost, merged, found)
    return Ledger.open(paths.ledger), _message(
        lost, merged, found=len(found), moved=moved, damage=damage, has_rollouts=bool(salvaged.get("rollout"))
    )


def _count(rows: Rows) -> int:
    return sum(map(len, rows.values()))


def _status_is_paused(paths: ProjectPaths) -> bool:
    """Return whether the last daemon reported that the project is paused. The pause itself was in the ledger."""
    try:
        status = Status.from_bytes(read_with_retries(paths.status, limit=_MAX_STATUS_BYTES))
    except (OSError, HotlapError, ValueError):
        return False
    return status.state is DaemonState.PAUSED


def _message(lost: _Lost, merged: Merged, *, found: int, moved: Path | None, damage: str, has_rollouts: bool) -> str:
    name = lost.paths.ledger.name
    reason = damage.removeprefix(f"the ledger {name} ").removeprefix("cannot be used: ").removeprefix("it is ")
    what = f"was damaged ({reason}) and is now {moved.name}" if damage and moved else "was missing"
    carried = ""
    if damage:
        counts = f"{len(merged.cycles)} cycles and {len(merged.rollouts)} rollouts"
        carried = f" and from what could be read of the file: it has {counts}"
    again = "" if has_rollouts else ". Rollouts of failed cycles count again"
    paused = ", and the project stays paused" if "paused" in merged.meta else ""
    return f"the ledger {name} {what}; it was rebuilt from {found} published cycles in Models{carried}{paused}{again}"


def _write(lost: _Lost, merged: Merged, found: Sequence[PublishedCycle]) -> None:
    """Write a new ledger under another name and rename it at the end, so that a crash never leaves a partial ledger."""
    paths, disk = lost.paths, lost.disk
    new = paths.ledger.with_name(f"{paths.ledger.name}.new")
    for path in (new, companion(new, COMPANIONS[0])):
        unlink_with_retries(path, disk=disk)
    ledger = Ledger.open(new)
    try:
        ledger.restore(merged)
        _record_pointer(ledger, paths, found, lost.now_s)
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
