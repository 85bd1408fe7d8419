"""Opens a ledger for reading, also one with a transaction that a killed daemon has left open."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import tempfile
from pathlib import Path

from daemon.ledger.connection import connect
from daemon.ledger.sqlite_errors import SQLITE_ERRORS

_NEEDS_ROLLBACK = frozenset({sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN})


def connect_to_read(path: Path) -> sqlite3.Connection:
    """Return a connection that changes no file. Raises sqlite3.Error, LedgerError or OSError.

    SQLite rolls an open transaction back before it reads, which changes the file. This is done in a copy.
    """
    db = connect(path, read_only=True)
    try:
        db.execute("SELECT 1 FROM sqlite_schema").fetchone()
    except SQLITE_ERRORS as error:
        db.close()
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code not in _NEEDS_ROLLBACK or not _journal_of(path).exists():
            raise
        return _rolled_back_copy(path)
    return db


def _journal_of(path: Path) -> Path:
    return path.with_name(f"{path.name}-journal")


def _rolled_back_copy(path: Path) -> sqlite3.Connection:
    with tempfile.TemporaryDirectory(prefix="hotlap-ledger-") as folder:
        copy = Path(folder) / path.name
        with contextlib.suppress(FileNotFoundError):  # a daemon that has just started has rolled it back
            shutil.copyfile(_journal_of(path), _journal_of(copy))
        shutil.copyfile(path, copy)
        db = connect(copy, read_only=False)
        try:
            in_memory = sqlite3.connect(":memory:", isolation_level=None)
            in_memory.row_factory = sqlite3.Row
            db.backup(in_memory)
        finally:
            db.close()
    return in_memory
