"""The ledger, one SQLite file: which rollout was used in which cycle, and what each cycle did.

Only one connection writes. Every method that changes something is one transaction.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from daemon.errors import LedgerError
from daemon.ledger.connection import connect
from daemon.ledger.cycle_table import CycleTable
from daemon.ledger.integrity.merge import Merged
from daemon.ledger.integrity.strict_rows import Values, read_table
from daemon.ledger.migrations import create_or_migrate, readable
from daemon.ledger.read_only import connect_to_read
from daemon.ledger.rollout_table import RolloutTable
from daemon.ledger.rows import insert_merged, write_meta
from daemon.ledger.sqlite_errors import SQLITE_ERRORS, to_ledger_error


class Ledger(RolloutTable, CycleTable):
    """The whole ledger. Open it with `Ledger.open`; close it with `close`."""

    @classmethod
    def open(cls, path: Path, *, read_only: bool = False) -> Ledger:
        """Open the ledger. Unless `read_only`, create it or migrate it to the newest version. Raises LedgerError."""
        db: sqlite3.Connection | None = None
        try:
            if read_only:
                db = connect_to_read(path)
                db = readable(db, path)
            else:
                db = connect(path, read_only=False)
                create_or_migrate(db, path)
        except (*SQLITE_ERRORS, LedgerError) as error:
            if db is not None:
                db.close()
            raise (error if isinstance(error, LedgerError) else to_ledger_error(error, path)) from None
        return cls(db, path)

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[None]:
        """Let all reads in the body return the same state, whatever a daemon writes meanwhile."""
        self._db.execute("BEGIN")
        try:
            yield
        finally:
            self._db.execute("ROLLBACK")

    def rows(self, table: str, *columns: str) -> Iterator[Values]:
        """Yield the rows of a table, all columns or these, in the order of the first one."""
        return read_table(self._db, table, columns)

    def meta(self, key: str) -> str | None:
        """Return a stored value, or None."""
        row = self._db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return None if row is None else str(row[0])

    def set_meta(self, key: str, value: str | None) -> None:
        """Store a value; None removes it."""
        with self._transaction() as db:
            write_meta(db, key, value)

    def restore(self, merged: Merged) -> None:
        """Fill an empty ledger with the content of a rebuilt one."""
        with self._transaction() as db:
            insert_merged(db, merged)
