"""What a review found and must not come back: one odd file or one hiccup never stops the service."""

from __future__ import annotations

import os
import sqlite3
import sys
from pathlib import Path

import psutil
import pytest

from daemon.cli import main
from daemon.ledger.cycle import Phase
from daemon.ledger.records import FileSignature
from daemon.rollouts import reader as intake
from daemon.rollouts.scan import Listing, scan_folder
from schemas.storage.layout import ProjectPaths
from tests.helpers import drop, v1_bytes


def test_the_listing_and_the_reader_stamp_a_file_alike(tmp_path):
    path = drop(tmp_path, 1)
    assert scan_folder(tmp_path) == Listing({path.name: FileSignature.of(os.lstat(path))}, {})


def test_rollouts_of_another_shape_that_arrive_while_version_0_is_made_only_cost_a_new_version_0(rig):
    one = rig()
    one.until(lambda: len(one.launcher.started) == 1)
    for i in (1, 2):
        drop(one.layout.exports, i, v1_bytes(seed=i, observation_size=4))
    one.until(lambda: one.ledger.has_trained() and not one.runner.busy)
    assert [cycle.state for cycle in one.ledger.history()] == ["published"] * 3


@pytest.mark.fault(24)
def test_one_unreadable_file_keeps_nobody_waiting(rig, monkeypatch):
    real = intake.read_regular
    refused = {"rollout_9_20261121_120000.json"}

    def read(path, *, limit):
        if path.name in refused:
            raise PermissionError(13, "Permission denied")
        return real(path, limit=limit)

    monkeypatch.setattr(intake, "read_regular", read)
    one = rig()
    for i in (1, 2, 9):
        drop(one.layout.exports, i)
    one.until_published(1)
    assert any(w.code == "W_UNREADABLE" for w in one.project.warnings())
    refused.clear()
    one.until(lambda: one.ledger.pending_count() == 1)
    one.until(lambda: not any(w.code == "W_UNREADABLE" for w in one.project.warnings()))


@pytest.mark.fault(22)
@pytest.mark.parametrize("name", ["rollout_1\u00b22.json", "rollout_[x].json", "rollout_\u202eabc.json"])
def test_an_odd_name_is_no_obstacle(rig, name):
    one = rig()
    (one.layout.exports / name).write_bytes(v1_bytes(seed=1))
    drop(one.layout.exports, 2)
    one.until_published(1)


@pytest.mark.fault(22)
@pytest.mark.skipif(sys.platform != "linux", reason="names of any bytes")
def test_a_name_that_is_no_text_is_rejected(rig):
    one = rig()
    odd = Path(os.fsdecode(os.fsencode(one.layout.exports) + b"/rollout_\xff.json"))
    odd.write_bytes(v1_bytes())
    one.until(lambda: not odd.exists())
    assert one.ledger.rejected_count() == 1


def test_a_ledger_that_refuses_once_costs_one_try_of_the_cycle(rig, monkeypatch):
    one = rig()
    one.until_published(0)
    real, refusals = one.ledger.store_result, [sqlite3.OperationalError("disk full")]

    def store(*arguments, **named):
        if refusals:
            raise refusals.pop()
        return real(*arguments, **named)

    monkeypatch.setattr(type(one.ledger), "store_result", lambda self, *a, **k: store(*a, **k))
    drop(one.layout.exports, 1)
    drop(one.layout.exports, 2)
    with pytest.raises(sqlite3.OperationalError):
        one.until_published(1)
    one.until_published(1)
    assert one.runner.cycle.phase is Phase.PUBLISHED


def test_a_commit_that_is_refused_leaves_no_transaction_open(rig):
    one = rig()
    one.until_published(0)
    one.ledger._db.execute("PRAGMA busy_timeout = 50")
    reader = sqlite3.connect(one.layout.ledger, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM cycle").fetchall()
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        one.ledger.set_meta("x", "1")
    reader.close()
    one.ledger.set_meta("x", "2")
    assert one.ledger.meta("x") == "2"


@pytest.mark.skipif(sys.platform == "win32", reason="needs a job object there")
def test_workers_of_a_training_script_that_failed_do_not_live_on(rig, tmp_path):
    (tmp_path / "bad.py").write_text(
        "import pathlib, subprocess, sys\n"
        "worker = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"pathlib.Path({str(tmp_path)!r}, 'pid').write_text(str(worker.pid))\n"
        "raise SystemExit('no')\n"
    )
    one = rig(training_script="bad.py")
    drop(one.layout.exports, 1)
    drop(one.layout.exports, 2)
    one.until(lambda: one.runner.cycle and one.runner.cycle.kind == "train" and not one.runner.busy)
    pid = int((tmp_path / "pid").read_text())
    one.until(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)


@pytest.mark.parametrize("command", ["history", "doctor"])
@pytest.mark.parametrize("content", [b"", b"garbage" * 1000], ids=["empty", "garbage"])
def test_a_damaged_ledger_is_told_in_a_line(tmp_path, capsys, command, content):
    layout = ProjectPaths(tmp_path)
    layout.make()
    layout.ledger.write_bytes(content)
    assert main([command, "--project", str(tmp_path)]) in {1, 2}
    captured = capsys.readouterr()
    assert "ledger" in captured.out + captured.err
    assert "Traceback" not in captured.err


@pytest.mark.torch
def test_once_ends_if_its_rollouts_are_removed_before_the_cycle_starts(tmp_path, capsys, monkeypatch):
    """It used to start a cycle on nothing."""
    from daemon.service import Service

    layout = ProjectPaths(tmp_path)
    layout.make()
    path = drop(layout.exports, 1)
    assert main(["--once", "--project", str(tmp_path), "--epochs", "1"]) == 0
    monkeypatch.setattr(Service, "has_rollouts", property(lambda self: path.exists()))
    real = Service.trigger

    def remove_then_trigger(self, cause):
        path.unlink()
        real(self, cause)

    monkeypatch.setattr(Service, "trigger", remove_then_trigger)
    capsys.readouterr()
    assert main(["--once", "--project", str(tmp_path)]) == 3
    assert "there is no rollout in" in capsys.readouterr().err
