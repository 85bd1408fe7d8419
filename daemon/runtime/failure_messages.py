"""What a pass that failed means for people: which warning, in which words."""

from __future__ import annotations

import errno
import sqlite3
import traceback
from pathlib import Path

from daemon.ledger.sqlite_errors import LedgerDamaged, to_ledger_error
from schemas.errors import HotlapError
from schemas.storage.layout import ProjectPaths

PASSING = ("W_LEDGER", "W_SYSTEM")
"""Warnings about the world around us: a pass that succeeds takes them back."""
_REMEDIES = {
    errno.ENOSPC: "make room",
    errno.EDQUOT: "make room: the quota is used up",
    errno.EFBIG: "raise the limit on the size of files",
    errno.EMFILE: "raise the limit on open files (ulimit -n)",
    errno.ENFILE: "close programs: the system has no open files left",
    errno.EROFS: "mount the disk writable",
    errno.EACCES: "check the rights of Saved/Training",
    errno.EPERM: "check the rights of Saved/Training",
    errno.EIO: "is the disk sound?",
}


def describe_failure(error: Exception, paths: ProjectPaths) -> tuple[str, str]:
    """Return the warning's code and text. Raises LedgerDamaged where only a new start helps."""
    if isinstance(error, sqlite3.Error) and not isinstance(error, sqlite3.ProgrammingError | sqlite3.IntegrityError):
        error = to_ledger_error(error, paths.ledger)
    if isinstance(error, LedgerDamaged):
        raise error
    if isinstance(error, HotlapError):
        return "W_LEDGER", error.line()
    if isinstance(error, OSError):
        file = Path(str(error.filename)).name if error.filename else "the system"
        remedy = _REMEDIES.get(error.errno or 0, "check the disk and the rights of Saved/Training")
        return "W_SYSTEM", f"{file}: {error.strerror or error} -> {remedy}; the daemon tries again by itself"
    where = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{Path(where.filename).name}:{where.lineno}"
    return "W_INTERNAL", f"{type(error).__name__}: {error} ({place}); the daemon tries again by itself"
