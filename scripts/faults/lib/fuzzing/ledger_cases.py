"""Changed ledgers: bytes, values, rows, tables and journals that Hotlap did not write."""

from __future__ import annotations

import contextlib
import os
import random
import sqlite3
import traceback
from collections.abc import Callable
from pathlib import Path

from daemon.diagnostics.ledger_audit import read_ledger
from daemon.ledger.integrity.strict_rows import TABLES
from scripts.faults.lib.fuzzing.project import Case, Project

_PAGE = 4096
_JOURNAL_MAGIC = b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7"
_OTHER_OBJECTS = (
    "CREATE TABLE more (x)",
    "CREATE VIEW more AS SELECT * FROM cycle",
    "CREATE TRIGGER more AFTER INSERT ON rollout BEGIN DELETE FROM publication; END",
    "CREATE INDEX more ON step (why)",
    "ALTER TABLE rollout ADD COLUMN more TEXT",
    "PRAGMA user_version = 0",
    "PRAGMA user_version = 2",
    "PRAGMA application_id = 7",
    "ANALYZE",
    "VACUUM",
    "PRAGMA journal_mode = WAL",
)


class LedgerCases:
    """Changes the ledger of a project, reads it as the commands do, and starts a daemon on it."""

    unit = "ledgers"

    def __init__(self, folder: Path) -> None:
        self._project = Project(folder)

    def check(self, rng: random.Random) -> Case:
        """Check one changed ledger."""
        project = self._project
        project.restore()
        ledger, done = project.paths.ledger, []
        for _ in range(rng.choice((1, 1, 1, 2, 3))):
            change = rng.choice(_CHANGES)
            with contextlib.suppress(sqlite3.Error, ValueError, IndexError):  # after an earlier change, others may fail
                done.append(f"{change.__name__.strip('_')}: {change(ledger, rng)}")
        try:
            problems = read_ledger(project.paths).problems
            broken = project.check_commands(with_doctor=rng.random() < 0.02)
        except Exception:  # noqa: BLE001  any exception is a finding
            return Case("raised", [traceback.format_exc()], "; ".join(done))
        has_journal = any(ledger.with_name(f"{ledger.name}{end}").exists() for end in ("-journal", "-wal"))
        outcome, more, _ = project.check_start()
        broken += more
        if problems and outcome == "ok" and not has_journal:
            broken.append(f"doctor finds {problems[0]}, but the start uses the ledger")
        if not problems and outcome == "rebuilt" and not has_journal:
            broken.append("doctor finds nothing, but the start rebuilds the ledger")
        if outcome == "rebuilt":
            broken += project.trained_twice()
        return Case(outcome, broken, "; ".join(done))


def _flip(ledger: Path, rng: random.Random) -> str:
    data = bytearray(ledger.read_bytes())
    places = [_place(rng, len(data)) for _ in range(rng.choice((1, 1, 2, 8)))]
    for place in places:
        data[place] = rng.randrange(256)
    ledger.write_bytes(data)
    return f"bytes {places}"


