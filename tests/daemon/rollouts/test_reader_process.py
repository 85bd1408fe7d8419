"""Large rollouts are read by a child process, with the same outcome; the threads of the daemon do not wait."""

from __future__ import annotations

import contextlib
import os
import threading
import time

import psutil
import pytest

from daemon.ledger.records import FileSignature
from daemon.rollouts.reading import reader as reader_module
from daemon.rollouts.reading.reader import Accepted, Incomplete, Rejected, ingest
from daemon.rollouts.reading.reader_process import ReaderProcess
from schemas.rollout.cache import load_rollout
from schemas.storage.layout import ProjectPaths
from tests.helpers import v1_bytes, write_rollout

NAME = "rollout_1_20261121_120000.json"


@pytest.fixture
def paths(tmp_path):
    paths = ProjectPaths(tmp_path)
    paths.make()
    return paths


def write(paths, data):
    path = paths.exports / NAME
    path.write_bytes(data)
    return FileSignature.of(os.lstat(path))


def readers():
    found = []
    for process in psutil.Process().children():
        with contextlib.suppress(psutil.Error, OSError):  # it ended just now, or has not started yet
            if "daemon.rollouts.reading.reader_process" in process.cmdline():
                found.append(process)
    return found


@pytest.mark.parametrize(
    "data", [v1_bytes(seed=1), v1_bytes(seed=1)[:-40], b'{"schema": "other"}'], ids=["complete", "cut", "rejected"]
)
def test_the_outcome_is_the_same_as_without_a_child_process(paths, data):
    signature = write(paths, data)
    here = ingest(paths.exports, NAME, signature, paths)
    assert ReaderProcess(paths).ingest(NAME, signature) == here
    if isinstance(here, Accepted):
        assert load_rollout(paths.cached_rollout(here.row.sha256)) is not None


def test_a_read_that_takes_too_long_rejects_only_this_file(paths):
    outcome = ReaderProcess(paths, timeout_s=0.0).ingest(NAME, write(paths, v1_bytes(seed=1)))
    assert isinstance(outcome, Rejected)
    assert outcome.code == "E_TOO_BIG"
    assert readers() == []


def test_a_daemon_that_stops_does_not_wait_for_the_reader(paths):
    reader_process, outcomes = ReaderProcess(paths), []
    signature = write(paths, v1_bytes(seed=1) + b" " * 60_000_000)
    thread = threading.Thread(target=lambda: outcomes.append(reader_process.ingest(NAME, signature)))
    thread.start()
    until = time.monotonic() + 20.0
    while not readers():
        assert time.monotonic() < until
        time.sleep(0.005)
    reader_process.stop()
    thread.join(20.0)
    assert not thread.is_alive()
    assert isinstance(outcomes[0], Incomplete)
    assert readers() == []
    assert isinstance(reader_process.ingest(NAME, signature), Incomplete)


def test_the_service_reads_a_large_file_in_the_child_process(make_harness, monkeypatch):
    monkeypatch.setattr(reader_module, "LARGE_BYTES", 1000)
    monkeypatch.setattr(reader_module, "ingest", None)  # in this process, not in the child
    harness = make_harness()
    harness.until_published(0)
    write_rollout(harness.paths.exports, 1)
    harness.until(lambda: harness.ledger.pending_count() == 1)
    assert harness.inbox.file_count == 1


def test_a_file_of_16_mb_takes_almost_no_time_of_this_process(paths):
    signature = write(paths, v1_bytes(seed=1, n=30_000))
    assert signature.size > 15_000_000
    before = time.process_time()
    assert isinstance(ReaderProcess(paths).ingest(NAME, signature), Accepted)
    assert time.process_time() - before < 0.1
