"""Reads what can be read of a damaged ledger: each row that the strict reader accepts, whatever surrounds it."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from daemon.ledger.connection import distrust, uri_of
from daemon.ledger.integrity.strict_rows import TABLES, Values, decode_text, value_problem
from daemon.ledger.sqlite_errors import SQLITE_ERRORS

Rows = Mapping[str, tuple[Values, ...]]
"""Table -> its rows, in the order of their keys; the values are in the order of `TABLES`."""
_TABLES = tuple(table for table in TABLES if table not in {"arrow", "step"})
"""A new ledger has its own table `arrow`, and needs the steps of no earlier cycle."""
_DEFAULTS: Mapping[tuple[str, str], str] = {("rollout", "repeated"): "''", ("rollout", "suspect"): "''"}
"""Columns that older versions do not have, with their value as SQL."""
_STORED = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ? AND rootpage > 0"


def salvage(path: Path) -> Rows:
    """Return the rows that can be read. The file is not changed, and no trigger or view in it runs."""
    found: dict[str, tuple[Values, ...]] = dict.fromkeys(_TABLES, ())
    with contextlib.suppress(*SQLITE_ERRORS), contextlib.closing(_connect(path)) as db:
        for table in _TABLES:
            with contextlib.suppress(*SQLITE_ERRORS):
                if (columns := _columns(db, table)) is not None:
                    found[table] = _accepted_rows(db, table, columns)
    return found


def _connect(path: Path) -> sqlite3.Connection:
    """Return a connection that reads the file as it is, without its journal. Raises sqlite3.Error."""
    db = sqlite3.connect(uri_of(path, "ro", options="&immutable=1"), uri=True, isolation_level=None)
    distrust(db)
    db.execute("PRAGMA writable_schema = ON")  # then SQLite skips what it cannot read of the list of tables
    db.text_factory = decode_text
    return db


def _columns(db: sqlite3.Connection, table: str) -> tuple[str, ...] | None:
    """Return SQL for each column of a table; None if the file does not contain it as stored rows."""
    if db.execute(_STORED, (table,)).fetchone() is None:
        return None
    hidden = {str(row[1]): int(row[6]) for row in db.execute(f"PRAGMA table_xinfo({table})")}
    columns = [name if name in hidden else _DEFAULTS.get((table, name)) for name in TABLES[table]]
    if any(hidden.values()) or not all(columns):
        return None  # a column is missing, or is computed when it is read
    return tuple(column for column in columns if column)


def _accepted_rows(db: sqlite3.Connection, table: str, columns: tuple[str, ...]) -> tuple[Values, ...]:
    """Return the rows that are accepted: up to a page that cannot be read, and from the end back to one."""
    found: dict[Any, Values] = {}
    for order in ("ASC", "DESC"):
        try:
            for values in db.execute(f"SELECT {', '.join(columns)} FROM {table} ORDER BY {columns[0]} {order}"):
                if value_problem(table, values) is None:
                    found.setdefault(values[0], values)
            break
        except SQLITE_ERRORS:
            continue
    return tuple(found[key] for key in sorted(found))
