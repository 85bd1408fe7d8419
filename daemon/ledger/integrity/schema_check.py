"""Compares a ledger's tables, indices and triggers with schema.sql, before any of its rows is read.

A view, or a trigger that Hotlap did not create, could return or change anything. So nothing but SQLite's own list of
them is read before this check.
"""

from __future__ import annotations

import functools
import re
import sqlite3
from collections.abc import Iterable, Mapping
from pathlib import Path

from daemon.ledger.cycle import LEGAL_STEPS

SCHEMA_SQL = Path(__file__).parents[1] / "schema.sql"
_STATISTICS = re.compile(r"sqlite_stat[1-4]")
"""Tables that SQLite's ANALYZE adds. They influence only the speed."""
_TOKEN = re.compile(r"--[^\n]*|'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|\w+|[^\s\w]")

Objects = Mapping[tuple[str, str], tuple[str, ...]]
"""(type, name) -> the tokens of the SQL that created it."""


def creation_script() -> str:
    """Return the SQL that creates the tables of the newest version in an empty file."""
    legal_steps = ", ".join(f"('{src.value}', '{dst.value}')" for src, dst in sorted(LEGAL_STEPS))
    return f"{SCHEMA_SQL.read_text(encoding='utf-8')}\nINSERT INTO arrow (src, dst) VALUES {legal_steps};"


def schema_problem(db: sqlite3.Connection) -> str | None:
    """Return how a ledger of the newest version differs from schema.sql, or None. Raises sqlite3.Error."""
    found, expected = objects_of(db), expected_objects()
    if (problem := foreign_object(db)) is not None:
        return problem
    for kind, name in expected:
        if (kind, name) not in found:
            return f"the {kind} {name} is missing"
        if found[kind, name] != expected[kind, name]:
            return f"the {kind} {name} was changed"
    return None


def foreign_object(db: sqlite3.Connection) -> str | None:
    """Return the first table, view, index or trigger that Hotlap creates in no version, or None. Raises sqlite3.Error.

    Triggers are the same in every version. Tables may have other columns in an older one.
    """
    expected = expected_objects()
    for (kind, name), tokens in objects_of(db).items():
        if kind == "table" and _STATISTICS.fullmatch(name):
            continue
        is_known = (kind, name) in expected
        if not is_known or (kind == "trigger" and tokens != expected[kind, name]) or tokens[1:2] == ("VIRTUAL",):
            return f"it contains the {kind} {name}, which Hotlap did not create"
    return None


def objects_of(db: sqlite3.Connection) -> Objects:
    """Return what a file contains. Raises sqlite3.Error."""
    return _objects(db.execute("SELECT type, name, tbl_name, sql FROM sqlite_schema"))


@functools.cache
def expected_objects() -> Objects:
    """Return what a ledger of the newest version contains."""
    db = sqlite3.connect(":memory:")
    try:
        db.executescript(SCHEMA_SQL.read_text(encoding="utf-8"))
        return objects_of(db)
    finally:
        db.close()


def _objects(rows: Iterable[tuple[object, ...]]) -> Objects:
    return {(str(kind), str(name)): (str(table), *_tokens(sql)) for kind, name, table, sql in rows}


def _tokens(sql: object) -> tuple[str, ...]:
    """Return SQL without comments and the layout, in which versions differ; of an index that SQLite made, nothing."""
    return tuple(token for token in _TOKEN.findall(str(sql or "")) if not token.startswith("--"))
