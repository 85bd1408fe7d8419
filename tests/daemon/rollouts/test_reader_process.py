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
from daemon.rollouts.reading.reader_process import MAX_KEPT_BYTES, ReaderProcess
from schemas.rollout.cache import load_rollout
from schemas.storage.layout import ProjectPaths
from tests.helpers import v1_bytes, write_rollout
from tests.platforms import needs_posix

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


@pytest.fixture
def make_reader(paths):
    """Return a function that makes reader processes. All of them are stopped at the end."""
    made = []

    def make(**options):
        made.append(ReaderProcess(paths, **options))
        return made[-1]

    yield make
    for reader_process in made:
        reader_process.stop()
    assert readers() == []


@pytest.mark.parametrize(
    "data", [v1_bytes(seed=1), v1_bytes(seed=1)[:-40], b'{"schema": "other"}'], ids=["complete", "cut", "rejected"]
)
def test_the_outcome_is_the_same_as_without_a_child_process(paths, make_reader, data):
    signature = write(paths, data)
    here = ingest(paths.exports, NAME, signature, paths)
    assert make_reader().ingest(NAME, signature) == here
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
    """Its child is not kept, because it would keep much memory."""
    signature = write(paths, v1_bytes(seed=1, n=35_000))
    assert signature.size > MAX_KEPT_BYTES
    before = time.process_time()
    assert isinstance(ReaderProcess(paths).ingest(NAME, signature), Accepted)
    assert time.process_time() - before < 0.1
    assert readers() == []


def test_one_child_reads_the_files_that_follow_each_other(paths, make_reader):
    reader_process, pids = make_reader(), set()
    for seed in (1, 2, 3):
        outcome = reader_process.ingest(NAME, write(paths, v1_bytes(seed=seed)))
        assert isinstance(outcome, Accepted)
        pids |= {reader.pid for reader in readers()}
    assert len(pids) == 1


def test_a_child_that_has_nothing_to_read_is_ended(paths, make_reader):
    reader_process = make_reader(idle_s=0.1)
    for seed in (1, 2):
        assert isinstance(reader_process.ingest(NAME, write(paths, v1_bytes(seed=seed))), Accepted)
        until = time.monotonic() + 20.0
        while readers():
            assert time.monotonic() < until
            time.sleep(0.01)


def test_a_child_that_died_after_an_earlier_file_rejects_none(paths, make_reader):
    reader_process = make_reader()
    assert isinstance(reader_process.ingest(NAME, write(paths, v1_bytes(seed=1))), Accepted)
    [reader] = readers()
    reader.kill()
    assert isinstance(reader_process.ingest(NAME, write(paths, v1_bytes(seed=2))), Accepted)


def test_a_file_that_ends_its_child_is_read_once_more_by_a_new_one_and_then_rejected(paths, make_reader, monkeypatch):
    reader_process = make_reader()
    signature = write(paths, v1_bytes(seed=1))
    assert isinstance(reader_process.ingest(NAME, signature), Accepted)
    started, start = [], reader_process._start

    def start_and_kill():
        tree = start()
        tree.process.kill()
        started.append(tree)
        return tree

    monkeypatch.setattr(reader_process, "_start", start_and_kill)
    readers()[0].kill()
    outcome = reader_process.ingest(NAME, signature)
    assert (outcome.code, len(started)) == ("E_TOO_BIG", 1)


@needs_posix("a name that is not valid UTF-8")
def test_a_name_that_is_not_valid_is_rejected_without_a_child(paths):
    name = os.fsdecode(b"rollout_\xff.json")
    (paths.exports / name).write_bytes(v1_bytes(seed=1))
    signature = FileSignature.of(os.lstat(paths.exports / name))
    assert ReaderProcess(paths).ingest(name, signature).code == "E_NAME"
    assert readers() == []
