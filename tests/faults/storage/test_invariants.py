"""The invariant check finds each violation, and nothing in a healthy project."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from daemon.diagnostics.invariants import Invariant, check_invariants, fingerprints_of
from daemon.runtime.instance_lock import ProjectLock
from schemas.process.run_token import TOKEN_VARIABLE, new_token
from schemas.storage.layout import ProjectPaths
from tests.daemon.conftest import ProcessHarness
from tests.helpers import model_bytes, write_rollout


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """Make a project with version 0, two cycles, a pending and a rejected rollout; the daemon has ended."""
    folder = tmp_path_factory.mktemp("finished")
    harness = ProcessHarness(folder)
    try:
        for version in (1, 2):
            write_rollout(harness.paths.exports, 10 * version)
            write_rollout(harness.paths.exports, 10 * version + 1)
            harness.until_published(version)
        write_rollout(harness.paths.exports, 30)
        (harness.paths.exports / "rollout_31_bad.json").write_bytes(b'{"experiences": 5}')
        harness.until(lambda: harness.ledger.pending_count() == 1 and harness.ledger.rejected_count() == 1)
    finally:
        harness.close()
    return folder


@pytest.fixture
def project(finished, tmp_path) -> ProjectPaths:
    """Make a copy that a test may damage. The pointer file contains an absolute path, so it is written again."""
    folder = tmp_path / "project"
    shutil.copytree(finished, folder)
    paths = ProjectPaths(folder)
    text = paths.pointer.read_text(encoding="utf-8")
    paths.pointer.write_text(text.replace(finished.as_posix(), folder.as_posix()), encoding="utf-8")
    return paths


def sql(paths: ProjectPaths, statement: str) -> None:
    db = sqlite3.connect(paths.ledger, isolation_level=None)
    db.execute("PRAGMA foreign_keys = OFF")
    db.execute(statement)
    db.close()


def broken(paths: ProjectPaths, **kwargs) -> set[Invariant]:
    return {violation.invariant for violation in check_invariants(paths.project, **kwargs)}


def test_a_healthy_project_has_no_violation_and_is_not_changed(project):
    before = {path: path.stat().st_mtime_ns for path in project.project.rglob("*")}
    assert check_invariants(project.project, before=fingerprints_of(project.exports), litter_age_s=0.0) == ()
    assert {path: path.stat().st_mtime_ns for path in project.project.rglob("*")} == before


def test_a_folder_without_a_daemon_has_no_violation(tmp_path):
    assert check_invariants(tmp_path) == ()
    ProjectPaths(tmp_path).make()
    assert check_invariants(tmp_path) == ()


def test_a_running_daemon_has_no_violation_at_any_moment(tmp_path):
    with contextlib.closing(ProcessHarness(tmp_path)) as harness:
        lock = ProjectLock(harness.paths.lock)
        lock.acquire()
        checks = 0
        for version in (1, 2):
            write_rollout(harness.paths.exports, 10 * version)
            write_rollout(harness.paths.exports, 10 * version + 1)
            while (last := harness.ledger.last_publication()) is None or last.policy_version < version:
                harness.service.tick()
                assert check_invariants(tmp_path) == ()
                checks += 1
                harness.mailbox.wait(0.02)
        lock.release()
    assert checks > 5


def remove_arrays_and_file(paths: ProjectPaths) -> None:
    shutil.rmtree(paths.cache)
    (paths.exports / "rollout_30_20261121_120000.json").unlink()


def tear_arrays_and_change_file(paths: ProjectPaths) -> None:
    for path in paths.cache.iterdir():
        os.truncate(path, path.stat().st_size // 2)
    (paths.exports / "rollout_30_20261121_120000.json").write_bytes(b"{}")


def damage_page(paths: ProjectPaths) -> None:
    with paths.ledger.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 8192)


def newest_model(paths: ProjectPaths) -> Path:
    return Path(paths.pointer.read_text(encoding="utf-8"))


def swap_model(paths: ProjectPaths) -> None:
    newest_model(paths).write_bytes(model_bytes(version=2, seed=99))


def point(paths: ProjectPaths, text: str) -> None:
    paths.pointer.write_text(text, encoding="utf-8")


def point_outside(paths: ProjectPaths) -> None:
    outside = paths.project.parent / "cycle_000002"
    shutil.copytree(newest_model(paths).parent, outside)
    point(paths, str(outside / newest_model(paths).name))


def lead_outside_by_a_link(paths: ProjectPaths) -> None:
    folder = newest_model(paths).parent
    folder.rename(paths.project.parent / "elsewhere")
    folder.symlink_to(paths.project.parent / "elsewhere")


def left_behind(path: Path) -> None:
    path.write_bytes(b"x")
    os.utime(path, (time.time() - 120, time.time() - 120))


BROKEN = {
    "pending rollout gone": (remove_arrays_and_file, Invariant.NOTHING_LOST),
    "pending rollout torn": (tear_arrays_and_change_file, Invariant.NOTHING_LOST),
    "ledger garbage": (damage_page, Invariant.LEDGER),
    "ledger empty": (lambda p: p.ledger.write_bytes(b""), Invariant.LEDGER),
    "ledger gone": (lambda p: p.ledger.unlink(), Invariant.LEDGER),
    "unknown phase": (lambda p: sql(p, "UPDATE cycle SET phase = 'dreaming' WHERE id = 2"), Invariant.LEDGER),
    "phase without a step": (lambda p: sql(p, "UPDATE cycle SET phase = 'failed' WHERE id = 2"), Invariant.LEDGER),
    "published without a publication": (
        lambda p: sql(p, "DELETE FROM publication WHERE cycle_id = 1"),
        Invariant.LEDGER,
    ),
    "counted in a missing cycle": (lambda p: sql(p, "DELETE FROM cycle WHERE id = 1"), Invariant.LEDGER),
    "pointer gone": (lambda p: p.pointer.unlink(), Invariant.ENGINE_VIEW),
    "pointer empty": (lambda p: point(p, ""), Invariant.ENGINE_VIEW),
    "pointer with a newline": (lambda p: point(p, f"{newest_model(p)}\n"), Invariant.ENGINE_VIEW),
    "pointer relative": (lambda p: point(p, "Models/cycle_000002/model_epoch_3.json"), Invariant.ENGINE_VIEW),
    "pointer outside": (point_outside, Invariant.ENGINE_VIEW),
    "pointer through a link": (lead_outside_by_a_link, Invariant.ENGINE_VIEW),
    "pointer back": (
        lambda p: point(p, str(newest_model(p)).replace("cycle_000002", "cycle_000001")),
        Invariant.ENGINE_VIEW,
    ),
    "model gone": (lambda p: newest_model(p).unlink(), Invariant.ENGINE_VIEW),
    "model torn": (lambda p: os.truncate(newest_model(p), 100), Invariant.ENGINE_VIEW),
    "another model": (swap_model, Invariant.ENGINE_VIEW),
    "copy torn": (lambda p: os.truncate(p.models / newest_model(p).name, 100), Invariant.ENGINE_VIEW),
    "versions out of order": (
        lambda p: sql(p, "UPDATE publication SET seq = seq + 10 WHERE cycle_id = 1"),
        Invariant.ENGINE_VIEW,
    ),
    "status torn": (lambda p: os.truncate(p.status, 20), Invariant.ENGINE_VIEW),
    "temporary file": (lambda p: left_behind(p.models / ".best_model_path.txt.0123abcd.tmp"), Invariant.NO_LITTER),
    "no reason": (lambda p: left_behind(p.rejected / "rollout_1_x.json"), Invariant.NO_LITTER),
}


@pytest.mark.parametrize(("break_it", "invariant"), BROKEN.values(), ids=BROKEN)
def test_each_violation_is_found_under_its_invariant(project, break_it, invariant):
    break_it(project)
    assert broken(project) == {invariant}


def test_staging_of_an_ended_cycle_is_a_violation(project):
    staging = project.staging / "cycle_000002"
    staging.mkdir()
    assert broken(project) == set()
    assert broken(project, litter_age_s=0.0) == {Invariant.NO_LITTER}


def test_a_rollout_in_the_lineage_of_two_models_was_counted_twice(project):
    import orjson

    from schemas.storage.files import sha256_of

    for cycle in (1, 2):
        path = project.models / f"cycle_{cycle:06d}" / "model_epoch_3.json"
        document = orjson.loads(path.read_bytes())
        document["lineage"]["rollouts"] = ["ab" * 32]
        path.write_bytes(orjson.dumps(document))
        sql(project, f"UPDATE publication SET sha256 = '{sha256_of(path.read_bytes())}' WHERE cycle_id = {cycle}")
    assert broken(project) == {Invariant.COUNTED_ONCE}


def test_each_file_must_be_unchanged_in_exports_or_in_rejected(project):
    before = fingerprints_of(project.exports) | fingerprints_of(project.rejected)
    before = {name: known for name, known in before.items() if not name.endswith(".reason.txt")}
    assert broken(project, before=before) == set()
    used, pending = (project.exports / f"rollout_{i}_20261121_120000.json" for i in (10, 30))
    used.unlink()
    assert broken(project, before=before) == {Invariant.NOTHING_LOST}
    assert broken(project, before=before, may_clear=True) == set()
    os.utime(pending, (1, 1))
    assert broken(project, before=before, may_clear=True) == {Invariant.USER_FILES}


def test_a_process_that_outlived_its_daemon_is_found(project):
    environment = {**os.environ, TOKEN_VARIABLE: str(new_token(project.project))}
    command = [sys.executable, "-c", "print(flush=True); input()"]
    child = subprocess.Popen(command, cwd=project.state, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert child.stdout
        child.stdout.readline()
        assert broken(project) == {Invariant.NO_PROCESS}
    finally:
        child.communicate(b"\n")
    assert broken(project) == set()


def test_an_interrupted_transaction_is_read_as_rolled_back_without_changing_the_file(project):
    script = (
        "import os, sqlite3, sys\n"
        "db = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "db.execute('PRAGMA cache_size = 1')\n"
        "db.execute('PRAGMA cache_spill = 1')\n"
        "db.execute('BEGIN IMMEDIATE')\n"
        "db.execute('UPDATE cycle SET phase = ?', ('dreaming',))\n"
        "for i in range(2000): db.execute('INSERT INTO rejection (name, code, reason, at_s) VALUES (?, ?, ?, 0)',"
        " ('x' * 900, 'c', 'r'))\n"
        "os._exit(9)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(project.ledger)], check=False)
    assert done.returncode == 9
    journal = project.ledger.with_name(f"{project.ledger.name}-journal")
    assert journal.stat().st_size > 0
    left = project.ledger.read_bytes(), journal.read_bytes()
    assert broken(project) == set()
    assert (project.ledger.read_bytes(), journal.read_bytes()) == left
