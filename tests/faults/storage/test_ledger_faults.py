"""A damaged, missing or locked ledger, and a disk that refuses it: no rollout is trained on twice."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from daemon.cli import main
from daemon.errors import LedgerError
from daemon.ledger import connection
from daemon.ledger.sqlite_errors import LedgerDamaged
from daemon.publishing.ledger_recovery import open_or_rebuild
from schemas.storage.layout import ProjectPaths
from tests.faults.support.disk import TestDisk, os_error, refusing
from tests.faults.support.harness import InstantHarness, violations

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """Make a project with version 0, two cycles and a pending rollout."""
    folder = tmp_path_factory.mktemp("finished")
    with InstantHarness(folder) as harness:
        harness.until_version(0)
        harness.run_cycle(1)
        harness.run_cycle(3)
        harness.write_rollouts(5)
        harness.until(lambda: harness.ledger.pending_count() == 1)
    return folder


@pytest.fixture
def project(finished, tmp_path) -> ProjectPaths:
    """Make a copy that a test may damage. The pointer file contains an absolute path, so it is written again."""
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    paths = ProjectPaths(tmp_path)
    paths.pointer.write_text(paths.pointer.read_text().replace(finished.as_posix(), tmp_path.as_posix()))
    return paths


def page_garbage(path: Path) -> None:
    with path.open("r+b") as file:
        for page in range(1, path.stat().st_size // 4096, 2):
            file.seek(4096 * page)
            file.write(os.urandom(4096))


DAMAGE = {
    "page garbage": page_garbage,
    "truncated in a page": lambda path: os.truncate(path, 10_000),
    "truncated at a page": lambda path: os.truncate(path, 3 * 4096),
    "garbage": lambda path: path.write_bytes(os.urandom(50_000)),
    "empty": lambda path: path.write_bytes(b""),
    "missing": lambda path: path.unlink(),
    "another program's": lambda path: (path.unlink(), write_other_database(path)),
}


def write_other_database(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE x (y)")


def trained_twice(harness: InstantHarness) -> list[str]:
    """Return the rollouts that are new in more than one model's lineage."""
    from schemas.model import read_model

    rollouts: list[str] = []
    for path in harness.paths.models.glob("cycle_*/model_epoch_*.json"):
        rollouts += read_model(path.read_bytes()).lineage.rollouts
    return sorted({sha256 for sha256 in rollouts if rollouts.count(sha256) > 1})


@pytest.mark.fault(46)
@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_ledger_is_rebuilt_from_what_was_published(project, damage):
    damage(project.ledger)
    was_there = project.ledger.exists() and project.ledger.stat().st_size > 0
    with InstantHarness(project.project) as harness:
        [warning] = [w for w in harness.context.warnings() if w.code == "W_LEDGER_REBUILT"]
        assert "rebuilt from 3 published cycles" in warning.message
        assert [p.policy_version for p in harness.ledger.publications()] == [0, 1, 2]
        harness.until(lambda: harness.ledger.pending_count() == 1)
        harness.write_rollouts(6)
        harness.until_version(3)
        assert trained_twice(harness) == []
        last = harness.ledger.history()[-1]
        assert (last.cycle, sorted(last.rollouts)) == (3, [f"rollout_{i}_20261121_120000.json" for i in (5, 6)])
        assert sum("rebuilt" in line for line in harness.log.lines) == 1
    assert violations(project.project) == ()
    assert len(list(project.state.glob("ledger.corrupt-*"))) == was_there


@pytest.mark.fault(46)
def test_rollouts_of_removed_cycles_are_not_trained_on_again(project):
    with InstantHarness(project.project, keep_cycles=5) as harness:
        harness.clock.wall = 4e9  # every folder is older than an hour
        harness.write_rollouts(6)
        harness.until_version(3)
        for first in range(10, 24, 2):
            harness.run_cycle(first)
    assert len(list(project.models.glob("cycle_*"))) < 8
    project.ledger.unlink()
    with InstantHarness(project.project) as harness:
        assert len(harness.ledger.publications()) == 11
        harness.until(lambda: harness.inbox.is_up_to_date)
        harness.tick()
        assert harness.ledger.pending_count() == 0
        harness.write_rollouts(30, 31)
        harness.until_version(11)
        assert trained_twice(harness) == []
    assert violations(project.project) == ()


@pytest.mark.fault(46)
def test_a_ledger_that_is_older_than_the_models_is_rebuilt(project):
    """Check a restored backup, which may also be a ledger in WAL mode whose -wal file was removed."""
    backup = project.ledger.read_bytes()
    with InstantHarness(project.project) as harness:
        harness.write_rollouts(6)
        harness.until_version(3)
    project.ledger.write_bytes(backup)
    with InstantHarness(project.project) as harness:
        assert "W_LEDGER_REBUILT" in harness.warnings()
        harness.until(lambda: harness.inbox.is_up_to_date)
        harness.tick()
        assert harness.ledger.pending_count() == 0
        harness.write_rollouts(7, 8)
        harness.until_version(4)
        assert trained_twice(harness) == []
    assert violations(project.project) == ()


@pytest.mark.fault(46)
def test_a_ledger_that_is_older_is_recognised_if_the_pointer_names_an_older_version(project):
    """Check that the parent policy shows it: the newest cycle continues the last one that the backup contains."""
    backup = project.ledger.read_bytes()
    with InstantHarness(project.project) as harness:
        harness.write_rollouts(6)
        harness.until_version(3)
    project.ledger.write_bytes(backup)
    project.pointer.write_text((project.models / "cycle_000001" / "model_epoch_2.json").as_posix())
    ledger, message = open_or_rebuild(project, now_s=1.79e9)
    with contextlib.closing(ledger):
        assert message is not None
        assert "is older than the cycles in Models" in message
        assert ledger.pending_count() == 0


