"""What an engine reads at any time: rows 64 to 66 of the fault table."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
from pydantic import ValidationError

from daemon.cli import main
from daemon.diagnostics.invariants import Invariant
from daemon.ledger.cycle import Cycle, Phase
from daemon.publishing.pointer import PublishError
from daemon.publishing.republish import publish_exported_epoch
from daemon.publishing.retention import apply_retention
from daemon.training.progress import CycleProgress
from schemas.status import Status
from schemas.storage.layout import ProjectPaths
from scripts.faults import readers
from tests.faults.support.harness import InstantHarness, violations
from tests.platforms import make_link

ROOT = Path(__file__).parents[3]


@pytest.mark.fault(64)
def test_engines_that_load_models_during_publishes_never_fail(tmp_path):
    tally = readers.run(tmp_path, reads=3000, publishes=20)
    assert tally.failures == []
    assert tally.reads >= 3000
    assert len(tally.versions) > 15


@pytest.mark.fault(64)
def test_a_publish_that_overwrites_files_is_caught(tmp_path, monkeypatch):
    """Check the control: if models are written in place, a reader reads a partial file."""
    real = readers.Publisher.publish

    def careless(publisher: readers.Publisher, version: int) -> None:
        real(publisher, version)
        path = Path(publisher.paths.pointer.read_text(encoding="utf-8"))
        data = path.read_bytes()
        for end in range(0, len(data), 512):
            path.write_bytes(data[:end])
        path.write_bytes(data)

    monkeypatch.setattr(readers.Publisher, "publish", careless)
    assert readers.run(tmp_path, reads=3000, publishes=5).failures


def make_old(paths: ProjectPaths, cycles: range, *, hours: float, now_s: float) -> None:
    for cycle in cycles:
        os.utime(paths.cycle_folder(cycle), (now_s - 3600 * hours,) * 2)


@pytest.mark.fault(65)
def test_retention_keeps_the_newest_cycles_and_all_younger_than_an_hour(fresh_project):
    folder = fresh_project()
    with InstantHarness(folder, keep_cycles=5) as harness:
        for number in range(1, 10):
            harness.run_cycle(10 * number)
            for cycle in range(number + 1):
                os.utime(harness.paths.cycle_folder(cycle), (harness.clock.wall - 60,) * 2)
        present = {path.name for path in harness.paths.models.glob("cycle_*")}
        assert present == {f"cycle_{n:06d}" for n in range(10)}, "all are a minute old"
        held = harness.paths.cycle_folder(3) / "model_epoch_2.json"
        make_old(harness.paths, range(3), hours=2, now_s=harness.clock.wall)
        make_old(harness.paths, range(3, 5), hours=10 / 60, now_s=harness.clock.wall)
        make_old(harness.paths, range(5, 10), hours=5, now_s=harness.clock.wall)
        harness.run_cycle(200)
        assert held.exists(), "an engine took it up ten minutes ago"
        remaining = {int(path.name.removeprefix("cycle_")) for path in harness.paths.models.glob("cycle_*")}
        assert remaining >= set(range(3, 5)) | set(range(6, 11))
        assert remaining < set(range(11))
    assert violations(folder) == ()


@pytest.mark.fault(65)
def test_the_published_model_is_kept_however_old_it_is(fresh_project):
    folder = fresh_project()
    with InstantHarness(folder, keep_cycles=5) as harness:
        for number in range(1, 9):
            harness.run_cycle(10 * number)
        publish_exported_epoch(harness.context, cycle=1, epoch=2)
        publication = harness.ledger.last_publication()
        assert publication.model == "cycle_000001/model_epoch_2.json"
        make_old(harness.paths, range(9), hours=9, now_s=harness.clock.wall)
        apply_retention(harness.context, harness.version, harness.inbox)
        assert (harness.paths.models / publication.model).exists()
        assert len(list(harness.paths.models.glob("cycle_*"))) <= 7, "the newest five, the best, and the published one"
    assert violations(folder) == ()


@pytest.mark.fault(66)
def test_status_json_is_valid_at_every_read(fresh_project):
    with InstantHarness(fresh_project()) as harness:
        failures, reads = [], 0
        done = threading.Event()

        def read() -> None:
            nonlocal reads
            while not done.is_set():
                try:
                    Status.from_bytes(harness.paths.status.read_bytes())
                except Exception as error:  # noqa: BLE001
                    if sys.platform != "win32" or not isinstance(error, PermissionError):
                        failures.append(error)  # Windows: a reader tries again while the file is replaced
                reads += 1
                done.wait(0.02 if sys.platform == "win32" else 0.0)  # an open file cannot be replaced there

        threads = [threading.Thread(target=read) for _ in range(3)]
        for thread in threads:
            thread.start()
        reporter = harness.service._reporter
        for pending in range(100):
            cycle = Cycle(1, "train", Phase.TRAINING)
            harness.clock.pass_s(10)
            status = reporter.status(cycle, CycleProgress(), is_paused=False, pending=pending, elapsed_s=1.0)
            reporter.write(status)
        done.set()
        for thread in threads:
            thread.join()
        assert failures == []
        assert reads > 100
        assert Status.from_bytes(harness.paths.status.read_bytes()).rollouts_pending == 99


@pytest.mark.fault(66)
@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999"])
def test_status_json_contains_only_valid_json_numbers(fresh_project, number):
    text = ProjectPaths(fresh_project()).status.read_text(encoding="utf-8")
    assert '"training_seconds":0.0' in text
    with pytest.raises(ValidationError):
        Status.from_bytes(text.replace('"training_seconds":0.0', f'"training_seconds":{number}').encode())
    whole = Status.from_bytes(text.encode())
    with pytest.raises(ValidationError):
        Status(**{**whole.model_dump(), "training_seconds": float(number)})


def looks_dead(status: Status) -> bool:
    """Return what an engine, on this machine or on another, can conclude from status.json alone."""
    try:
        is_same = abs(psutil.Process(status.pid).create_time() - status.create_time) < 2.0
    except psutil.NoSuchProcess:
        is_same = False
    return not is_same or time.time() - status.heartbeat > 3 * status.heartbeat_interval_s


@pytest.mark.fault(66)
def test_a_killed_daemon_is_recognised_as_dead(tmp_path, capsys):
    paths = ProjectPaths(tmp_path)
    process = subprocess.Popen(
        [sys.executable, "-m", "daemon", "--no-dashboard", "--project", str(tmp_path)],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        end = time.monotonic() + 30
        while not paths.status.exists():
            assert time.monotonic() < end
            time.sleep(0.02)
        alive = Status.from_bytes(paths.status.read_bytes())
        assert alive.pid == process.pid
        assert not looks_dead(alive)
    finally:
        process.send_signal(getattr(signal, "SIGKILL", signal.SIGTERM))
        process.wait()
    dead = Status.from_bytes(paths.status.read_bytes())
    assert looks_dead(dead)
    other_process = dead.model_copy(update={"pid": os.getpid()})
    assert looks_dead(other_process), "another process has its pid now"
    hung = other_process.model_copy(update={"create_time": psutil.Process().create_time()})
    assert not looks_dead(hung)
    assert looks_dead(hung.model_copy(update={"heartbeat": time.time() - 3 * hung.heartbeat_interval_s - 1}))
    end = time.monotonic() + 10
    while "no daemon runs now" not in capsys.readouterr().out:  # a child holds our lock between fork and exec
        assert time.monotonic() < end
        assert main(["status", "--project", str(tmp_path)]) == 0


ELSEWHERE = {
    "absolute": "{outside}/cycle_000001/model_epoch_2.json",
    "up and out": "{models}/../../../../outside/cycle_000001/model_epoch_2.json",
    "another drive": "C:cycle_000001/model_epoch_2.json",
    "another machine": "//host/share/cycle_000001/model_epoch_2.json",
    "a stream": "{models}/cycle_000001/model_epoch_2.json:hidden",
    "relative": "cycle_000001/model_epoch_2.json",
    "with a newline": "{models}/cycle_000001/model_epoch_2.json\n",
}


@pytest.mark.fault(64)
@pytest.mark.parametrize("text", ELSEWHERE.values(), ids=ELSEWHERE)
def test_a_pointer_to_another_file_is_repaired_at_the_next_start(fresh_project, tmp_path, text):
    folder = fresh_project()
    paths = ProjectPaths(folder)
    with InstantHarness(folder) as harness:
        harness.run_cycle(1)
        right = paths.pointer.read_text(encoding="utf-8")
    outside = tmp_path / "outside"
    shutil.copytree(paths.models / "cycle_000001", outside / "cycle_000001")
    paths.pointer.write_text(text.format(outside=outside, models=paths.models), encoding="utf-8")
    assert [violation.invariant for violation in violations(folder)] == [Invariant.ENGINE_VIEW]
    with InstantHarness(folder):
        assert paths.pointer.read_text(encoding="utf-8") == right
    assert violations(folder) == ()


@pytest.mark.fault(64)
def test_a_symbolic_link_in_models_is_not_published(fresh_project, tmp_path):
    with InstantHarness(fresh_project()) as harness:
        harness.run_cycle(1)
        harness.run_cycle(3)
        folder = harness.paths.cycle_folder(1)
        folder.rename(tmp_path / "elsewhere")
        make_link(folder, tmp_path / "elsewhere")
        with pytest.raises(PublishError, match="is a symbolic link"):
            publish_exported_epoch(harness.context, cycle=1, epoch=2)
    assert violations(harness.paths.project) == ()
