"""Large rollouts are read by another process, with the same outcome; threads here are not held up."""

from __future__ import annotations

import os
import threading
import time

import psutil
import pytest

from daemon.ledger.records import FileSignature
from daemon.rollouts import reader as intake
from daemon.rollouts.reader import Accepted, Incomplete, Rejected, ingest
from daemon.rollouts.reader_process import ReaderProcess
from schemas.rollout.cache import load_rollout
from schemas.storage.layout import ProjectPaths
from tests.helpers import drop, v1_bytes

NAME = "rollout_1_20261121_120000.json"


@pytest.fixture
def layout(tmp_path):
    layout = ProjectPaths(tmp_path)
    layout.make()
    return layout


def written(layout, data):
    path = layout.exports / NAME
    path.write_bytes(data)
    return FileSignature.of(os.lstat(path))


def readers():
    return [p for p in psutil.Process().children() if "daemon.rollouts.reader_process" in p.cmdline()]


@pytest.mark.parametrize(
    "data", [v1_bytes(seed=1), v1_bytes(seed=1)[:-40], b'{"schema": "other"}'], ids=["whole", "cut", "refused"]
)
def test_the_outcome_is_the_one_of_reading_it_here(layout, data):
    stamp = written(layout, data)
    here = ingest(layout.exports, NAME, stamp, layout)
    assert ReaderProcess(layout).ingest(NAME, stamp) == here
    if isinstance(here, Accepted):
        assert load_rollout(layout.cached_rollout(here.row.sha256)) is not None


def test_a_reader_that_takes_too_long_costs_this_file_only(layout):
    outcome = ReaderProcess(layout, timeout_s=0.0).ingest(NAME, written(layout, v1_bytes(seed=1)))
    assert isinstance(outcome, Rejected)
    assert outcome.code == "E_TOO_BIG"
    assert readers() == []


def test_a_daemon_that_ends_waits_for_no_reader(layout):
    aside, outcomes = ReaderProcess(layout), []
    stamp = written(layout, v1_bytes(seed=1) + b" " * 60_000_000)
    thread = threading.Thread(target=lambda: outcomes.append(aside.ingest(NAME, stamp)))
    thread.start()
    until = time.monotonic() + 20.0
    while not readers():
        assert time.monotonic() < until
        time.sleep(0.005)
    aside.stop()
    thread.join(20.0)
    assert not thread.is_alive()
    assert isinstance(outcomes[0], Incomplete)
    assert readers() == []
    assert isinstance(aside.ingest(NAME, stamp), Incomplete)


def test_the_service_takes_a_large_file_in_through_it(rig, monkeypatch):
    monkeypatch.setattr(intake, "LARGE_BYTES", 1000)
    monkeypatch.setattr(intake, "ingest", None)  # here, not in the other process
    one = rig()
    one.until_published(0)
    drop(one.layout.exports, 1)
    one.until(lambda: one.ledger.pending_count() == 1)
    assert one.inbox.file_count == 1


def test_a_file_of_16_mb_costs_this_process_next_to_nothing(layout):
    stamp = written(layout, v1_bytes(seed=1, n=30_000))
    assert stamp.size > 15_000_000
    before = time.process_time()
    assert isinstance(ReaderProcess(layout).ingest(NAME, stamp), Accepted)
    assert time.process_time() - before < 0.1