@pytest.mark.fault(46)
def test_a_rebuilt_ledger_uses_no_number_twice_and_keeps_the_pointer(project):
    named = "cycle_000001/model_epoch_2.json"
    project.pointer.write_text((project.models / named).as_posix())
    project.cycle_log(7).write_text("a cycle that failed")
    project.ledger.unlink()
    with InstantHarness(project.project) as harness:
        assert harness.ledger.last_publication().model == named
        harness.write_rollouts(6)
        harness.until(lambda: harness.version > 1 and not harness.runner.busy)
        assert harness.runner.cycle.id == 8
    assert violations(project.project) == ()


@pytest.mark.fault(46)
def test_a_rebuild_that_the_disk_refuses_does_not_leave_a_partial_ledger(project):
    """Check that the next start rebuilds the ledger again: a new ledger is renamed only when it is complete."""
    project.ledger.unlink()
    disk = refusing(lambda op: op.kind == "rename", os_error(5))
    with pytest.raises(LedgerError, match="cannot be rebuilt"):
        open_or_rebuild(project, now_s=0.0, disk=disk)
    assert not project.ledger.exists()
    with InstantHarness(project.project) as harness:
        assert [p.policy_version for p in harness.ledger.publications()] == [0, 1, 2]
    assert violations(project.project) == ()


@pytest.mark.fault(46)
def test_a_ledger_of_a_newer_hotlap_is_refused_and_left_alone(project, capsys):
    db = sqlite3.connect(project.ledger)
    db.execute("PRAGMA user_version = 999")
    db.close()
    before = project.ledger.read_bytes()
    assert main(["--project", str(project.project), "--no-dashboard"]) == 2
    assert "E_LEDGER_NEWER" in capsys.readouterr().err
    assert project.ledger.read_bytes() == before


@pytest.mark.fault(46)
def test_a_locked_ledger_is_waited_for_and_the_program_that_holds_it_is_named(project, monkeypatch):
    monkeypatch.setattr(connection, "LOCK_TIMEOUT_S", 0.3)
    holding = (
        "import sqlite3, sys\ndb = sqlite3.connect(sys.argv[1], isolation_level=None)\ndb.execute('BEGIN EXCLUSIVE')\n"
        "print('held', flush=True)\nsys.stdin.read()\n"
    )
    command = [sys.executable, "-c", holding, str(project.ledger)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout
        assert holder.stdin
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(LedgerError) as caught:
            open_or_rebuild(project, now_s=0.0)
        assert caught.value.code == "E_LEDGER_LOCKED"
        if sys.platform == "linux":
            assert f"pid {holder.pid}" in caught.value.message
        holder.stdin.close()
    assert not list(project.state.glob("ledger.corrupt-*"))
    ledger, message = open_or_rebuild(project, now_s=0.0)
    ledger.close()
    assert message is None


@pytest.mark.fault(46)
def test_a_ledger_that_is_damaged_while_the_daemon_runs_is_rebuilt_at_the_next_start(project):
    with InstantHarness(project.project) as harness:
        project.ledger.write_bytes(os.urandom(project.ledger.stat().st_size))
        harness.write_rollouts(6)
        with pytest.raises(LedgerDamaged):
            harness.until_version(3)
    with InstantHarness(project.project) as harness:
        harness.until_version(3)
        assert trained_twice(harness) == []
    assert violations(project.project) == ()


class Refusing(sqlite3.Connection):
    """Executes `passes` such statements and refuses the next `refuses`, as SQLite does if the disk fails."""

    statement, code, passes, refuses = "", 0, 0, 0

    def execute(self, sql, *arguments):
        if sql.startswith(self.statement):
            if self.passes:
                self.passes -= 1
            elif self.refuses:
                self.refuses -= 1
                error = sqlite3.OperationalError("refused")
                error.sqlite_errorcode = self.code
                raise error
        return super().execute(sql, *arguments)


REFUSALS = {
    "full": (sqlite3.SQLITE_FULL, "E_DISK_FULL"),
    "I/O error": (sqlite3.SQLITE_IOERR | (4 << 8), "E_LEDGER_IO"),
    "locked": (sqlite3.SQLITE_BUSY, "E_LEDGER_LOCKED"),
    "read-only": (sqlite3.SQLITE_READONLY, "E_LEDGER_READONLY"),
}


@pytest.mark.fault(40)
@pytest.mark.fault(42)
@pytest.mark.parametrize("statement", ["BEGIN", "COMMIT"])
@pytest.mark.parametrize(("code", "shown"), REFUSALS.values(), ids=REFUSALS)
def test_a_refused_transaction_does_not_prevent_the_publish(fresh_project, statement, code, shown):
    for passes in range(100):
        folder = fresh_project()
        with InstantHarness(folder, disk=TestDisk()) as harness:
            harness.ledger._db.close()
            db = sqlite3.connect(harness.paths.ledger, isolation_level=None, factory=Refusing)
            db.statement, db.code, db.passes, db.refuses = statement, code, passes, 2
            db.row_factory = sqlite3.Row
            harness.ledger._db = db
            harness.write_rollouts(1, 2)
            harness.until_version(1)
            if db.refuses == 2:
                break
            harness.until(lambda: not harness.warnings())
            assert any(shown in line for line in harness.log.lines)
            assert [p.policy_version for p in harness.ledger.publications()] == [0, 1]
            assert len(harness.launcher.started) == 1, "the cycle was trained again"
        assert violations(folder) == ()
    assert passes > 5
