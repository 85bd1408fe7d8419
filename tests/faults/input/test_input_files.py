"""Files that are written slowly, replaced, copied or removed while the daemon works (fault table, rows 2 to 8)."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from schemas.rollout.reader import read_rollout
from schemas.storage.files import sha256_of
from tests.helpers import v1_bytes, write_rollout
from tests.platforms import needs_posix
from trainer.common.prefetch_cache import PrefetchCache
from trainer.rollouts.loading import load_rollouts, rules_of

GOOD = v1_bytes(seed=1)


class IgnoredNotices:
    """Ignores the trainer's notices."""

    def send(self, code: str, message: str) -> None:
        pass


def trained_on(job) -> list[str]:
    """Return the sum of the rewards of each rollout that the trainer loads for a job."""
    loaded = load_rollouts(job.rollouts, rules_of(job), IgnoredNotices(), PrefetchCache())
    return [float(each.rollout.rewards.sum()) for each in loaded]


def rewards_of(data: bytes) -> float:
    return float(read_rollout(data).rewards.sum())


@pytest.mark.fault(2)
def test_a_file_written_slowly_in_place_counts_once_and_with_its_last_bytes(make_input_harness):
    harness = make_input_harness(incomplete_timeout_s=60.0)
    path = harness.paths.exports / "rollout_1_x.json"
    with path.open("wb", buffering=0) as file:
        for start in range(0, len(GOOD), 1000):
            file.write(GOOD[start : start + 1000])
            harness.tick()
            assert harness.ledger.pending_count() == 0 or start + 1000 >= len(GOOD)
    harness.until(lambda: harness.ledger.pending_count() == 1)
    assert harness.ledger._db.execute("SELECT sha256 FROM rollout").fetchall()[0][0] == sha256_of(GOOD)
    assert (harness.ledger.rejected_count(), harness.failures) == (0, [])


@pytest.mark.fault(3)
def test_a_writer_that_stalls_is_waited_for(make_input_harness):
    harness = make_input_harness(incomplete_timeout_s=60.0)
    path = harness.paths.exports / "rollout_1_x.json"
    with path.open("wb", buffering=0) as file:
        file.write(GOOD[:5000])
        harness.until(lambda: harness.inbox.incomplete)
        stalled = harness.clock.now
        while harness.clock.now < stalled + 50.0:
            harness.tick()
        assert "E_TRUNCATED" in harness.inbox.incomplete[path.name]
        assert (harness.ledger.pending_count(), harness.ledger.rejected_count()) == (0, 0)
        file.write(GOOD[5000:9000])
        stalled = harness.clock.now
        while harness.clock.now < stalled + 50.0:
            harness.tick()
        assert harness.ledger.rejected_count() == 0
        file.write(GOOD[9000:])
    harness.until(lambda: harness.ledger.pending_count() == 1)
    assert harness.ledger.rejected_count() == 0


@pytest.mark.fault(4)
def test_a_name_with_new_content_is_a_new_rollout_and_the_old_one_is_kept(make_input_harness):
    harness = make_input_harness()
    trained: list[list[float]] = []
    harness.watch_jobs(lambda job: trained.append(trained_on(job)))
    first, second = v1_bytes(seed=1), v1_bytes(seed=2)
    write_rollout(harness.paths.exports, 1, first)
    harness.until(lambda: harness.ledger.pending_count() == 1)
    write_rollout(harness.paths.exports, 1, second)
    harness.until_version(1)
    assert [used.row.sha256 for used in harness.ledger.rollouts_of(1)] == [sha256_of(first), sha256_of(second)]
    assert trained[0] == pytest.approx([rewards_of(first), rewards_of(second)])


@pytest.mark.fault(4)
@needs_posix("a number for each file that stays the same")
def test_a_replaced_file_of_the_same_size_and_time_is_noticed(make_input_harness):
    harness = make_input_harness(auto_train_after_n_rollouts=100)
    first = v1_bytes(seed=1)
    digit = re.search(rb'"reward":-?0\.(\d)', first).start(1)
    second = first[:digit] + (b"1" if first[digit : digit + 1] != b"1" else b"2") + first[digit + 1 :]
    for count, data in enumerate([first, second], 1):
        path = write_rollout(harness.paths.exports, 1, data)
        os.utime(path, (1_700_000_000, 1_700_000_000))
        harness.until(lambda count=count: harness.ledger.pending_count() == count)


