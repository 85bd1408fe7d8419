"""The ledger's SQLite connection: how it is opened, its transactions, and what happens after an I/O error."""

from __future__ import annotations

import contextlib
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from daemon.ledger.sqlite_errors import LedgerDamaged, is_io_error, to_ledger_error
from schemas.storage.windows_paths import for_system

LOCK_TIMEOUT_S = 10.0
"""How long to wait if another program has locked the ledger."""


def uri_of(path: Path, mode: Literal["ro", "rw", "rwc"]) -> str:
    """Return the URI by which SQLite opens a file.

    On Windows it has no `//`, because after that SQLite accepts no server's name, and names SQLite's own variant for
    paths of more than 1,040 bytes.
    """
    if sys.platform != "win32":
        return f"{path.absolute().as_uri()}?mode={mode}"
    return f"file:{quote(str(for_system(path.absolute())))}?mode={mode}&vfs=win32-longpath"


def connect(path: Path, *, read_only: bool) -> sqlite3.Connection:
    """Return a connection with a rollback journal and a sync at every commit. Raises sqlite3.Error."""
    db = sqlite3.connect(
        uri_of(path, "ro" if read_only else "rwc"), uri=True, timeout=LOCK_TIMEOUT_S, isolation_level=None
    )
    try:
        db.row_factory = sqlite3.Row
        if not read_only:
            db.execute("PRAGMA journal_mode = DELETE")
            db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA foreign_keys = ON")
    except sqlite3.Error:
        db.close()
        raise
    return db


class LedgerConnection:
    """The connection that the ledger's tables share."""

    def __init__(self, db: sqlite3.Connection, path: Path) -> None:
        self._db = db
        self._path = path
        self._must_reopen = False

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def check(self) -> str | None:
        """Return the damage that SQLite finds in the file as a message, or None."""
        try:
            result = str(self._db.execute("PRAGMA quick_check").fetchone()[0])
        except sqlite3.Error as error:
            return f"it is damaged: {error}"
        return None if result == "ok" else f"it is damaged: {result}"

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """Commit all changes of the body, or none if it raises."""
        if self._must_reopen:
            self._reopen()
        try:
            self._db.execute("BEGIN IMMEDIATE")
            yield self._db
            self._db.execute("COMMIT")
        except BaseException as error:
            self._must_reopen = is_io_error(error)
            if self._db.in_transaction:
                with contextlib.suppress(sqlite3.Error):
                    self._db.execute("ROLLBACK")
            raise

    def _reopen(self) -> None:
        """Open the file again: after a failed fsync its content is unknown. Raises LedgerError."""
        try:
            fresh = connect(self._path, read_only=False)
        except sqlite3.Error as error:
            raise to_ledger_error(error, self._path) from None
        self._db.close()
        self._db = fresh
        problem = self.check()
        if problem is not None:
            raise LedgerDamaged(f"the ledger {self._path.name} cannot be used: {problem}")
        self._must_reopen = False
