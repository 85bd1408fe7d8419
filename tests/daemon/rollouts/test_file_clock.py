"""A clock that is off is reported once, with its offset; old files that are copied, or found at the start, are not."""

from __future__ import annotations

import os

import pytest

from daemon.rollouts.reports.file_clock import stored_clock_offset_s
from tests.faults.support.harness import InstantHarness

HOUR_S = 3600.0


@pytest.fixture
def harness(tmp_path):
    """Start a daemon that has listed Exports once and will not start a cycle."""
    with InstantHarness(tmp_path, auto_train_after_n_rollouts=1000) as made:
        made.until_version(0)
        yield made


def write(harness: InstantHarness, number: int, *, offset_s: float = 0.0, later_s: float = 30.0) -> None:
    """Let some time pass, then let an engine write a rollout whose time is off, and wait until it is accepted."""
    harness.clock.pass_s(later_s)
    harness.write_rollouts(number)
    [path] = harness.paths.exports.glob(f"rollout_{number}_*")
    written_s = harness.clock.wall + offset_s
    os.utime(path, (written_s, written_s))
    count = harness.ledger.pending_count()
    harness.until(lambda: harness.ledger.pending_count() > count)


def clock_lines(harness: InstantHarness) -> list[str]:
    return [line for line in harness.log.lines if "W_CLOCK" in line]


@pytest.mark.parametrize(
    ("offset_s", "words"),
    [
        (-8 * HOUR_S, "8 h 0 min behind"),
        (2 * HOUR_S + 300, "2 h 5 min ahead of"),
        (-150.0, "150 s behind"),
        (-40 * 24 * HOUR_S, "40 d 0 h behind"),
    ],
)
def test_a_steady_offset_is_reported_once_and_stored(harness, offset_s, words):
    for number in range(1, 7):
        write(harness, number, offset_s=offset_s - (number > 3))  # FAT rounds to two seconds
    [line] = clock_lines(harness)
    assert words in line
    assert "rollout_3_" in line
    assert stored_clock_offset_s(harness.ledger) == pytest.approx(offset_s, abs=3.0)
    assert [warning.code for warning in harness.context.warnings()] == ["W_CLOCK"]


def test_the_report_ends_when_the_clocks_agree_again(harness):
    for number in range(1, 4):
        write(harness, number, offset_s=-HOUR_S)
    for number in range(4, 7):
        assert "W_CLOCK" in harness.warnings()
        write(harness, number)
    assert harness.context.warnings() == ()
    assert stored_clock_offset_s(harness.ledger) == 0.0


def test_a_file_that_is_seen_before_a_tool_sets_its_time_does_not_hide_the_offset(harness):
    for number in range(1, 7):
        write(harness, number, offset_s=0.0 if number in (2, 5) else -HOUR_S)
    assert len(clock_lines(harness)) == 1
    assert harness.warnings() == {"W_CLOCK"}


@pytest.mark.parametrize("offset_s", [0.0, -2.0, 2.0, -50.0])
def test_small_differences_are_not_reported(harness, offset_s):
    for number in range(1, 6):
        write(harness, number, offset_s=offset_s)
    assert clock_lines(harness) == []


def test_old_files_that_a_tool_copies_one_by_one_are_not_a_clock_that_is_off(harness):
    """They were recorded minutes apart and arrive seconds apart."""
    for number in range(1, 8):
        write(harness, number, offset_s=-24 * HOUR_S + 200.0 * number, later_s=2.0)
    assert clock_lines(harness) == []


def test_files_that_were_there_at_the_start_may_have_any_age(tmp_path):
    with InstantHarness(tmp_path, auto_train_after_n_rollouts=1000) as harness:
        harness.write_rollouts(1, 2, 3, 4)
        for path in harness.paths.exports.iterdir():
            os.utime(path, (1e9, 1e9))
        harness.until(lambda: harness.ledger.pending_count() == 4)
        assert clock_lines(harness) == []


def test_a_clock_that_was_set_back_is_reported_once(harness):
    write(harness, 1)
    harness.clock.wall -= HOUR_S
    for number in (2, 3, 4):
        write(harness, number)
    [line] = clock_lines(harness)
    assert "this machine's clock was set back" in line
    assert "59 min behind" in line or "1 h 0 min behind" in line


def test_a_clock_that_was_set_back_while_the_daemon_was_stopped_is_reported(tmp_path):
    with InstantHarness(tmp_path) as harness:
        harness.run_cycle(1)
        earlier = harness.clock
        earlier.wall -= 9 * HOUR_S
    with InstantHarness(tmp_path, clock=earlier) as harness:
        harness.until(lambda: harness.inbox.has_scanned)
        [line] = clock_lines(harness)
        assert "behind an earlier time" in line
