"""Failures of single files, of the ledger and of training scripts never stop the service."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import psutil
import pytest

from daemon.cli import main
from daemon.ledger.cycle import Phase
from daemon.ledger.ledger import Ledger
from daemon.ledger.records import FileSignature
from daemon.rollouts.reading import reader as reader_module
from daemon.rollouts.scan import Listing, scan_folder
from schemas.storage.layout import ProjectPaths
from tests.helpers import v1_bytes, write_rollout
from tests.platforms import needs_linux


def test_the_scan_and_the_reader_use_the_same_signature(tmp_path):
    path = write_rollout(tmp_path, 1)
    assert scan_folder(tmp_path) == Listing({path.name: FileSignature.of(os.lstat(path))}, {})


def test_version_0_is_made_again_if_rollouts_of_another_shape_arrive_meanwhile(make_harness):
    harness = make_harness()
    harness.until(lambda: len(harness.launcher.started) == 1)
    for i in (1, 2):
        write_rollout(harness.paths.exports, i, v1_bytes(seed=i, observation_size=4))
    harness.until(lambda: harness.ledger.has_trained() and not harness.runner.busy)
    assert [cycle.state for cycle in harness.ledger.history()] == ["published"] * 3


@pytest.mark.fault(24)
def test_an_unreadable_file_does_not_delay_the_others(make_harness, monkeypatch):
    real = reader_module.read_regular
    refused = {"rollout_9_20261121_120000.json"}

    def read(path, *, limit):
        if path.name in refused:
            raise PermissionError(13, "Permission denied")
        return real(path, limit=limit)

    monkeypatch.setattr(reader_module, "read_regular", read)
    harness = make_harness()
    for i in (1, 2, 9):
        write_rollout(harness.paths.exports, i)
    harness.until_published(1)
    assert any(w.code == "W_UNREADABLE" for w in harness.context.warnings())
    refused.clear()
    harness.until(lambda: harness.ledger.pending_count() == 1)
    harness.until(lambda: not any(w.code == "W_UNREADABLE" for w in harness.context.warnings()))


@pytest.mark.fault(22)
@pytest.mark.parametrize("name", ["rollout_1\u00b22.json", "rollout_[x].json", "rollout_\u202eabc.json"])
def test_a_rollout_with_an_unusual_name_counts(make_harness, name):
    harness = make_harness()
    (harness.paths.exports / name).write_bytes(v1_bytes(seed=1))
    write_rollout(harness.paths.exports, 2)
    harness.until_published(1)


@pytest.mark.fault(22)
@needs_linux("names of any bytes")
def test_a_name_that_is_not_valid_utf_8_is_rejected(make_harness):
    harness = make_harness()
    path = Path(os.fsdecode(os.fsencode(harness.paths.exports) + b"/rollout_\xff.json"))
    path.write_bytes(v1_bytes())
    harness.until(lambda: not path.exists())
    assert harness.ledger.rejected_count() == 1


def test_a_result_is_stored_at_the_next_pass_if_the_ledger_fails_once(make_harness, monkeypatch):
    harness = make_harness()
    harness.until_published(0)
    real, refusals = harness.ledger.store_result, [sqlite3.OperationalError("disk full")]

    def store(*arguments, **keywords):
        if refusals:
            raise refusals.pop()
        return real(*arguments, **keywords)

    monkeypatch.setattr(type(harness.ledger), "store_result", lambda self, *a, **k: store(*a, **k))
    write_rollout(harness.paths.exports, 1)
    write_rollout(harness.paths.exports, 2)
    with pytest.raises(sqlite3.OperationalError):
        harness.until_published(1)
    harness.until_published(1)
    assert harness.runner.cycle.phase is Phase.PUBLISHED


def test_no_transaction_stays_open_after_a_failed_commit(make_harness):
    harness = make_harness()
    harness.until_published(0)
    harness.ledger._db.execute("PRAGMA busy_timeout = 50")
    reader = sqlite3.connect(harness.paths.ledger, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM cycle").fetchall()
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        harness.ledger.set_meta("x", "1")
    reader.close()
    harness.ledger.set_meta("x", "2")
    assert harness.ledger.meta("x") == "2"


def test_workers_of_a_failed_training_script_are_ended(make_harness, tmp_path):
    (tmp_path / "bad.py").write_text(
        "import pathlib, subprocess, sys\n"
        "worker = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"pathlib.Path({str(tmp_path)!r}, 'pid').write_text(str(worker.pid))\n"
        "raise SystemExit('no')\n"
    )
    harness = make_harness(training_script="bad.py")
    write_rollout(harness.paths.exports, 1)
    write_rollout(harness.paths.exports, 2)
    harness.until(lambda: harness.runner.cycle and harness.runner.cycle.kind == "train" and not harness.runner.busy)
    pid = int((tmp_path / "pid").read_text())
    harness.until(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)


@pytest.mark.parametrize("command", ["history", "doctor"])
@pytest.mark.parametrize("content", [b"", b"garbage" * 1000], ids=["empty", "garbage"])
def test_a_damaged_ledger_is_reported_without_a_traceback(tmp_path, capsys, command, content):
    paths = ProjectPaths(tmp_path)
    paths.make()
    paths.ledger.write_bytes(content)
    assert main([command, "--project", str(tmp_path)]) in {1, 2}
    captured = capsys.readouterr()
    assert "ledger" in captured.out + captured.err
    assert "Traceback" not in captured.err


@pytest.mark.torch
def test_once_ends_if_its_rollouts_are_removed_before_the_cycle_starts(tmp_path, capsys, monkeypatch):
    """Check that no cycle starts without rollouts."""
    from daemon.service import Service

    paths = ProjectPaths(tmp_path)
    paths.make()
    path = write_rollout(paths.exports, 1)
    assert main(["--once", "--project", str(tmp_path), "--epochs", "1"]) == 0
    capsys.readouterr()
    assert main(["--once", "--project", str(tmp_path)]) == 3
    error = capsys.readouterr().err
    assert f"{paths.exports.as_posix()} contains nothing new: its rollout was used by earlier cycles -> " in error
    assert error.count("--once --again") == 1
    real, real_trigger = Service.nothing_to_train_on, Service.trigger
    monkeypatch.setattr(
        Service, "nothing_to_train_on", lambda self, **kwargs: None if path.exists() else real(self, **kwargs)
    )

    def remove_then_trigger(self, cause, *, again):
        path.unlink()
        real_trigger(self, cause, again=again)

    monkeypatch.setattr(Service, "trigger", remove_then_trigger)
    capsys.readouterr()
    assert main(["--once", "--project", str(tmp_path)]) == 3
    assert f"{paths.exports.as_posix()} contains no rollouts" in capsys.readouterr().err


@pytest.mark.torch
def test_once_after_an_interrupted_once_trains_that_cycle_and_no_other(tmp_path, monkeypatch):
    paths = ProjectPaths(tmp_path)
    paths.make()
    write_rollout(paths.exports, 1)

    def interrupt_the_training(service):
        cycle = service.runner.cycle
        if cycle is not None and cycle.kind == "train" and cycle.phase is Phase.TRAINING:
            raise KeyboardInterrupt
        return False

    arguments = ["--once", "--project", str(tmp_path), "--epochs", "1"]
    with monkeypatch.context() as patch:
        patch.setattr("daemon.app._cycle_is_over", interrupt_the_training)
        assert main(arguments) == 130
    assert main(arguments) == 0
    ledger = Ledger.open(paths.ledger, read_only=True)
    try:
        assert [record.cycle for record in ledger.history(10)] == [0, 1]
    finally:
        ledger.close()