@pytest.mark.fault(5)
def test_a_file_overwritten_during_training_changes_nothing_in_it(make_input_harness):
    harness = make_input_harness()
    first, second = v1_bytes(seed=1), v1_bytes(seed=2)
    trained: list[list[float]] = []

    def overwrite(job):
        for rollout in job.rollouts:
            Path(rollout.source).write_bytes(v1_bytes(seed=77))
        trained.append(trained_on(job))

    harness.watch_jobs(overwrite)
    write_rollout(harness.paths.exports, 1, first)
    write_rollout(harness.paths.exports, 2, second)
    harness.until_version(1)
    assert trained[0] == pytest.approx([rewards_of(first), rewards_of(second)])
    harness.until(
        lambda: harness.ledger.pending_count() == 1
    )  # the new content counts once, although two files have it


@pytest.mark.fault(5)
def test_a_file_overwritten_after_its_arrays_were_lost_is_left_out_not_mistaken(make_input_harness):
    harness = make_input_harness()
    trained: list[list[float]] = []

    def lose(job):
        Path(job.rollouts[0].cache).unlink()
        Path(job.rollouts[0].source).write_bytes(v1_bytes(seed=77))
        trained.append(trained_on(job))

    harness.watch_jobs(lose)
    harness.write_rollouts(1, 2)
    harness.until_version(1)
    assert trained[0] == pytest.approx([rewards_of(v1_bytes(seed=2))])


@pytest.mark.fault(6)
def test_files_deleted_during_training_are_trained_on_all_the_same(make_input_harness):
    harness = make_input_harness()
    trained: list[list[float]] = []

    def delete(job):
        for rollout in job.rollouts:
            Path(rollout.source).unlink()
        trained.append(trained_on(job))

    harness.watch_jobs(delete)
    harness.write_rollouts(1, 2)
    harness.until_version(1)
    assert trained[0] == pytest.approx([rewards_of(v1_bytes(seed=1)), rewards_of(v1_bytes(seed=2))])
    assert {used.row.name for used in harness.ledger.rollouts_of(1)} == set(harness.ledger.history()[-1].rollouts)


@pytest.mark.fault(7)
def test_the_same_content_under_two_names_counts_once_and_is_logged(make_input_harness):
    harness = make_input_harness(auto_train_after_n_rollouts=1)
    jobs = harness.watch_jobs()
    for number in (1, 2):
        write_rollout(harness.paths.exports, number, GOOD)
    harness.until_version(1)
    write_rollout(harness.paths.exports, 3, GOOD)
    harness.until(lambda: sum("counted once" in line for line in harness.log.lines) == 2)
    assert (harness.ledger.pending_count(), len(jobs)) == (0, 1)


@pytest.mark.fault(8)
@pytest.mark.parametrize("is_used", [False, True])
def test_a_name_used_again_after_an_engine_restart_counts_again(make_input_harness, is_used):
    harness = make_input_harness(auto_train_after_n_rollouts=1 if is_used else 2)
    path = write_rollout(harness.paths.exports, 1, v1_bytes(seed=1))
    harness.until(lambda: harness.version == 1 if is_used else harness.ledger.pending_count() == 1)
    path.unlink()
    harness.until(lambda: harness.inbox.file_count == 0)
    write_rollout(harness.paths.exports, 1, v1_bytes(seed=2))
    harness.until(
        lambda: harness.ledger.has_trained() and not harness.runner.busy and harness.ledger.pending_count() == 0
    )
    harness.until_version(2 if is_used else 1)
    rows = harness.ledger._db.execute("SELECT name, cycle_id FROM rollout ORDER BY id").fetchall()
    assert [tuple(row) for row in rows] == [(path.name, 1), (path.name, 2 if is_used else 1)]
