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
from tests.helpers import drop, v1_bytes


@pytest.mark.fault(26)
def test_many_bad_files_do_not_flood_the_log(input_site):
    one = input_site()
    for number in range(200):
        drop(one.layout.exports, number, b'{"experiences": [], "n": %d}' % number)
    one.until(lambda: one.ledger.rejected_count() == 200)
    said = [line for line in one.log.lines if "was rejected" in line]
    assert len(said) == BURST
    one.clock.pass_s(WINDOW_S)
    drop(one.layout.exports, 999, b'{"experiences": []}')
    one.until(lambda: one.ledger.rejected_count() == 201)
    assert "180 others" in [line for line in one.log.lines if "was rejected" in line][-1]
    assert len(reasons(one)) == 201


@pytest.mark.fault(26)
def test_rollouts_that_are_read_together_are_recorded_together_and_in_order(input_site, monkeypatch):
    one = input_site(auto_train_after_n_rollouts=1000)
    batches: list[int] = []
    real = Ledger.accept_all

    def accept_all(ledger, rollouts, **named):
        batches.append(len(rollouts))
        return real(ledger, rollouts, **named)

    monkeypatch.setattr(Ledger, "accept_all", accept_all)
    for number in range(300):
        path = drop(one.layout.exports, number, v1_bytes(seed=number, n=2))
        os.utime(path, (1000 + number, 1000 + number))
    one.until(lambda: one.ledger.pending_count() == 300)
    assert sum(batches) == 300
    assert len(batches) < 150
    names = [row[0] for row in one.ledger._db.execute("SELECT name FROM rollout ORDER BY id")]
    assert names == [f"rollout_{number}_20261121_120000.json" for number in range(300)]


@pytest.mark.fault(26)
def test_a_batch_that_the_ledger_refuses_is_read_again_and_not_lost(input_site, monkeypatch):
    one = input_site(auto_train_after_n_rollouts=1000)
    real, refusals = Ledger.accept_all, [sqlite3.OperationalError("disk I/O error")] * 2

    def accept_all(ledger, rollouts, **named):
        if rollouts and refusals:
            raise refusals.pop()
        return real(ledger, rollouts, **named)

    monkeypatch.setattr(Ledger, "accept_all", accept_all)
    one.drop(1, 2, 3)
    drop(one.layout.exports, 4, b'{"experiences": []}')
    one.until(lambda: one.ledger.pending_count() == 3 and one.ledger.rejected_count() == 1)
    assert len(one.failures) == 2


@pytest.mark.fault(26)
def test_a_huge_folder_is_listed_less_often(input_site, monkeypatch):
    one = input_site()
    scans: list[float] = []

    def slow(folder):
        scans.append(one.clock.now)
        one.clock.pass_s(2.0)
        return scan_folder(folder)

    monkeypatch.setattr(inbox_module, "scan_folder", slow)
    began = one.clock.now
    while one.clock.now < began + 400.0:
        one.inbox.request_scan()
        one.tick()
    assert np.diff(scans).min() >= 10.0  # a scan of 2 s, and four times as long until the next
    assert len(scans) > 20


@pytest.mark.fault(27)
@pytest.mark.parametrize(
    "time_s",
    [[0, 0, 0], [-86_400, 2_000_000_000, 4_000_000_000], [10**10, 2**34 - 1, 1]],
    ids=["all 1970", "before 1970 and in the future", "beyond 64 bits of nanoseconds"],
)
def test_unusual_file_times_do_not_block_a_cycle(input_site, time_s):
    one = input_site(auto_train_after_n_rollouts=3)
    jobs = one.watch_jobs()
    for number, time_of_file in enumerate(time_s):
        path = one.layout.exports / f"rollout_{number}_x.json"
        path.write_bytes(v1_bytes(seed=number))
        os.utime(path, (time_of_file, time_of_file))
    one.until_version(1)
    order = [used.row.sha256 for used in one.ledger.rollouts_of(1)]
    assert [given.sha256 for given in jobs[0].rollouts] == order
    for number in range(3):
        os.utime(one.layout.exports / f"rollout_{number}_x.json", (5, 5))  # another time, but still the same rollouts
    for _ in range(20):
        one.tick()
    assert (one.ledger.pending_count(), one.failures) == (0, [])


@pytest.mark.fault(26)
@pytest.mark.slow
def test_a_real_daemon_counts_each_file_of_a_burst_once(tmp_path):
    """Run `python -m scripts.faults.burst` for the full size of 200,000 and 50,000 files."""
    result = burst.measure(tmp_path, present=1000, files=1500, timeout_s=60.0)
    assert (result.counted, result.twice) == (2500, 0)
    assert result.started_s < 30.0
    assert result.peak_mb < 300.0
    assert result.longest_silence_s < 10.0
