"""The ledger's versions: creates new ledgers and migrates older ones.

A ledger's version is SQLite's `user_version`. The caller holds the project's lock, so that only one program migrates.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from pathlib import Path

from daemon.errors import LedgerError
from daemon.ledger.integrity.schema_check import creation_script, foreign_object, objects_of, schema_problem
from daemon.ledger.sqlite_errors import SQLITE_ERRORS, LedgerDamaged

MIGRATIONS: Mapping[int, str] = {
    # Only some ledgers of version 1 have this index.
    2: "CREATE INDEX IF NOT EXISTS cycle_of_phase ON cycle (phase);",
    3: "ALTER TABLE rollout ADD COLUMN repeated TEXT NOT NULL DEFAULT '';",
    4: "ALTER TABLE rollout ADD COLUMN suspect TEXT NOT NULL DEFAULT '';"
    "CREATE INDEX rollout_suspect ON rollout (sha256) WHERE suspect <> '';",
}
"""New version -> SQL, run in one transaction that also sets the version. Never change a migration after its release."""

VERSION = max(MIGRATIONS)
_OF_EVERY_VERSION = frozenset({("table", "cycle"), ("table", "rollout")})


def create_or_migrate(db: sqlite3.Connection, path: Path) -> None:
    """Create the tables in an empty file, or migrate to the newest version. Raises LedgerError or sqlite3.Error.

    A ledger of an older version is migrated in memory first, so that a file with other tables is not changed.
    """
    version = version_of(db, path)
    if version == 0:
        _run(db, creation_script(), VERSION)
    elif version == VERSION:
        require_schema(db, path)
    else:
        _migrated_copy(db, path, version).close()
        _migrate(db, version)


def require_schema(db: sqlite3.Connection, path: Path) -> None:
    """Raise LedgerDamaged if a ledger of the newest version does not have the tables of schema.sql, and only these."""
    if (problem := schema_problem(db)) is not None:
        raise LedgerDamaged(f"the ledger {path.name} cannot be used: {problem}")


def readable(db: sqlite3.Connection, path: Path) -> sqlite3.Connection:
    """Return a connection for reading at the newest version: `db`, or a migrated copy in memory if it is older.

    The file is not changed, because an older daemon may be using it. Closes `db` if it returns a copy.
    """
    version = version_of(db, path)
    if version == 0:
        raise LedgerError(f"the ledger {path.name} is empty", hint="start the daemon once: `hotlap`")
    if version == VERSION:
        require_schema(db, path)
        return db
    copy = _migrated_copy(db, path, version)
    db.close()
    return copy


def _migrated_copy(db: sqlite3.Connection, path: Path, version: int) -> sqlite3.Connection:
    """Return a copy in memory with the tables of the newest version. Raises LedgerError or sqlite3.Error."""
    if (problem := foreign_object(db)) is not None:
        raise LedgerDamaged(f"the ledger {path.name} cannot be used: {problem}")
    copy = sqlite3.connect(":memory:", isolation_level=None)
    try:
        copy.row_factory = sqlite3.Row
        db.execute("BEGIN")
        db.execute("SELECT 1 FROM sqlite_schema").fetchone()  # takes the lock: `backup` would wait for it forever
        db.backup(copy)
        db.execute("ROLLBACK")
        _migrate(copy, version)
        require_schema(copy, path)
    except (*SQLITE_ERRORS, LedgerError):
        copy.close()
        raise
    return copy


def version_of(db: sqlite3.Connection, path: Path) -> int:
    """Return the ledger's version, 0 for an empty file. Raises LedgerError if it is newer or not a ledger."""
    version = int(db.execute("PRAGMA user_version").fetchone()[0])
    found = objects_of(db)
    is_foreign = bool(found) and (version <= 0 or not found.keys() >= _OF_EVERY_VERSION)
    if version > VERSION and not is_foreign:
        raise LedgerError(
            f"the ledger {path.name} has version {version}, which is newer than this Hotlap reads (up to {VERSION})",
            hint="update Hotlap",
            code="E_LEDGER_NEWER",
        )
    if is_foreign or (version and not found):
        raise LedgerDamaged(f"{path.name} is not a ledger: it does not have a ledger's tables")
    return version


def _migrate(db: sqlite3.Connection, version: int) -> None:
    for reached in sorted(MIGRATIONS):
        if reached > version:
            _run(db, MIGRATIONS[reached], reached)


def _run(db: sqlite3.Connection, sql: str, version: int) -> None:
    db.executescript(f"BEGIN IMMEDIATE;\n{sql}\nPRAGMA user_version = {version};\nCOMMIT;")
