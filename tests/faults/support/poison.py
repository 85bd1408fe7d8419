"""Writes values into a ledger that SQLite itself would refuse, as an error of a disk or another program can."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

INVALID_UTF8 = "CAST(x'ff66' AS TEXT)"

WRONG: dict[str, str] = {
    "a word": "'x'",
    "no text": "''",
    "a path": "'../../../../victim'",
    "an absolute path": "'/victim/model_epoch_2.json'",
    "invalid UTF-8": INVALID_UTF8,
    "a NUL": "CAST(x'0061' AS TEXT)",
    "bytes": "x'00ff'",
    "nothing": "NULL",
    "negative": "-1",
    "the largest integer": "9223372036854775807",
    "the smallest integer": "-9223372036854775808",
    "a fraction": "0.5",
    "infinity": "9e999",
    "JSON of another kind": "'[1]'",
}
"""Names of wrong values, and each as SQL."""


def poison(ledger: Path, table: str, assignment: str, where: str) -> None:
    """Change rows of a ledger. No type, constraint or trigger prevents it, and all of them are there afterwards."""
    with closing(sqlite3.connect(ledger, isolation_level=None)) as db:
        db.execute("PRAGMA synchronous = OFF")
        schema = db.execute("SELECT type, name, tbl_name, rootpage, sql FROM sqlite_schema ORDER BY rowid").fetchall()
        _set_schema(db, [row for row in schema if row[0] != "trigger"], loosely=True)
    with closing(sqlite3.connect(ledger, isolation_level=None)) as db:  # reads the schema again
        db.execute("PRAGMA synchronous = OFF")
        db.execute("PRAGMA ignore_check_constraints = ON")
        db.execute(f"UPDATE {table} SET {assignment} WHERE {where}")
        _set_schema(db, schema, loosely=False)


def _set_schema(db: sqlite3.Connection, rows: list[Any], *, loosely: bool) -> None:
    db.execute("PRAGMA writable_schema = ON")
    db.execute("BEGIN")
    db.execute("DELETE FROM sqlite_schema")
    for kind, name, table, page, sql in rows:
        text = sql
        if loosely and sql:
            for rule in (" STRICT,", " STRICT", " NOT NULL"):
                text = text.replace(rule, "")
        db.execute("INSERT INTO sqlite_schema VALUES (?, ?, ?, ?, ?)", (kind, name, table, page, text))
    db.execute("COMMIT")


def some_row(ledger: Path, table: str, key: str) -> Any:
    """Return a key that only one row of a table has."""
    with closing(sqlite3.connect(ledger)) as db:
        keys = [row[0] for row in db.execute(f"SELECT {key} FROM {table} GROUP BY {key} HAVING count(*) = 1")]
    return keys[len(keys) // 2]
