"""What SQLite's refusals mean for people: a stable code, the cause, the remedy."""

from __future__ import annotations

import os
import sqlite3
import sys
from pathlib import Path

from daemon.errors import LedgerError

_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


class LedgerDamaged(LedgerError):
    """The file is no sound ledger: the next start moves it aside and rebuilds it."""

    code = "E_LEDGER_DAMAGED"


def explained(error: sqlite3.Error, path: Path) -> LedgerError:
    """Return the error that people see for one of SQLite's."""
    name = path.name
    match _primary(error):
        case code if code in _DAMAGED:
            return LedgerDamaged(
                f"the ledger {name} is damaged: {error}",
                hint="start the daemon again: it moves the file aside and rebuilds it from Models",
            )
        case sqlite3.SQLITE_FULL:
            return LedgerError(
                f"the disk is full, the ledger {name} cannot be written",
                hint="make room; the daemon goes on by itself",
                code="E_DISK_FULL",
            )
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return LedgerError(
                f"the ledger {name} is locked by {_holder(path)}",
                hint="close that program; the daemon goes on by itself",
                code="E_LEDGER_LOCKED",
            )
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_PERM | sqlite3.SQLITE_CANTOPEN:
            return LedgerError(
                f"the ledger {name} cannot be written: {error}",
                hint="correct the rights of Saved/Training/State; is the disk mounted read-only?",
                code="E_LEDGER_READONLY",
            )
        case sqlite3.SQLITE_IOERR:
            return LedgerError(
                f"the disk failed under the ledger {name}: {error}",
                hint="is the disk sound, or a size limit reached? the daemon tries again",
                code="E_LEDGER_IO",
            )
    return LedgerError(f"the ledger {name} cannot be used: {error}", hint="`python -m daemon doctor` looks closer")


def is_io_error(error: BaseException) -> bool:
    """Return whether the disk failed: what SQLite believes to be on it must then be looked at anew."""
    return isinstance(error, sqlite3.Error) and _primary(error) == sqlite3.SQLITE_IOERR


def _primary(error: sqlite3.Error) -> int:
    """Extended codes hold the primary one in their low byte; errors of the module itself have none."""
    code = getattr(error, "sqlite_errorcode", None)
    return -1 if code is None else int(code) & 0xFF


def _holder(path: Path) -> str:
    """Name the programs that have the file open, as far as the system tells."""
    if sys.platform == "win32":  # asking for open files can hang there
        return "another program"
    import psutil  # only here: whoever opens a ledger need not load it

    target, found = str(path.resolve()), []
    for process in psutil.process_iter(["pid", "name"]):
        try:
            if process.pid != os.getpid() and any(file.path == target for file in process.open_files()):
                found.append(f"{process.info['name']}, pid {process.pid}")
        except (psutil.Error, OSError):
            continue
    return " and ".join(found) or "another program"
