"""Turns the exception of a failed pass into a warning for users."""

from __future__ import annotations

import errno
import sqlite3
from pathlib import Path

from daemon.ledger.sqlite_errors import LedgerDamaged, to_ledger_error
from schemas.errors import HotlapError, describe_exception
from schemas.storage.layout import ProjectPaths

CLEARED_BY_SUCCESS = ("W_LEDGER", "W_SYSTEM")
"""The codes of warnings that the next successful pass clears."""
_REMEDIES = {
    errno.ENOSPC: "free some disk space",
    errno.EDQUOT: "free some disk space: your quota is used up",
    errno.EFBIG: "raise the limit on the size of files (ulimit -f)",
    errno.EMFILE: "raise the limit on open files (ulimit -n)",
    errno.ENFILE: "close other programs: the system has no file handles left",
    errno.EROFS: "mount the disk writable",
    errno.EACCES: "correct the permissions of Saved/Training",
    errno.EPERM: "correct the permissions of Saved/Training",
    errno.EIO: "check the disk",
}


def describe_failure(error: Exception, paths: ProjectPaths) -> tuple[str, str]:
    """Return the code and text of a warning. Raises LedgerDamaged if the ledger must be opened again and rebuilt."""
    if isinstance(error, sqlite3.Error) and not isinstance(error, sqlite3.ProgrammingError | sqlite3.IntegrityError):
        error = to_ledger_error(error, paths.ledger)
    if isinstance(error, LedgerDamaged):
        raise error
    if isinstance(error, HotlapError):
        return "W_LEDGER", error.line()
    if isinstance(error, OSError):
        file = Path(str(error.filename)).name if error.filename else "the system"
        remedy = _REMEDIES.get(error.errno or 0, "check the disk and the permissions of Saved/Training")
        return "W_SYSTEM", f"{file}: {error.strerror or error} -> {remedy}; the daemon tries again"
    return "W_INTERNAL", f"{describe_exception(error)}; the daemon tries again"
