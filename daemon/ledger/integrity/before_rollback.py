"""Copies of the ledger from before SQLite applies an open transaction to it, in case its journal is of another file.

SQLite applies a journal that it finds next to a database without asking whose it is. If that damages the ledger, the
copy is used without the journal.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

from schemas.storage.files import Disk, read_with_retries, rename_with_retries, unlink_with_retries

COMPANIONS = ("-journal", "-wal", "-shm")
"""What SQLite appends to a database's name for the files that it keeps next to it. Hotlap uses only the first."""
_APPLIED = ("-journal", "-wal")
_COPY = "before_"
_NO_LIMIT = 1 << 62  #: bytes


def companion(database: Path, suffix: str) -> Path:
    """Return the path of one of the files that SQLite keeps next to a database."""
    return database.with_name(f"{database.name}{suffix}")


@dataclass(frozen=True, slots=True)
class BeforeRollback:
    """Copies of a ledger and of what SQLite would apply to it."""

    ledger: Path
    journals: tuple[tuple[str, Path], ...]  #: the end of the original's name, and the copy
    disk: Disk

    def move_to(self, target: Path) -> None:
        """Rename all copies. Raises OSError."""
        rename_with_retries(self.ledger, target, disk=self.disk)
        self.move_journals_to(target)

    def move_journals_to(self, target: Path) -> None:
        """Rename the copies of the journals as if `target` were their database. Raises OSError."""
        for suffix, copy in self.journals:
            rename_with_retries(copy, companion(target, suffix), disk=self.disk)

    def remove(self) -> None:
        """Remove the copies that still exist."""
        for path in (self.ledger, *(copy for _, copy in self.journals)):
            with contextlib.suppress(OSError):  # the next copy replaces it
                unlink_with_retries(path, disk=self.disk)


def copy_before_rollback(ledger: Path, disk: Disk) -> BeforeRollback | None:
    """Copy the ledger and its journals; None if there are none, or the disk has no space for the copies."""
    found = [suffix for suffix in _APPLIED if _is_filled(companion(ledger, suffix))]
    if not found:
        return None
    copies = tuple((suffix, ledger.with_name(f"{_COPY}rollback.{suffix[1:]}")) for suffix in found)
    made = BeforeRollback(ledger.with_name(f"{_COPY}rollback.sqlite3"), copies, disk)
    made.remove()
    try:
        for source, target in ((ledger, made.ledger), *((companion(ledger, suffix), copy) for suffix, copy in copies)):
            disk.write(target, read_with_retries(source, limit=_NO_LIMIT))
    except OSError:
        made.remove()
        return None
    return made


def _is_filled(path: Path) -> bool:
    return path.exists() and path.stat().st_size > 0
