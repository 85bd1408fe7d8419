"""The ledger, one SQLite file: which rollout was used in which cycle, and what each cycle did.

Only one connection writes. Every method that changes something is one transaction.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path

from daemon.errors import LedgerError
from daemon.ledger.connection import connect
from daemon.ledger.cycle_table import CycleTable
from daemon.ledger.migrations import create_or_migrate, readable
from daemon.ledger.records import PublishedCycle
from daemon.ledger.rollout_table import RolloutTable
from daemon.ledger.rows import insert_lost_cycle, insert_published_cycle, write_meta
from daemon.ledger.sqlite_errors import to_ledger_error


class Ledger(RolloutTable, CycleTable):
    """The whole ledger. Open it with `Ledger.open`; close it with `close`."""

    @classmethod
    def open(cls, path: Path, *, read_only: bool = False) -> Ledger:
        """Open the ledger. Unless `read_only`, create it or migrate it to the newest version. Raises LedgerError."""
        db: sqlite3.Connection | None = None
        try:
            db = connect(path, read_only=read_only)
            if read_only:
                db = readable(db, path)
            else:
                create_or_migrate(db, path)
        except (sqlite3.Error, LedgerError) as error:
            if db is not None:
                db.close()
            raise (error if isinstance(error, LedgerError) else to_ledger_error(error, path)) from None
        return cls(db, path)

    def meta(self, key: str) -> str | None:
        """Return a stored value, or None."""
        row = self._db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return None if row is None else str(row[0])

    def set_meta(self, key: str, value: str | None) -> None:
        """Store a value; None removes it."""
        with self._transaction() as db:
            write_meta(db, key, value)

    def restore(self, found: Sequence[PublishedCycle], *, highest: int, at_s: float) -> None:
        """Fill an empty ledger with published cycles; `highest` is the highest cycle number in use."""
        with self._transaction() as db:
            for published in found:
                insert_published_cycle(db, published)
            if highest > max((published.cycle for published in found), default=-1):
                insert_lost_cycle(db, highest, at_s)
