"""Very many files, and files with unusual times (fault table, rows 26 and 27)."""

from __future__ import annotations

import os
import sqlite3

import numpy as np
import pytest

from daemon.ledger.ledger import Ledger
from daemon.rollouts import inbox as inbox_module
from daemon.rollouts.scan import scan_folder
from daemon.runtime.rate_limit import BURST, WINDOW_S
from scripts.faults import burst
from tests.faults.support.inputs import reasons
from tests.helpers import v1_bytes, write_rollout


@pytest.mark.fault(26)
def test_many_bad_files_do_not_flood_the_log(make_input_harness):
    harness = make_input_harness()
    for number in range(200):
        write_rollout(harness.paths.exports, number, b'{"experiences": [], "n": %d}' % number)
    harness.until(lambda: harness.ledger.rejected_count() == 200)
    rejections = [line for line in harness.log.lines if "was rejected" in line]
    assert len(rejections) == BURST
    harness.clock.pass_s(WINDOW_S)
    write_rollout(harness.paths.exports, 999, b'{"experiences": []}')
    harness.until(lambda: harness.ledger.rejected_count() == 201)
    assert "180 others" in [line for line in harness.log.lines if "was rejected" in line][-1]
    assert len(reasons(harness)) == 201


@pytest.mark.fault(26)
def test_rollouts_that_are_read_together_are_recorded_together_and_in_order(make_input_harness, monkeypatch):
    harness = make_input_harness(auto_train_after_n_rollouts=1000)
    batches: list[int] = []
    real = Ledger.accept_all

    def accept_all(ledger, rollouts, **keywords):
        batches.append(len(rollouts))
        return real(ledger, rollouts, **keywords)

    monkeypatch.setattr(Ledger, "accept_all", accept_all)
    for number in range(300):
        path = write_rollout(harness.paths.exports, number, v1_bytes(seed=number, n=2))
        os.utime(path, (1000 + number, 1000 + number))
    harness.until(lambda: harness.ledger.pending_count() == 300)
    assert sum(batches) == 300
    assert len(batches) < 150
    names = [row[0] for row in harness.ledger._db.execute("SELECT name FROM rollout ORDER BY id")]
    assert names == [f"rollout_{number}_20261121_120000.json" for number in range(300)]


@pytest.mark.fault(26)
def test_a_batch_that_the_ledger_refuses_is_read_again_and_not_lost(make_input_harness, monkeypatch):
    harness = make_input_harness(auto_train_after_n_rollouts=1000)
    real, refusals = Ledger.accept_all, [sqlite3.OperationalError("disk I/O error")] * 2

    def accept_all(ledger, rollouts, **keywords):
        if rollouts and refusals:
            raise refusals.pop()
        return real(ledger, rollouts, **keywords)

    monkeypatch.setattr(Ledger, "accept_all", accept_all)
    harness.write_rollouts(1, 2, 3)
    write_rollout(harness.paths.exports, 4, b'{"experiences": []}')
    harness.until(lambda: harness.ledger.pending_count() == 3 and harness.ledger.rejected_count() == 1)
    assert len(harness.failures) == 2


@pytest.mark.fault(26)
def test_a_huge_folder_is_listed_less_often(make_input_harness, monkeypatch):
    harness = make_input_harness()
    scans: list[float] = []

    def slow(folder):
        scans.append(harness.clock.now)
        harness.clock.pass_s(2.0)
        return scan_folder(folder)

    monkeypatch.setattr(inbox_module, "scan_folder", slow)
    began = harness.clock.now
    while harness.clock.now < began + 400.0:
        harness.inbox.request_scan()
        harness.tick()
    assert np.diff(scans).min() >= 10.0  # a scan of 2 s, and four times as long until the next
    assert len(scans) > 20


@pytest.mark.fault(27)
@pytest.mark.parametrize(
    "time_s",
    [[0, 0, 0], [-86_400, 2_000_000_000, 4_000_000_000], [10**10, 2**34 - 1, 1]],
    ids=["all 1970", "before 1970 and in the future", "beyond 64 bits of nanoseconds"],
)
def test_unusual_file_times_do_not_block_a_cycle(make_input_harness, time_s):
    harness = make_input_harness(auto_train_after_n_rollouts=3)
    jobs = harness.watch_jobs()
    for number, time_of_file in enumerate(time_s):
        path = harness.paths.exports / f"rollout_{number}_x.json"
        path.write_bytes(v1_bytes(seed=number))
        os.utime(path, (time_of_file, time_of_file))
    harness.until_version(1)
    order = [used.row.sha256 for used in harness.ledger.rollouts_of(1)]
    assert [rollout.sha256 for rollout in jobs[0].rollouts] == order
    for number in range(3):
        os.utime(
            harness.paths.exports / f"rollout_{number}_x.json", (5, 5)
        )  # another time, but still the same rollouts
    for _ in range(20):
        harness.tick()
    assert (harness.ledger.pending_count(), harness.failures) == (0, [])


@pytest.mark.fault(26)
@pytest.mark.slow
def test_a_real_daemon_counts_each_file_of_a_burst_once(tmp_path):
    """Run `python -m scripts.faults.burst` for the full size of 200,000 and 50,000 files."""
    result = burst.measure(tmp_path, present=1000, files=1500, timeout_s=60.0)
    assert (result.counted, result.twice) == (2500, 0)
    assert result.started_s < 30.0
    assert result.peak_mb < 300.0
    assert result.longest_silence_s < 10.0
