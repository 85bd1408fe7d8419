"""The ledger's versions: creates new ledgers and migrates older ones.

A ledger's version is SQLite's `user_version`. The caller holds the project's lock, so that only one program migrates.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from pathlib import Path

from daemon.errors import LedgerError
from daemon.ledger.cycle import LEGAL_STEPS
from daemon.ledger.sqlite_errors import LedgerDamaged

MIGRATIONS: Mapping[int, str] = {
    # Only some ledgers of version 1 have this index.
    2: "CREATE INDEX IF NOT EXISTS cycle_of_phase ON cycle (phase);",
    3: "ALTER TABLE rollout ADD COLUMN repeated TEXT NOT NULL DEFAULT '';",
    4: "ALTER TABLE rollout ADD COLUMN suspect TEXT NOT NULL DEFAULT '';"
    "CREATE INDEX rollout_suspect ON rollout (sha256) WHERE suspect <> '';",
}
"""New version -> SQL, run in one transaction that also sets the version. Never change a migration after its release."""

VERSION = max(MIGRATIONS)
_SCHEMA = Path(__file__).with_name("schema.sql")


def create_or_migrate(db: sqlite3.Connection, path: Path) -> None:
    """Create the tables in an empty file, or migrate to the newest version. Raises LedgerError or sqlite3.Error."""
    version = version_of(db, path)
    if version == 0:
        legal_steps = ", ".join(f"('{src.value}', '{dst.value}')" for src, dst in sorted(LEGAL_STEPS))
        script = f"{_SCHEMA.read_text(encoding='utf-8')}\nINSERT INTO arrow (src, dst) VALUES {legal_steps};"
        _run(db, script, VERSION)
    else:
        _migrate(db, version)


def readable(db: sqlite3.Connection, path: Path) -> sqlite3.Connection:
    """Return a connection for reading at the newest version: `db`, or a migrated copy in memory if it is older.

    The file is not changed, because an older daemon may be using it. Closes `db` if it returns a copy.
    """
    version = version_of(db, path)
    if version == 0:
        raise LedgerError(f"the ledger {path.name} is empty", hint="start the daemon once: `hotlap`")
    if version == VERSION:
        return db
    copy = sqlite3.connect(":memory:", isolation_level=None)
    try:
        copy.row_factory = sqlite3.Row
        db.execute("BEGIN")
        db.execute("SELECT 1 FROM sqlite_schema").fetchone()  # takes the lock: `backup` would wait for it forever
        db.backup(copy)
        _migrate(copy, version)
    except sqlite3.Error:
        copy.close()
        raise
    db.close()
    return copy


def version_of(db: sqlite3.Connection, path: Path) -> int:
    """Return the ledger's version, 0 for an empty file. Raises LedgerError if it is newer or not a ledger."""
    version = int(db.execute("PRAGMA user_version").fetchone()[0])
    if version > VERSION:
        raise LedgerError(
            f"the ledger {path.name} has version {version}, which is newer than this Hotlap reads (up to {VERSION})",
            hint="update Hotlap",
            code="E_LEDGER_NEWER",
        )
    if version == 0 and db.execute("SELECT 1 FROM sqlite_schema").fetchone() is not None:
        raise LedgerDamaged(
            f"{path.name} is a file of another program, not a ledger",
            hint="start the daemon again: it renames the file and creates a new ledger",
        )
    return version


def _migrate(db: sqlite3.Connection, version: int) -> None:
    for reached in sorted(MIGRATIONS):
        if reached > version:
            _run(db, MIGRATIONS[reached], reached)


def _run(db: sqlite3.Connection, sql: str, version: int) -> None:
    db.executescript(f"BEGIN IMMEDIATE;\n{sql}\nPRAGMA user_version = {version};\nCOMMIT;")
