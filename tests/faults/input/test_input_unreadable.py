"""Files that cannot be read at the moment: the daemon warns and waits (fault table, rows 24 and 25)."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
import traceback
import warnings
from pathlib import Path

import numpy as np
import pytest

from daemon.rollouts.inbox import Inbox
from tests.faults.support.disk import open_error, os_error, win_error
from tests.faults.support.inputs import needs_strace, run_inbox
from tests.helpers import FakeClock, open_context, v1_bytes, write_rollout
from tests.platforms import needs_linux

GOOD = v1_bytes(seed=1)


@contextlib.contextmanager
def open_to_all():
    """Yield a folder that every user can access, unlike the folders of pytest."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o777)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def as_nobody(work) -> None:
    """Call `work` in a child process without root's rights; fail if it fails."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # no thread of ours holds a lock now
        child = os.fork()
    if child == 0:
        try:
            if os.geteuid() == 0:
                os.setgroups([])
                os.setgid(65534)
                os.setuid(65534)
            work()
            os._exit(0)
        except BaseException:  # noqa: BLE001  the child must never return into the test
            os.write(2, traceback.format_exc().encode())
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.fault(24)
@needs_linux("os.fork and os.setuid")
def test_an_unreadable_file_is_warned_about_and_counts_once_it_can_be_read():
    def serve(folder: Path) -> None:
        clock = FakeClock()
        context = open_context(folder / "project", clock=clock)
        inbox = Inbox(context)

        def check_until(condition) -> None:
            for _ in range(2000):
                inbox.check()
                if condition():
                    return
                clock.pass_s(0.5)
                time.sleep(0.002)
            raise AssertionError("\n".join(context.log.lines))

        locked = write_rollout(context.paths.exports, 1)
        locked.chmod(0o000)
        write_rollout(context.paths.exports, 2)
        check_until(lambda: clock.now > 1300.0)
        [warning] = context.warnings()
        assert warning.code == "W_UNREADABLE"
        assert f"{locked.name}: reading it is not permitted" in warning.message
        assert "[E_PERMISSION]" in warning.message
        assert len(context.log.lines) == 1
        assert (context.ledger.pending_count(), context.ledger.rejected_count()) == (1, 0)  # the other one
        locked.chmod(0o644)
        check_until(lambda: context.ledger.pending_count() == 2)
        assert context.warnings() == ()

    with open_to_all() as folder:
        as_nobody(lambda: serve(folder))


@pytest.mark.fault(24)
def test_an_unreadable_file_is_read_again_after_growing_delays(make_input_harness, monkeypatch):
    from daemon.rollouts.reading import reader as reader_module

    reads: list[float] = []
    harness = make_input_harness()
    real = reader_module.read_regular

    def refuse(path, *, limit):
        if path.name.startswith("rollout_9"):
            reads.append(harness.clock.now)
            raise os_error(13)(path)
        return real(path, limit=limit)

    monkeypatch.setattr(reader_module, "read_regular", refuse)
    harness.write_rollouts(9)
    for _ in range(1000):
        harness.inbox.check()
        while harness.inbox._reader.is_busy:  # the clock does not move while a file is read
            time.sleep(0.001)
            harness.inbox.check()
        harness.clock.pass_s(0.25)
    gaps = np.diff(reads)
    assert gaps[:8] == pytest.approx([0.5, 1, 2, 4, 8, 16, 32, 60], abs=0.25)
    assert gaps.max() < 61.0


@pytest.mark.fault(24)
@pytest.mark.parametrize("faults", [[win_error(32), win_error(33)], [open_error()] * 2], ids=["winerror", "errno"])
def test_a_file_that_is_open_in_another_program_on_windows_is_not_warned_about_at_first(
    make_input_harness, monkeypatch, faults
):
    refusals = refuse_to_read(monkeypatch, faults)
    harness = make_input_harness()
    harness.write_rollouts(1)
    harness.until(lambda: harness.ledger.pending_count() == 1)
    assert refusals == []
    assert not any("open" in line or "permitted" in line for line in harness.log.lines)


@pytest.mark.fault(24)
def test_a_file_that_windows_never_opens_is_warned_about_as_a_missing_permission(make_input_harness, monkeypatch):
    """Windows reports both alike, so the first reads wait for a program to close the file."""
    refusals = refuse_to_read(monkeypatch, [open_error()] * 1000)
    harness = make_input_harness()
    harness.write_rollouts(1)
    harness.until(lambda: len(refusals) == 998)
    assert harness.log.lines == [] or not any("rollout_1" in line for line in harness.log.lines)
    harness.until(lambda: "W_UNREADABLE" in harness.warnings())
    assert len(refusals) == 997
    [warning] = [warning for warning in harness.context.warnings() if warning.code == "W_UNREADABLE"]
    assert "reading it is not permitted, or another program has it open" in warning.message
    assert "[E_PERMISSION]" in warning.message
    refusals.clear()
    harness.until(lambda: harness.ledger.pending_count() == 1)
    assert "W_UNREADABLE" not in harness.warnings()


@pytest.mark.fault(24)
def test_one_cycle_waits_for_a_file_that_is_open_in_another_program(make_input_harness, monkeypatch):
    """As `hotlap --once` does: it takes the rollouts that are present when the inbox is up to date."""
    refusals = refuse_to_read(monkeypatch, [open_error()] * 2)
    harness = make_input_harness()
    harness.write_rollouts(1)
    harness.until(lambda: harness.inbox.is_up_to_date)
    assert (refusals, harness.ledger.pending_count()) == ([], 1)


def refuse_to_read(monkeypatch, faults):
    """Let reads of rollouts fail with these faults, the last one first; return those that are left."""
    from daemon.rollouts.reading import reader as reader_module

    real, left = reader_module.read_regular, list(faults)

    def read(path, *, limit):
        if left:
            raise left.pop()(path)
        return real(path, limit=limit)

    monkeypatch.setattr(reader_module, "read_regular", read)
    return left


@pytest.mark.fault(25)
@needs_strace
@pytest.mark.parametrize("when", [1, 2])
def test_a_read_error_does_not_reject_the_file(tmp_path, when):
    exports = tmp_path / "Saved" / "Training" / "Exports"
    exports.mkdir(parents=True)
    path = write_rollout(exports, 1, GOOD)
    inject = ["-e", "trace=read,pread64", "-e", f"inject=read,pread64:error=EIO:when={when}"]
    trace = tmp_path / "trace"
    done = run_inbox(tmp_path, 1, 0, before=["strace", "-f", "-qq", "-o", str(trace), "-P", str(path), *inject])
    assert "EIO" in trace.read_text()
    assert (done["pending"], done["rejected"]) == (1, 0)
    assert "[E_UNREADABLE]" in " ".join(done["log"])
    assert path.exists()
