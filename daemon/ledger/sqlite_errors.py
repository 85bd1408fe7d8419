"""Turns errors of SQLite into errors for users, with a stable code, the cause and the remedy."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path

from daemon.errors import LedgerError

SQLITE_ERRORS = (sqlite3.Error, UnicodeDecodeError)
"""What Python's module raises: the second one if a message of SQLite quotes bytes of the file that are not UTF-8."""
_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_MISMATCH})
_DAMAGE_IN_WORDS = ("Could not decode to UTF-8", "no such table", "no such column", "duplicate column name")
"""Errors that SQLite or its Python module report without a code of their own."""


class LedgerDamaged(LedgerError):
    """The file is damaged or not a ledger: the next start renames it and rebuilds the ledger."""

    code = "E_LEDGER_DAMAGED"

    def __init__(self, message: str) -> None:
        super().__init__(message, hint="start the daemon again: it renames the file and rebuilds the ledger")


@contextlib.contextmanager
def as_ledger_errors(path: Path) -> Iterator[None]:
    """Raise LedgerError for an error of SQLite in the body."""
    try:
        yield
    except SQLITE_ERRORS as error:
        raise to_ledger_error(error, path) from None


def to_ledger_error(error: sqlite3.Error | UnicodeDecodeError, path: Path) -> LedgerError:
    """Return the error that users see for an error of SQLite."""
    name = path.name
    match _primary(error):
        case _ if is_damage(error):
            return LedgerDamaged(f"the ledger {name} is damaged: {error}")
        case sqlite3.SQLITE_FULL:
            return LedgerError(
                f"the disk is full: the ledger {name} cannot be written",
                hint="free some disk space; the daemon then continues",
                code="E_DISK_FULL",
            )
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return LedgerError(
                f"the ledger {name} is locked by {_holder(path)}",
                hint="close that program; the daemon then continues",
                code="E_LEDGER_LOCKED",
            )
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_PERM | sqlite3.SQLITE_CANTOPEN:
            return LedgerError(
                f"the ledger {name} cannot be written: {error}",
                hint="correct the rights of Saved/Training/State, or mount the disk for writing",
                code="E_LEDGER_READONLY",
            )
        case sqlite3.SQLITE_IOERR:
            return LedgerError(
                f"the disk failed while the ledger {name} was used: {error}",
                hint="check the disk and limits on file sizes; the daemon tries again",
                code="E_LEDGER_IO",
            )
    return LedgerError(f"the ledger {name} cannot be used: {error}", hint="run `hotlap doctor`")


def is_damage(error: Exception) -> bool:
    """Return whether the error means that the file's content is damaged or is not a ledger's."""
    return (
        isinstance(error, UnicodeDecodeError) or _primary(error) in _DAMAGED or str(error).startswith(_DAMAGE_IN_WORDS)
    )


def is_io_error(error: BaseException) -> bool:
    """Return whether it is an I/O error. SQLite's memory may then differ from the file."""
    return isinstance(error, sqlite3.Error) and _primary(error) == sqlite3.SQLITE_IOERR


def _primary(error: Exception) -> int:
    """Return SQLite's primary error code (the low byte of the extended code); -1 for errors of the Python module."""
    code = getattr(error, "sqlite_errorcode", None)
    return -1 if code is None else int(code) & 0xFF


def _holder(path: Path) -> str:
    """Return the names of the programs that have the file open, if they can be found."""
    if sys.platform == "win32":  # listing open files can hang there
        return "another program"
    import psutil  # here, because most programs that open a ledger do not need it

    target, found = str(path.resolve()), []
    for process in psutil.process_iter(["pid", "name"]):
        try:
            if process.pid != os.getpid() and any(file.path == target for file in process.open_files()):
                found.append(f"{process.info['name']}, pid {process.pid}")
        except (psutil.Error, OSError):
            continue
    return " and ".join(found) or "another program"