def _place(rng: random.Random, size: int) -> int:
    """Return a place in the file, often in the head of a page."""
    if rng.random() < 0.5:
        return rng.randrange(size)
    return min(size - 1, rng.randrange(size // _PAGE) * _PAGE + rng.randrange(120))


def _page(ledger: Path, rng: random.Random) -> str:
    data = bytearray(ledger.read_bytes())
    pages = len(data) // _PAGE
    page, other = rng.randrange(pages), rng.randrange(pages)
    kind = rng.choice(("zeros", "noise", "another page"))
    content = {"zeros": bytes(_PAGE), "noise": rng.randbytes(_PAGE)}.get(
        kind, bytes(data[other * _PAGE : other * _PAGE + _PAGE])
    )
    data[page * _PAGE : page * _PAGE + _PAGE] = content
    ledger.write_bytes(data)
    return f"page {page} is {kind}"


def _length(ledger: Path, rng: random.Random) -> str:
    size = ledger.stat().st_size
    new = rng.choice((0, 1, 100, rng.randrange(size), size // _PAGE // 2 * _PAGE, size + 1, size + _PAGE))
    os.truncate(ledger, new)
    return f"{new} of {size} bytes"


def _json(ledger: Path, rng: random.Random) -> str:
    """Change one character of a JSON text."""
    data = bytearray(ledger.read_bytes())
    starts = [place for place in range(len(data) - 1) if data[place : place + 2] == b'{"']
    if not starts:
        return "no JSON"
    start = rng.choice(starts)
    place = min(len(data) - 1, start + rng.randrange(400))
    data[place] = rng.choice(b'{}[]",:0123456789-.eEnNaxX\x00\x1b\xff')
    ledger.write_bytes(data)
    return f"byte {place} is {data[place]:#x}"


def _value(ledger: Path, rng: random.Random) -> str:
    """Write a value into a column of one row, or of all rows."""
    from tests.faults.support.poison import WRONG, poison

    table = rng.choice(list(TABLES))
    columns = list(TABLES[table])
    column = rng.choice(columns)
    value = rng.choice([*WRONG.values(), rng.choice(columns), f"{column} || 'x'", f"{column} + 1", f"-{column}"])
    where = rng.choice(("1", f"rowid = (SELECT rowid FROM {table} ORDER BY random() LIMIT 1)", "rowid % 2 = 0"))
    poison(ledger, table, f"{column} = {value}", where if "random" not in where else _one_row(ledger, table, rng))
    return f"{table}.{column} = {value} where {where}"


def _one_row(ledger: Path, table: str, rng: random.Random) -> str:
    first = next(iter(TABLES[table]))
    with contextlib.closing(sqlite3.connect(ledger)) as db:
        keys = [row[0] for row in db.execute(f"SELECT {first} FROM {table} ORDER BY {first}")]
    return f"{first} = {rng.choice(keys)!r}" if keys else "0"


def _rows(ledger: Path, rng: random.Random) -> str:
    """Delete rows of a table, without its triggers."""
    table = rng.choice(list(TABLES))
    where = rng.choice(("1", _one_row(ledger, table, rng), _one_row(ledger, table, rng)))
    with contextlib.closing(sqlite3.connect(ledger, isolation_level=None)) as db:
        db.execute("PRAGMA synchronous = OFF")
        triggers = db.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'").fetchall()
        for name, _ in triggers:
            db.execute(f"DROP TRIGGER {name}")
        db.execute(f"DELETE FROM {table} WHERE {where}")
        for _, sql in triggers:
            db.execute(sql)
    return f"deleted from {table} where {where}"


def _objects(ledger: Path, rng: random.Random) -> str:
    """Add a table, view, trigger or index, or drop one."""
    with contextlib.closing(sqlite3.connect(ledger, isolation_level=None)) as db:
        db.execute("PRAGMA synchronous = OFF")
        names = db.execute("SELECT type, name FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY name").fetchall()
        kind, name = rng.choice(names)
        statement = rng.choice((*_OTHER_OBJECTS, *[f"DROP {kind} {name}"] * len(_OTHER_OBJECTS)))
        db.execute(statement)
    return statement


def _journal(ledger: Path, rng: random.Random) -> str:
    """Put a file next to the ledger that SQLite may apply to it."""
    suffix = rng.choice(("-journal", "-journal", "-wal", "-shm"))
    data = ledger.read_bytes()
    content = rng.choice(
        (
            b"",
            rng.randbytes(3000),
            _JOURNAL_MAGIC + rng.randbytes(3000),
            _JOURNAL_MAGIC + b"\xff\xff\xff\xff" + bytes(8) + (9).to_bytes(4, "big") + bytes(4) + data[:9000],
            data,
        )
    )
    ledger.with_name(f"{ledger.name}{suffix}").write_bytes(content)
    return f"{suffix} of {len(content)} bytes"


_CHANGES: tuple[Callable[[Path, random.Random], str], ...] = (
    _flip,
    _flip,
    _page,
    _length,
    _json,
    _json,
    _value,
    _value,
    _value,
    _rows,
    _objects,
    _journal,
)
