"""Files that are written slowly, replaced, copied or removed while the daemon works (fault table, rows 2 to 8)."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from schemas.rollout.reader import read_rollout
from schemas.storage.files import sha256_of
from tests.helpers import drop, v1_bytes
from trainer.common.prefetch_cache import PrefetchCache
from trainer.rollouts.loading import load_rollouts

GOOD = v1_bytes(seed=1)


class IgnoredNotices:
    """Ignores the trainer's notices."""

    def send(self, code: str, message: str) -> None:
        pass


def trained_on(job) -> list[str]:
    """Return the sum of the rewards of each rollout that the trainer loads for a job."""
    loaded = load_rollouts(job.rollouts, job.contract, IgnoredNotices(), PrefetchCache())
    return [float(each.rollout.rewards.sum()) for each in loaded]


def rewards_of(data: bytes) -> float:
    return float(read_rollout(data).rewards.sum())


@pytest.mark.fault(2)
def test_a_file_written_slowly_in_place_counts_once_and_with_its_last_bytes(input_site):
    one = input_site(incomplete_timeout_s=60.0)
    path = one.layout.exports / "rollout_1_x.json"
    with path.open("wb", buffering=0) as file:
        for start in range(0, len(GOOD), 1000):
            file.write(GOOD[start : start + 1000])
            one.tick()
            assert one.ledger.pending_count() == 0 or start + 1000 >= len(GOOD)
    one.until(lambda: one.ledger.pending_count() == 1)
    assert one.ledger._db.execute("SELECT sha256 FROM rollout").fetchall()[0][0] == sha256_of(GOOD)
    assert (one.ledger.rejected_count(), one.failures) == (0, [])


@pytest.mark.fault(3)
def test_a_writer_that_stalls_is_waited_for(input_site):
    one = input_site(incomplete_timeout_s=60.0)
    path = one.layout.exports / "rollout_1_x.json"
    with path.open("wb", buffering=0) as file:
        file.write(GOOD[:5000])
        one.until(lambda: one.inbox.incomplete)
        stalled = one.clock.now
        while one.clock.now < stalled + 50.0:
            one.tick()
        assert "E_TRUNCATED" in one.inbox.incomplete[path.name]
        assert (one.ledger.pending_count(), one.ledger.rejected_count()) == (0, 0)
        file.write(GOOD[5000:9000])
        stalled = one.clock.now
        while one.clock.now < stalled + 50.0:
            one.tick()
        assert one.ledger.rejected_count() == 0
        file.write(GOOD[9000:])
    one.until(lambda: one.ledger.pending_count() == 1)
    assert one.ledger.rejected_count() == 0


@pytest.mark.fault(4)
def test_a_name_with_new_content_is_a_new_rollout_and_the_old_one_is_kept(input_site):
    one = input_site()
    seen: list[list[float]] = []
    one.watch_jobs(lambda job: seen.append(trained_on(job)))
    first, second = v1_bytes(seed=1), v1_bytes(seed=2)
    drop(one.layout.exports, 1, first)
    one.until(lambda: one.ledger.pending_count() == 1)
    drop(one.layout.exports, 1, second)
    one.until_version(1)
    assert [used.row.sha256 for used in one.ledger.rollouts_of(1)] == [sha256_of(first), sha256_of(second)]
    assert seen[0] == pytest.approx([rewards_of(first), rewards_of(second)])


@pytest.mark.fault(4)
def test_a_replaced_file_of_the_same_size_and_time_is_noticed(input_site):
    one = input_site(auto_train_after_n_rollouts=100)
    first = v1_bytes(seed=1)
    digit = re.search(rb'"reward":-?0\.(\d)', first).start(1)
    second = first[:digit] + (b"1" if first[digit : digit + 1] != b"1" else b"2") + first[digit + 1 :]
    for count, data in enumerate([first, second], 1):
        path = drop(one.layout.exports, 1, data)
        os.utime(path, (1_700_000_000, 1_700_000_000))
        one.until(lambda count=count: one.ledger.pending_count() == count)


@pytest.mark.fault(5)
def test_a_file_overwritten_during_training_changes_nothing_in_it(input_site):
    one = input_site()
    first, second = v1_bytes(seed=1), v1_bytes(seed=2)
    seen: list[list[float]] = []

    def overwrite(job):
        for given in job.rollouts:
            Path(given.source).write_bytes(v1_bytes(seed=77))
        seen.append(trained_on(job))

    one.watch_jobs(overwrite)
    drop(one.layout.exports, 1, first)
    drop(one.layout.exports, 2, second)
    one.until_version(1)
    assert seen[0] == pytest.approx([rewards_of(first), rewards_of(second)])
    one.until(lambda: one.ledger.pending_count() == 1)  # the new content counts once, although two files have it


@pytest.mark.fault(5)
def test_a_file_overwritten_after_its_arrays_were_lost_is_left_out_not_mistaken(input_site):
    one = input_site()
    seen: list[list[float]] = []

    def lose(job):
        Path(job.rollouts[0].cache).unlink()
        Path(job.rollouts[0].source).write_bytes(v1_bytes(seed=77))
        seen.append(trained_on(job))

    one.watch_jobs(lose)
    one.drop(1, 2)
    one.until_version(1)
    assert seen[0] == pytest.approx([rewards_of(v1_bytes(seed=2))])


@pytest.mark.fault(6)
def test_files_deleted_during_training_are_trained_on_all_the_same(input_site):
    one = input_site()
    seen: list[list[float]] = []

    def delete(job):
        for given in job.rollouts:
            Path(given.source).unlink()
        seen.append(trained_on(job))

    one.watch_jobs(delete)
    one.drop(1, 2)
    one.until_version(1)
    assert seen[0] == pytest.approx([rewards_of(v1_bytes(seed=1)), rewards_of(v1_bytes(seed=2))])
    assert {used.row.name for used in one.ledger.rollouts_of(1)} == set(one.ledger.history()[-1].rollouts)


@pytest.mark.fault(7)
def test_the_same_content_under_two_names_counts_once_and_is_logged(input_site):
    one = input_site(auto_train_after_n_rollouts=1)
    jobs = one.watch_jobs()
    for number in (1, 2):
        drop(one.layout.exports, number, GOOD)
    one.until_version(1)
    drop(one.layout.exports, 3, GOOD)
    one.until(lambda: sum("counted once" in line for line in one.log.lines) == 2)
    assert (one.ledger.pending_count(), len(jobs)) == (0, 1)


@pytest.mark.fault(8)
@pytest.mark.parametrize("is_used", [False, True])
def test_a_name_used_again_after_an_engine_restart_counts_again(input_site, is_used):
    one = input_site(auto_train_after_n_rollouts=1 if is_used else 2)
    path = drop(one.layout.exports, 1, v1_bytes(seed=1))
    one.until(lambda: one.version == 1 if is_used else one.ledger.pending_count() == 1)
    path.unlink()
    one.until(lambda: one.inbox.file_count == 0)
    drop(one.layout.exports, 1, v1_bytes(seed=2))
    one.until(lambda: one.ledger.has_trained() and not one.runner.busy and one.ledger.pending_count() == 0)
    one.until_version(2 if is_used else 1)
    rows = one.ledger._db.execute("SELECT name, cycle_id FROM rollout ORDER BY id").fetchall()
    assert [tuple(row) for row in rows] == [(path.name, 1), (path.name, 2 if is_used else 1)]
