"""Ledgers of older versions: each opens, keeps its rows, and is never between two versions.

`tests/data/ledger/version_1.sqlite3` was written by Hotlap at commit f3218e3: version 0, three trained cycles, one
failed cycle, one older model published again, a pending rollout, a rejected file and a pause.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
import textwrap
from contextlib import closing, suppress
from pathlib import Path

import pytest

from daemon.cli import main
from daemon.errors import LedgerError
from daemon.ledger import migrations
from daemon.ledger.integrity import schema_check
from daemon.ledger.ledger import Ledger
from daemon.ledger.migrations import MIGRATIONS, VERSION
from schemas.storage.layout import ProjectPaths

ROOT = Path(__file__).parents[3]
FIRST_LEDGER = ROOT / "tests" / "data" / "ledger" / "version_1.sqlite3"


@pytest.fixture
def path(tmp_path) -> Path:
    """Make a ledger of version 1 without the index on the phase; return its path."""
    copy = tmp_path / "ledger.sqlite3"
    shutil.copyfile(FIRST_LEDGER, copy)
    with closing(sqlite3.connect(copy)) as db:
        db.execute("DROP INDEX cycle_of_phase")
    return copy


def rows_of(path: Path) -> dict[str, list[tuple]]:
    with closing(sqlite3.connect(path)) as db:
        tables = [row[0] for row in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        return {table: db.execute(f"SELECT * FROM {table}").fetchall() for table in tables}


def version_of(path: Path) -> int:
    with closing(sqlite3.connect(path)) as db:
        return db.execute("PRAGMA user_version").fetchone()[0]


def schema_of(path: Path) -> dict[str, object]:
    """Return the columns, keys, indices and triggers, without the comments and the layout of their SQL."""
    with closing(sqlite3.connect(path)) as db:
        found: dict[str, object] = {}
        for kind, name, sql in db.execute("SELECT type, name, sql FROM sqlite_schema").fetchall():
            if kind == "table":
                found[name] = [
                    db.execute(f"PRAGMA {pragma}({name})").fetchall() for pragma in ("table_xinfo", "foreign_key_list")
                ]
            else:
                found[name] = sql and " ".join(sql.replace(" IF NOT EXISTS", "").split())
        found["arrow rows"] = db.execute("SELECT src, dst FROM arrow ORDER BY src, dst").fetchall()
        found["strict"] = sorted(row[1:] for row in db.execute("PRAGMA table_list") if row[1] != "sqlite_schema")
        return found


def test_every_version_has_a_migration():
    assert sorted(MIGRATIONS) == list(range(2, VERSION + 1))


def test_an_old_ledger_is_migrated_and_keeps_every_row(path):
    before = rows_of(path)
    assert len(before["cycle"]) == 5
    assert all(before.values())
    with closing(Ledger.open(path)) as ledger:
        assert ledger.check() is None
        assert [cycle.state for cycle in ledger.history()] == ["published"] * 3 + ["failed", "published"]
        assert ledger.last_publication().model == "cycle_000001/model_epoch_2.json"
        assert (ledger.pending_count(), ledger.rejected_count(), ledger.meta("paused")) == (1, 1, "1764165600")
        assert ledger.claim(kind="train", cause="count", parent=None, at_s=2e9).id == 5
    assert version_of(path) == VERSION
    after = rows_of(path)
    claimed = before["rollout"].index(next(row for row in before["rollout"] if row[-1] is None))
    for table, rows in before.items():
        rows_after = [row[: len(rows[0])] for row in after[table][: len(rows)]]  # a migration may add columns
        if table == "rollout":
            assert (rows[claimed][:-1], rows_after[claimed][len(rows[0]) - 1]) == (rows_after[claimed][:-1], 5)
            del rows[claimed], rows_after[claimed]
        assert rows_after == rows


def test_a_migrated_ledger_has_the_schema_of_a_new_one(path, tmp_path):
    Ledger.open(path).close()
    Ledger.open(tmp_path / "new.sqlite3").close()
    assert schema_of(path) == schema_of(tmp_path / "new.sqlite3")
    assert "cycle_of_phase" in schema_of(path)


def test_opening_a_migrated_ledger_again_changes_nothing(path):
    Ledger.open(path).close()
    migrated = path.read_bytes()
    Ledger.open(path).close()
    assert path.read_bytes() == migrated


MORE = {**MIGRATIONS, VERSION + 1: "ALTER TABLE cycle ADD COLUMN note TEXT NOT NULL DEFAULT 'none';"}


def with_migrations(monkeypatch, added: dict[int, str]) -> None:
    """Let the ledger have further versions, and the schema of the newest of them."""
    monkeypatch.setattr(migrations, "MIGRATIONS", added)
    monkeypatch.setattr(migrations, "VERSION", max(added))
    with closing(sqlite3.connect(":memory:")) as db:
        db.executescript(schema_check.SCHEMA_SQL.read_text(encoding="utf-8"))
        for sql in (sql for version, sql in added.items() if version > VERSION):
            with suppress(sqlite3.Error):  # the migration that fails
                db.executescript(sql)
        newest = schema_check.objects_of(db)
    monkeypatch.setattr(schema_check, "expected_objects", lambda: newest)


def test_a_ledger_is_migrated_through_all_later_versions(path, monkeypatch):
    with_migrations(monkeypatch, MORE)
    Ledger.open(path).close()
    assert version_of(path) == VERSION + 1
    assert {row[-1] for row in rows_of(path)["cycle"]} == {"none"}


def test_reading_an_older_ledger_migrates_a_copy_and_does_not_change_the_file(path, monkeypatch):
    with_migrations(monkeypatch, MORE)
    before = path.read_bytes()
    with closing(Ledger.open(path, read_only=True)) as ledger:
        assert len(ledger.history()) == 5
        assert ledger._db.execute("SELECT DISTINCT note FROM cycle").fetchall()[0][0] == "none"
    assert path.read_bytes() == before


def test_reading_an_older_ledger_that_another_program_locks_does_not_wait_forever(path, monkeypatch):
    monkeypatch.setattr("daemon.ledger.connection.LOCK_TIMEOUT_S", 0.1)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(LedgerError) as caught:
            Ledger.open(path, read_only=True)
    assert caught.value.code == "E_LEDGER_LOCKED"


def test_a_migration_that_fails_changes_nothing(path, monkeypatch):
    Ledger.open(path).close()
    with_migrations(monkeypatch, {**MIGRATIONS, VERSION + 1: "CREATE TABLE half (a) STRICT; DROP TABLE missing;"})
    before = rows_of(path)
    with pytest.raises(LedgerError):
        Ledger.open(path)
    assert version_of(path) == VERSION
    assert rows_of(path) == before


@pytest.mark.parametrize("command", ["status", "history", "doctor"])
def test_commands_that_only_read_accept_an_older_ledger(path, tmp_path, command, capsys):
    paths = ProjectPaths(tmp_path)
    paths.make()
    path.rename(paths.ledger)
    before = paths.ledger.read_bytes()
    main(["--project", str(tmp_path), command, "--json"])
    shown = capsys.readouterr()
    assert shown.err == ""
    assert "E_LEDGER" not in shown.out
    if command == "history":
        assert [cycle["cycle"] for cycle in json.loads(shown.out)] == [0, 1, 2, 3, 4]
    assert paths.ledger.read_bytes() == before


KILLED = textwrap.dedent(
    """
    import functools, os, sqlite3, sys
    from pathlib import Path

    class Mortal(sqlite3.Connection):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            if args[0] == ":memory:":  # no file is at risk
                return
            left = iter(range(int(sys.argv[2]), -1, -1))
            self.set_trace_callback(lambda sql: next(left) or os._exit(9))

    sqlite3.connect = functools.partial(sqlite3.connect, factory=Mortal)
    from daemon.ledger.ledger import Ledger

    Ledger.open(Path(sys.argv[1])).close()
    """
)


def test_a_kill_before_any_statement_leaves_the_old_or_the_new_version(path, tmp_path):
    rows, versions = rows_of(path), []
    for statement in range(1, 100):
        copy = tmp_path / f"{statement}.sqlite3"
        shutil.copyfile(path, copy)
        done = subprocess.run([sys.executable, "-c", KILLED, str(copy), str(statement)], cwd=ROOT, check=False)
        if done.returncode == 0:
            break
        assert done.returncode == 9
        versions.append(version_of(copy))
        assert ("cycle_of_phase" in schema_of(copy)) == (versions[-1] >= 2)
        now = rows_of(copy)
        for table, known in rows.items():
            assert [row[: len(known[0])] for row in now[table]] == known, "a migration may only add columns"
        Ledger.open(copy).close()
        assert version_of(copy) == VERSION
    assert len(versions) >= 4
    assert set(versions) <= set(range(1, VERSION + 1))
