"""The ledger's SQLite connection: how it is opened, its transactions, and what happens after an I/O error."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from daemon.errors import LedgerError
from daemon.ledger.integrity.problems import find_problems
from daemon.ledger.sqlite_errors import SQLITE_ERRORS, LedgerDamaged, as_ledger_errors, is_io_error
from schemas.storage.windows_paths import for_system

LOCK_TIMEOUT_S = 10.0
"""How long to wait if another program has locked the ledger."""


def uri_of(path: Path, mode: Literal["ro", "rw", "rwc"], *, options: str = "") -> str:
    """Return the URI by which SQLite opens a file. `options` is more of the query, for example `&immutable=1`.

    On Windows it has no `//`, because after that SQLite accepts no server's name, and names SQLite's own variant for
    paths of more than 1,040 bytes.
    """
    if sys.platform != "win32":
        return f"{path.absolute().as_uri()}?mode={mode}{options}"
    return f"file:{quote(str(for_system(path.absolute())))}?mode={mode}&vfs=win32-longpath{options}"


def connect(path: Path, *, read_only: bool) -> sqlite3.Connection:
    """Return a connection with a rollback journal and a sync at every commit. Raises sqlite3.Error or LedgerError."""
    require_own_file(path)
    db = sqlite3.connect(
        uri_of(path, "ro" if read_only else "rwc"), uri=True, timeout=LOCK_TIMEOUT_S, isolation_level=None
    )
    try:
        db.row_factory = sqlite3.Row
        distrust(db)
        if not read_only:
            db.execute("PRAGMA journal_mode = DELETE")
            db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA foreign_keys = ON")
    except SQLITE_ERRORS:
        db.close()
        raise
    return db


def require_own_file(path: Path) -> None:
    """Raise LedgerError if the ledger, or a file that SQLite keeps next to it, is a link or not a file.

    SQLite would follow a link and write to a file outside of the project.
    """
    for file in (path, *(path.with_name(f"{path.name}-{suffix}") for suffix in ("journal", "wal", "shm"))):
        try:
            mode = os.lstat(for_system(file)).st_mode
        except OSError:
            continue
        if stat.S_ISREG(mode):
            continue
        what = "a link" if stat.S_ISLNK(mode) else "a folder" if stat.S_ISDIR(mode) else "not a regular file"
        raise LedgerError(
            f"{file.name} in Saved/Training/State is {what}, so it is not used",
            hint="move it away, and start the daemon again: it rebuilds the ledger from Saved/Training/Models",
            code="E_LEDGER_NOT_A_FILE",
        )


def distrust(db: sqlite3.Connection) -> None:
    """Let SQLite take nothing in the file on trust: the content of its pages, and functions that its SQL calls."""
    db.execute("PRAGMA trusted_schema = OFF")
    db.execute("PRAGMA cell_size_check = ON")


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
        """Return the first problem of the ledger, or None. It reads every row and every index. Raises LedgerError."""
        return next(iter(self.problems()), None)

    def require_sound(self) -> None:
        """Raise LedgerDamaged if the ledger has a problem, or LedgerError if it cannot be read."""
        if (problem := self.check()) is not None:
            raise LedgerDamaged(f"the ledger {self._path.name} cannot be used: {problem}")

    def problems(self) -> list[str]:
        """Return the problems of the ledger. It reads every row and every index. Raises LedgerError."""
        with as_ledger_errors(self._path):
            return find_problems(self._db)

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
        with as_ledger_errors(self._path):
            fresh = connect(self._path, read_only=False)
        self._db.close()
        self._db = fresh
        self.require_sound()
        self._must_reopen = False
