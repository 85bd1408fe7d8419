"""A rejected file that becomes complete later is read again; one that does not change stays in Rejected."""

from __future__ import annotations

import os

from tests.faults.support.harness import InstantHarness
from tests.helpers import v1_bytes, write_rollout

GOOD = v1_bytes(seed=1)


def reject_half(harness: InstantHarness, name: str = "rollout_1_x.json"):
    """Write the first half of a rollout, wait until it is rejected, and return its path in Rejected."""
    (harness.paths.exports / name).write_bytes(GOOD[: len(GOOD) // 2])
    path = harness.paths.rejected / name
    harness.until(path.exists)
    return path


def append_rest(path) -> None:
    with path.open("ab") as file:
        file.write(GOOD[len(GOOD) // 2 :])


def test_a_copy_that_went_on_after_a_stall_counts(tmp_path):
    with InstantHarness(tmp_path, incomplete_timeout_s=2.0) as harness:
        path = reject_half(harness)
        append_rest(path)
        harness.until(lambda: harness.ledger.pending_count() == 1)
        assert list(harness.paths.rejected.iterdir()) == []
        assert (harness.paths.exports / path.name).read_bytes() == GOOD
        assert any("in Rejected has changed since it was rejected" in line for line in harness.log.lines)


def test_a_file_that_still_grows_is_left_until_it_stays_the_same(tmp_path):
    with InstantHarness(tmp_path, incomplete_timeout_s=2.0) as harness:
        path = reject_half(harness)
        with path.open("ab", buffering=0) as file:
            for start in range(len(GOOD) // 2, len(GOOD) - 1000, 1000):
                file.write(GOOD[start : start + 1000])
                until = harness.clock.now + 4.0
                while harness.clock.now < until:
                    harness.tick()
                assert path.exists()


def test_after_a_restart_a_file_that_changed_meanwhile_is_read_again(tmp_path):
    with InstantHarness(tmp_path, incomplete_timeout_s=2.0) as harness:
        path = reject_half(harness)
    append_rest(path)
    os.utime(path, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns + 2_000_000_000))
    with InstantHarness(tmp_path, incomplete_timeout_s=2.0) as harness:
        harness.until(lambda: harness.ledger.pending_count() == 1)


def test_a_file_that_does_not_change_stays_rejected_also_after_a_restart(tmp_path):
    for _ in range(2):
        with InstantHarness(tmp_path, incomplete_timeout_s=2.0) as harness:
            path = harness.paths.rejected / "rollout_1_x.json"
            if not path.exists():
                reject_half(harness)
            until = harness.clock.now + 60.0
            while harness.clock.now < until:
                harness.tick()
            assert path.exists()
            assert harness.ledger.rejected_count() == 1


def test_a_new_file_of_the_same_name_is_never_overwritten(tmp_path):
    with InstantHarness(tmp_path, incomplete_timeout_s=2.0) as harness:
        path = reject_half(harness)
        write_rollout(harness.paths.exports, 7).rename(harness.paths.exports / path.name)
        append_rest(path)
        harness.until_version(1)
        names = {file.name for file in harness.paths.exports.iterdir()}
        assert names == {"rollout_1_x.json", "rollout_1_x_2.json"}
