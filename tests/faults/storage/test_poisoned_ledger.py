"""A ledger with values, tables, triggers or journals that Hotlap did not write: it is rebuilt or refused."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from daemon.cli import main
from daemon.diagnostics import reports
from daemon.diagnostics.invariants import check_invariants
from daemon.ledger.integrity.salvage import salvage
from daemon.ledger.integrity.stored_json import is_result, meta_problem
from daemon.ledger.integrity.strict_rows import TABLES, decode_text, value_problem
from daemon.ledger.ledger import Ledger
from daemon.ledger.sqlite_errors import LedgerDamaged
from daemon.publishing.ledger_recovery import open_or_rebuild
from schemas.job import Result
from schemas.storage.layout import ProjectPaths
from tests.faults.support.harness import InstantHarness, violations
from tests.faults.support.poison import INVALID_UTF8, WRONG, poison, some_row

ROOT = Path(__file__).parents[3]
COLUMNS = [(table, column) for table, columns in TABLES.items() for column in columns]


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """Make a paused project: version 0, two cycles, a rejected file, a pending rollout, a row in every table."""
    folder = tmp_path_factory.mktemp("finished")
    with InstantHarness(folder) as harness:
        harness.until_version(0)
        harness.run_cycle(1)
        harness.run_cycle(3)
        (harness.paths.exports / "rollout_9_bad.json").write_bytes(b'{"experiences": 5}')
        harness.write_rollouts(5)
        harness.until(lambda: harness.ledger.pending_count() == 1 and harness.ledger.rejected_count() == 1)
        harness.ledger.set_meta("paused", "1790000000")
        harness.ledger.set_meta("notices", '{"2": {"W_X": "text"}}')
        harness.ledger.set_meta("recovered", '{"rollout_1.json": [2, 0.5]}')
        harness.tick()
    return folder


@pytest.fixture
def project(finished, tmp_path) -> ProjectPaths:
    """Make a copy that a test may damage. The pointer file contains an absolute path, so it is written again."""
    shutil.copytree(finished, tmp_path / "project")
    paths = ProjectPaths(tmp_path / "project")
    paths.pointer.write_text(paths.pointer.read_text().replace(finished.as_posix(), paths.project.as_posix()))
    return paths


def execute(paths: ProjectPaths, *statements: str) -> None:
    with contextlib.closing(sqlite3.connect(paths.ledger, isolation_level=None)) as db:
        for statement in statements:
            db.execute(statement)


def used(paths: ProjectPaths) -> dict[str, int]:
    """Return the rollouts that were used, with their cycles."""
    with contextlib.closing(sqlite3.connect(paths.ledger)) as db:
        return dict(db.execute("SELECT sha256, cycle_id FROM rollout WHERE cycle_id IS NOT NULL"))


def problems(paths: ProjectPaths) -> list[str]:
    """Return what is wrong with the ledger, as `hotlap doctor` does."""
    return [v.message for v in check_invariants(paths.project) if v.invariant.name == "LEDGER"]


def is_accepted(paths: ProjectPaths, table: str, column: str, value: str, key: Any) -> bool:
    """Return whether the strict reader accepts the row, as SQLite has stored it."""
    first = next(iter(TABLES[table]))
    with contextlib.closing(sqlite3.connect(paths.ledger)) as db:
        db.text_factory = decode_text
        where = f"{first} IS ?" if column != first else f"{first} IS {value}"
        row = db.execute(f"SELECT * FROM {table} WHERE {where}", (key,) if column != first else ()).fetchone()
    return row is not None and value_problem(table, row) is None


@pytest.mark.fault(80)
@pytest.mark.parametrize(("table", "column"), COLUMNS, ids=[".".join(names) for names in COLUMNS])
def test_no_wrong_value_in_any_column_is_trusted(project, table, column, capsys):
    sound, before = project.ledger.read_bytes(), used(project)
    first = next(iter(TABLES[table]))
    key = some_row(project.ledger, table, first)
    tried = rebuilt = 0
    for name, value in WRONG.items():
        project.ledger.write_bytes(sound)
        try:
            poison(project.ledger, table, f"{column} = {value}", f"{first} = {key!r}")
        except sqlite3.IntegrityError:
            continue  # SQLite cannot store it in a key
        tried += 1
        found = Ledger.open(project.ledger, read_only=True)
        with contextlib.closing(found):
            wrong = found.problems()
        assert wrong or is_accepted(project, table, column, value, key), f"{name} is trusted"
        with contextlib.suppress(LedgerDamaged):
            reports.history(project)
        if wrong and not rebuilt:
            check_rebuilt(project, before, table)
            rebuilt += 1
    assert tried >= 3
    assert rebuilt


def check_rebuilt(paths: ProjectPaths, before: dict[str, int], table: str) -> None:
    """Open the ledger as a start does; only the poisoned row may be lost."""
    ledger, message = open_or_rebuild(paths, now_s=1.79e9)
    with contextlib.closing(ledger):
        assert message is not None
        assert "rebuilt from 3 published cycles" in message
        assert len(message.splitlines()) == 1
        assert ledger.problems() == []
        assert [p.policy_version for p in ledger.publications()] == [0, 1, 2]
        assert used(paths) == before, "which rollouts were used is known from the models, too"
        if table != "meta":
            assert ledger.meta("paused") == "1790000000"
        assert ledger.pending_count() == 1 or table == "rollout"


@pytest.mark.fault(80)
def test_one_wrong_character_of_a_json_text_is_found_or_changes_no_structure(project):
    with contextlib.closing(sqlite3.connect(project.ledger)) as db:
        result = db.execute("SELECT result FROM cycle WHERE id = 2").fetchone()[0]
        meta = db.execute("SELECT key, value FROM meta").fetchall()
    assert is_result(result)
    accepted = 0
    for place in range(len(result)):
        for character in '"x':
            text = f"{result[:place]}{character}{result[place + 1 :]}"
            if is_result(text) and text != result:
                accepted += 1
                assert Result.from_bytes(text.encode()).model_dump().keys() == orjson.loads(result).keys()
    assert accepted < len(result) // 4, "only the texts in it may change"
    for key, value in meta:
        assert meta_problem(key, value) is None
    for key in ("contract", "initial_contract", "notices", "recovered"):
        value = dict(meta)[key]
        assert meta_problem(key, value.rstrip()[:-1]) is not None
        assert meta_problem(key, f"{value[:2]}\x01{value[3:]}") is not None


CHANGES = {
    "no table": ("DROP TABLE step",),
    "no index": ("DROP INDEX cycle_of_phase",),
    "no trigger": ("DROP TRIGGER rollout_counts_once",),
    "a view in a table's place": ("DROP TABLE rejection", "CREATE VIEW rejection AS SELECT 1 AS seq"),
    "a trigger that deletes": ("CREATE TRIGGER t AFTER INSERT ON rollout BEGIN DELETE FROM rollout; END",),
    "a trigger that refuses": ("CREATE TRIGGER t BEFORE INSERT ON step BEGIN SELECT RAISE(ABORT, 'no'); END",),
    "another table": ("CREATE TABLE more (x)",),
    "another column": ("ALTER TABLE cycle ADD COLUMN more TEXT",),
    "a column that is computed": ("ALTER TABLE file ADD COLUMN more TEXT AS (hex(zeroblob(9))) VIRTUAL",),
    "not strict": (
        "PRAGMA writable_schema = ON",
        "UPDATE sqlite_schema SET sql = replace(sql, ') STRICT', ')') WHERE name = 'publication'",
    ),
    "an impossible step": ("DROP TRIGGER step_is_final_u", "UPDATE step SET dst = 'dancing' WHERE seq = 3"),
    "a phase without its step": ("UPDATE cycle SET phase = 'failed' WHERE id = 2",),
    "an impossible phase": ("UPDATE cycle SET phase = 'dancing' WHERE id = 2",),
    "no publication": ("DELETE FROM publication WHERE cycle_id = 1",),
    "a rollout of a cycle that does not exist": (
        "PRAGMA foreign_keys = OFF",
        "DELETE FROM cycle WHERE id = 1",
    ),
    "a version of the past": ("PRAGMA user_version = 1",),
    "no version": ("PRAGMA user_version = 0",),
    "the schema of nobody": ("PRAGMA writable_schema = ON", "UPDATE sqlite_schema SET sql = 'x' WHERE type = 'index'"),
    "an index of another table": (
        "PRAGMA writable_schema = ON",
        "UPDATE sqlite_schema SET rootpage = 2 WHERE name = 'file_content'",
    ),
}


@pytest.mark.fault(81)
@pytest.mark.parametrize("statements", CHANGES.values(), ids=CHANGES)
def test_a_ledger_with_other_tables_is_rebuilt_and_nothing_in_it_runs(project, statements, capsys):
    before = used(project)
    execute(project, *statements)
    found = problems(project)
    assert found
    assert "Traceback" not in str(found)
    code = main(["history", "--project", str(project.project)])
    err = capsys.readouterr().err
    assert code == 0 or (code == 2 and len(err.splitlines()) == 1 and "E_LEDGER_DAMAGED" in err)
    with InstantHarness(project.project) as harness:
        [warning] = [w for w in harness.context.warnings() if w.code == "W_LEDGER_REBUILT"]
        assert "stays paused" in warning.message
        assert harness.service.is_paused
        assert used(project) == before
        harness.ledger.set_meta("paused", None)
        harness.write_rollouts(6)
        harness.until_version(3)
    assert len(list(project.state.glob("ledger.corrupt-*"))) == 1
    assert violations(project.project) == ()


@pytest.mark.fault(81)
def test_a_step_from_another_phase_than_the_last_one_led_to_is_found(project):
    first = "seq = (SELECT min(seq) FROM step WHERE cycle_id = 2)"
    poison(project.ledger, "step", "src = 'selecting', dst = 'publishing'", first)
    assert "cycle 2 went from claimed to publishing, recorded as a step from selecting" in problems(project)


@pytest.mark.fault(80)
@pytest.mark.parametrize(
    ("table", "column", "where"),
    [("meta", "value", "key = 'contract'"), ("cycle", "result", "id = 2")],
    ids=["of the project", "of the newest model"],
)
@pytest.mark.parametrize(("right", "wrong"), [("'steer'", "'s4eer'"), ("'1.0]'", "'1.5]'")], ids=["a name", "a bound"])
def test_one_wrong_character_of_a_contract_is_found_and_corrected(project, table, column, where, right, wrong):
    poison(project.ledger, table, f"{column} = replace({column}, {right}, {wrong})", where)
    assert "the contract in the table meta is not that of the newest model" in problems(project)
    with InstantHarness(project.project) as harness:
        assert "W_LEDGER_REBUILT" in harness.warnings()
        assert harness.ledger.problems() == []
        harness.ledger.set_meta("paused", None)
        harness.write_rollouts(6)
        harness.until_version(3)
        assert harness.ledger.rejected_count() == 1
    assert violations(project.project) == ()


@pytest.mark.fault(83)
def test_rows_on_both_sides_of_a_damaged_page_are_read(project):
    insert = "INSERT INTO rejection (name, sha256, code, reason, at_s) VALUES ('name_{0}', NULL, '', '{1}', 0.0)"
    execute(project, "BEGIN", *(insert.format(number, "x" * 300) for number in range(100, 200)), "COMMIT")
    rows = len(salvage(project.ledger)["rejection"])
    data = bytearray(project.ledger.read_bytes())
    page = data.index(b"name_150") // 4096 * 4096
    data[page : page + 4096] = b"\xff" * 4096
    project.ledger.write_bytes(data)
    found = salvage(project.ledger)
    names = {values[1] for values in found["rejection"]}
    assert {"name_100", "name_199"} < names
    assert "name_150" not in names
    assert rows - 20 < len(names) < rows
    assert len(found["cycle"]) == 3


@pytest.mark.fault(81)
def test_doctor_shows_every_problem_and_does_not_call_promises_kept(project, capsys):
    execute(project, "DROP TABLE step")
    assert main(["doctor", "--project", str(project.project), "--json"]) == 1
    findings = orjson.loads(capsys.readouterr().out)
    [ledger] = [f for f in findings if f["topic"] == "ledger"]
    assert ledger["level"] == "wrong"
    assert "the table step is missing" in ledger["text"]
    assert [f["level"] for f in findings if f["topic"] == "invariants"] == ["note"]


@pytest.mark.fault(81)
def test_a_missing_ledger_is_not_called_a_new_project(project, capsys):
    project.ledger.unlink()
    assert main(["doctor", "--project", str(project.project), "--json"]) == 1
    [ledger] = [f for f in orjson.loads(capsys.readouterr().out) if f["topic"] == "ledger"]
    assert (ledger["level"], "it is missing" in ledger["text"]) == ("wrong", True)


def leave_a_journal(ledger: Path) -> bytes:
    """Return the journal of a program that was killed while it changed another database."""
    script = (
        "import os, sqlite3, sys\n"
        "db = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "db.execute('CREATE TABLE t (x)')\n"
        "for i in range(100): db.execute('INSERT INTO t VALUES (?)', ('y' * 900,))\n"
        "db.execute('PRAGMA cache_size = 1')\n"
        "db.execute('BEGIN IMMEDIATE')\n"
        "db.execute('UPDATE t SET x = ?', ('z' * 900,))\n"
        "os._exit(9)\n"
    )
    assert subprocess.run([sys.executable, "-c", script, str(ledger)], check=False).returncode == 9
    return ledger.with_name(f"{ledger.name}-journal").read_bytes()


@pytest.mark.fault(82)
def test_a_journal_of_another_file_is_not_applied(project, tmp_path):
    before = project.ledger.read_bytes()
    foreign = leave_a_journal(tmp_path / "other.sqlite3")
    journal = project.state / "ledger.sqlite3-journal"
    journal.write_bytes(foreign)
    assert problems(project)
    assert (project.ledger.read_bytes(), journal.read_bytes()) == (before, foreign)
    ledger, message = open_or_rebuild(project, now_s=1.79e9)
    with contextlib.closing(ledger):
        assert message is not None
        assert "was of another file" in message
        assert ledger.meta("paused") is not None
    assert project.ledger.read_bytes() == before
    assert not journal.exists()
    [kept] = project.state.glob("ledger.corrupt-*")
    assert kept.read_bytes() == foreign
    assert not list(project.state.glob("before_*"))


@pytest.mark.fault(82)
def test_a_journal_without_its_ledger_is_not_applied_to_the_rebuilt_one(project, tmp_path):
    (project.state / "ledger.sqlite3-journal").write_bytes(leave_a_journal(tmp_path / "other.sqlite3"))
    project.ledger.unlink()
    ledger, message = open_or_rebuild(project, now_s=1.79e9)
    ledger.close()
    assert message is not None
    assert "stays paused" in message, "status.json knows it"
    assert problems(project) == []


def park(harness: InstantHarness) -> None:
    from schemas.job import ExitCode, Failure, Ready

    harness.launcher.answer = lambda job: [Ready(versions={}), Failure(code="E_DATA", message="no good")]
    harness.write_rollouts(6)
    harness.until(lambda: bool(harness.runner.busy and harness.launcher.started))
    harness.launcher.started[-1].end(ExitCode.BAD_DATA)
    harness.until(lambda: not harness.runner.busy)


LATER: dict[str, Callable[[ProjectPaths], None]] = {
    "a wrong value": lambda p: poison(p.ledger, "file", f"name = {INVALID_UTF8}", "1"),
    "a page": lambda p: os.truncate(p.ledger, p.ledger.stat().st_size - 4096),
}


@pytest.mark.fault(83)
def test_a_parked_cycle_stays_parked_and_keeps_its_rollouts(project):
    with InstantHarness(project.project, failures_before_parking=1) as harness:
        harness.ledger.set_meta("paused", None)
        park(harness)
        parked = harness.ledger.unfinished()
        assert parked is not None
    before = used(project)
    poison(project.ledger, "rejection", f"reason = {INVALID_UTF8}", "seq = 1")
    with InstantHarness(project.project, failures_before_parking=1) as harness:
        assert harness.warnings() >= {"W_LEDGER_REBUILT", "W_PARKED"}
        assert harness.ledger.unfinished() == parked
        assert used(project) == before
        harness.service.trigger("trigger")
        harness.until_version(3)
    assert violations(project.project) == ()


@pytest.mark.fault(83)
def test_a_cycle_that_was_running_is_trained_again_with_the_same_rollouts(project):
    with InstantHarness(project.project) as harness:
        harness.ledger.set_meta("paused", None)
        harness.launcher.answer = lambda job: []
        harness.write_rollouts(6)
        harness.until(lambda: harness.runner.busy and bool(harness.launcher.started))
        harness.crash()
    before = used(project)
    assert 3 in before.values()
    poison(project.ledger, "meta", "value = '{'", "key = 'notices'")
    with InstantHarness(project.project) as harness:
        assert used(project) == before
        harness.until_version(3)
        assert [len(c.rollouts) for c in harness.ledger.history()][-1] == 2
    assert violations(project.project) == ()


@pytest.mark.fault(84)
def test_history_takes_the_same_number_of_statements_for_any_number_of_cycles(project):
    def statements(limit: int) -> int:
        seen: list[str] = []
        with contextlib.closing(Ledger.open(project.ledger, read_only=True)) as ledger:
            ledger._db.set_trace_callback(seen.append)
            assert len(ledger.history(limit)) == limit
        return len(seen)

    assert statements(1) == statements(3)
