"""Lost, refused and false events, and a folder that disappears and returns: rows 28 to 35 of the fault table."""

from __future__ import annotations

import errno
import itertools
import os
import queue
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from watchdog.observers.api import BaseObserver, EventEmitter

from daemon.rollouts import inbox
from daemon.rollouts import watcher as watch
from daemon.rollouts.watcher import LONGEST_DELAY_S, Watcher
from daemon.runtime import loop
from scripts.faults import overflow
from tests.faults.support.children import begin_cycle, opened, until
from tests.faults.support.harness import InstantHarness
from tests.helpers import FakeClock, write_rollout
from tests.platforms import is_wine, needs_linux, needs_real_windows

ROOT = Path(__file__).parents[3]
linux = needs_linux("inotify, user namespaces and signals")
#: one cycle of a project that has version 0, in another process: FOLDER
CYCLE = """
import sys
from pathlib import Path
from tests.daemon.conftest import ProcessHarness
from tests.faults.support.children import HIDDEN_SIZES, begin_cycle
harness = ProcessHarness(Path(sys.argv[1]), hidden_sizes=HIDDEN_SIZES)
try:
    harness.until(lambda: harness.inbox.has_scanned)
    begin_cycle(harness, "")
    harness.until_published(1)
    print(*(f"{w.code}: {w.message}" for w in harness.context.warnings()), sep="\\n")
finally:
    harness.close()
"""
#: the same with Exports as another file system, which is unmounted and mounted again
UNMOUNTED = """
import subprocess, sys
from pathlib import Path
from tests.daemon.conftest import ProcessHarness
from tests.faults.support.children import HIDDEN_SIZES
from tests.helpers import write_rollout
folder = Path(sys.argv[1])
exports = folder / "Saved" / "Training" / "Exports"
store = folder / "store"
store.mkdir()
subprocess.run(["mount", "--bind", store, exports], check=True)
harness = ProcessHarness(folder, hidden_sizes=HIDDEN_SIZES, auto_train_after_n_rollouts=3)
try:
    write_rollout(exports, 1)
    write_rollout(exports, 2)
    harness.until(lambda: harness.ledger.pending_count() == 2)
    subprocess.run(["umount", "-l", exports], check=True)
    for _ in range(20):
        harness.service.tick()
        harness.mailbox.wait(0.05)
    assert len(harness.ledger.files()) == 2, "an empty folder is no proof"
    subprocess.run(["mount", "--bind", store, exports], check=True)
    write_rollout(exports, 3)
    harness.until_published(1)
    print(*(len(cycle.rollouts) for cycle in harness.ledger.history()))
finally:
    harness.close()
    subprocess.run(["umount", "-l", exports], check=True)
"""


def in_namespace(flags: str, script: str, program: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a program as root of a user namespace after a shell script; skip the test without user namespaces."""
    if shutil.which("unshare") is None or subprocess.run(["unshare", flags, "true"], check=False).returncode:
        pytest.skip("no user namespaces here")
    return subprocess.run(
        ["unshare", flags, "sh", "-c", f'{script}exec "$@"', "sh", sys.executable, "-c", program, str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


class NullEmitter(EventEmitter):
    """An observer without events."""

    def queue_events(self, timeout: float) -> None:
        self.stopped_event.wait(timeout)


def null_observer() -> BaseObserver:
    return BaseObserver(NullEmitter)


def codes(harness) -> set[str]:
    return {warning.code for warning in harness.context.warnings()}


# Lost events


@linux
@pytest.mark.slow
@pytest.mark.fault(28)
def test_all_files_behind_an_overflown_queue_are_found_and_counted_once(fresh_project):
    """Check 2,000 files; `python -m scripts.faults.overflow` writes 20,000."""
    found = overflow.run(fresh_project(), 2000, timeout_s=60.0, settings={"HOTLAP_AGENT__HIDDEN_SIZES": "[8, 8]"})
    assert (found.files, found.found, found.rejected) == (2000, 2000, 0)
    assert found.seconds < 60.0


@linux
@pytest.mark.fault(28)
def test_an_overflown_queue_causes_a_scan_and_no_console_output(tmp_path, capfd):
    nudges: list[float] = []
    watcher = Watcher(tmp_path, lambda: nudges.append(time.monotonic()))
    assert watcher.check() is None
    watch.logging.getLogger("watchdog.observers.inotify_c").warning("Inotify queue overflowed")
    watcher.stop()
    assert len(nudges) == 1
    assert capfd.readouterr().err == ""


def outcome(harness) -> list[tuple[str, tuple[str, ...]]]:
    begin_cycle(harness, "")
    harness.until_published(1)
    write_rollout(harness.paths.exports, 3, b"{}")
    harness.until(lambda: harness.ledger.rejected_count() == 1)
    return [(cycle.state, cycle.rollouts) for cycle in harness.ledger.history()]


@pytest.mark.fault(29)
def test_without_any_event_the_result_is_the_same(fresh_project, monkeypatch):
    with opened(fresh_project()) as harness:
        expected = outcome(harness)
    monkeypatch.setattr(watch, "Observer", null_observer)
    with opened(fresh_project()) as harness:
        assert outcome(harness) == expected
        assert harness.inbox._watcher._observer is not None


@linux
@pytest.mark.fault(30)
@pytest.mark.parametrize(
    ("limit", "sysctl"),
    [
        ("max_inotify_instances", "fs.inotify.max_user_instances"),
        ("max_inotify_watches", "fs.inotify.max_user_watches"),
    ],
)
def test_without_inotify_the_folder_is_listed_and_the_sysctl_is_named(fresh_project, limit, sysctl):
    script = f"echo 0 > /proc/sys/user/{limit} || exit 77; "
    done = in_namespace("-Ur", script, CYCLE, fresh_project())
    if done.returncode == 77:
        pytest.skip(f"{limit} cannot be set here")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "W_WATCHER: file events do not arrive; Exports is listed every few seconds instead" in done.stdout
    assert sysctl in done.stdout


@linux
@pytest.mark.fault(30)
def test_a_refused_watch_is_retried_with_growing_delay_and_leaves_nothing_open(tmp_path, monkeypatch):
    class Refused(watch.Observer):
        tries = 0

        def schedule(self, *arguments: object, **keywords: object) -> None:
            Refused.tries += 1
            raise OSError(errno.ENOSPC, "inotify watch limit reached")

    clock = FakeClock()
    watcher = Watcher(tmp_path, lambda: None, clock=clock)
    real = watch.Observer
    monkeypatch.setattr(watch, "Observer", Refused)
    assert "raise the sysctl fs.inotify.max_user_watches" in watcher.check()
    descriptors, threads = len(list(Path("/proc/self/fd").iterdir())), threading.active_count()
    for _ in range(3600):
        clock.pass_s(1.0)
        assert watcher.check() is not None
    assert Refused.tries <= 8 + 3600 / LONGEST_DELAY_S
    assert (len(list(Path("/proc/self/fd").iterdir())), threading.active_count()) == (descriptors, threads)
    monkeypatch.setattr(watch, "Observer", real)
    clock.pass_s(LONGEST_DELAY_S)
    assert watcher.check() is None
    watcher.stop()


# The folder


def delete(exports: Path) -> None:
    shutil.rmtree(exports)


def rename_away(exports: Path) -> None:
    exports.rename(exports.with_name("Elsewhere"))


def replace_by_a_file(exports: Path) -> None:
    shutil.rmtree(exports)
    exports.write_text("not a folder")


@pytest.mark.fault(31)
@pytest.mark.parametrize("vanish", [delete, rename_away, replace_by_a_file])
@pytest.mark.parametrize("when", ["before the start", "while it runs"])
def test_the_daemon_waits_for_a_missing_folder(fresh_project, vanish, when):
    if is_wine() and when == "while it runs" and vanish is not rename_away:
        pytest.skip("Wine: a watched folder that is removed stays until the watch ends")
    with opened(fresh_project(), auto_train_after_n_rollouts=3) as harness:
        exports = harness.paths.exports
        if when == "while it runs":
            write_rollout(exports, 1)
            write_rollout(exports, 2)
            harness.until(lambda: harness.ledger.pending_count() == 2)
        vanish(exports)
        harness.until(lambda: "W_EXPORTS" in codes(harness))
        [message] = [warning.message for warning in harness.context.warnings() if warning.code == "W_EXPORTS"]
        assert message.startswith("waiting for the folder Exports: ")
        assert len(harness.ledger.files()) == (2 if when == "while it runs" else 0)
        exports.unlink() if exports.is_file() else None
        exports.mkdir()
        for number in (1, 2, 3):
            write_rollout(exports, number)
        harness.until_published(1)
        assert [len(cycle.rollouts) for cycle in harness.ledger.history()] == [0, 3]
        harness.until(lambda: codes(harness).isdisjoint({"W_EXPORTS", "W_WATCHER"}))
        info = exports.stat()
        assert harness.inbox._watcher._identity == (info.st_dev, info.st_ino)


@pytest.mark.fault(31)
def test_the_watch_follows_the_name_and_not_the_old_folder(tmp_path):
    folder, nudges = tmp_path / "Exports", []
    folder.mkdir()
    watcher = Watcher(folder, lambda: nudges.append(1))
    assert watcher.check() is None
    folder.rename(tmp_path / "old")
    folder.mkdir()
    assert watcher.check() is None
    nudges.clear()
    write_rollout(tmp_path / "old", 1)
    time.sleep(0.2)
    assert nudges == []
    write_rollout(folder, 1)
    until(lambda: bool(nudges))
    watcher.stop()


@needs_real_windows("a watched folder that is removed stays until the watch ends")
@pytest.mark.fault(31)
def test_an_empty_listing_does_not_count_as_deleted_files(fresh_project, monkeypatch):
    reads: list[str] = []
    with InstantHarness(fresh_project(), auto_train_after_n_rollouts=3) as harness:
        harness.write_rollouts(1, 2)
        harness.until(lambda: harness.ledger.pending_count() == 2)
        exports = harness.paths.exports
        exports.rename(exports.with_name("away"))
        exports.mkdir()
        for _ in range(50):
            harness.tick()
        assert len(harness.ledger.files()) == 2
        assert harness.inbox.file_count == 0
        exports.rmdir()
        exports.with_name("away").rename(exports)
        real = harness.inbox._reader.request
        monkeypatch.setattr(
            harness.inbox._reader, "request", lambda name, *more: (reads.append(name), real(name, *more))[1]
        )
        harness.write_rollouts(3)
        harness.until_version(1)
        assert reads == ["rollout_3_20261121_120000.json"]
        (exports / "rollout_1_20261121_120000.json").unlink()
        harness.until(lambda: len(harness.ledger.files()) == 2)


@linux
@pytest.mark.fault(31)
def test_nothing_is_lost_when_the_folder_is_unmounted_and_mounted_again(fresh_project):
    done = in_namespace("-Urm", "", UNMOUNTED, fresh_project())
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.split() == ["0", "3"]


# Threads that end


@pytest.mark.fault(32)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize(
    "ending",
    ["emitter", pytest.param("reader", marks=linux)],
)
def test_an_emitter_that_dies_is_started_again_at_the_next_check(tmp_path, ending):
    nudges: list[int] = []
    clock = FakeClock()
    watcher = Watcher(tmp_path, lambda: nudges.append(1), clock=clock)
    assert watcher.check() is None
    observer = watcher._observer
    [emitter] = observer.emitters
    thread = emitter if ending == "emitter" else observer._inotify_fd

    def die(*arguments: object, **keywords: object) -> None:
        raise RuntimeError("the emitter dies")

    setattr(thread, "queue_events" if ending == "emitter" else "handle_event", die)
    write_rollout(tmp_path, 1)
    until(lambda: not thread.is_alive())
    assert observer.is_alive()
    assert "the watch has ended" in watcher.check()
    clock.pass_s(0.5)
    assert watcher.check() is not None
    clock.pass_s(0.6)
    assert watcher.check() is None
    assert watcher._observer is not observer
    nudges.clear()
    write_rollout(tmp_path, 2)
    until(lambda: bool(nudges))
    watcher.stop()


@pytest.mark.fault(33)
def test_a_handler_that_raises_is_logged_and_the_thread_continues(tmp_path):
    calls: list[int] = []

    def nudge() -> None:
        calls.append(1)
        raise OSError("the mailbox is gone")

    watcher = Watcher(tmp_path, nudge)
    assert watcher.check() is None
    write_rollout(tmp_path, 1)
    until(lambda: bool(calls))
    before = len(calls)
    write_rollout(tmp_path, 2)
    until(lambda: len(calls) > before)
    assert watcher._observer.is_alive()
    assert "could not be handled: OSError: the mailbox is gone" in watcher.check()
    watcher.stop()


# False events


@pytest.mark.slow
@pytest.mark.fault(34)
def test_only_the_timer_wakes_an_idle_daemon(fresh_project):
    """Check that the events of the daemon's own listing and reading do not wake it."""
    idle_s = 10.0
    with opened(fresh_project(), auto_train_after_n_rollouts=100, scan_interval_s=1.0) as harness:
        for number in range(20):
            write_rollout(harness.paths.exports, number)
        harness.until(lambda: harness.ledger.pending_count() == 20 and harness.inbox.is_up_to_date)
        time.sleep(0.5)
        harness.service.tick()
        wakes, ticks = [], 0
        harness.context.wake = lambda: wakes.append(time.monotonic())
        harness.inbox._watcher._handler._notify = harness.context.wake
        end, busy_s = time.monotonic() + idle_s, time.process_time()

        def tick() -> float:
            nonlocal ticks
            ticks += 1
            for path in harness.paths.exports.iterdir():
                path.read_bytes()
            return harness.service.tick()

        def is_over() -> bool:
            return time.monotonic() >= end

        assert loop.run(tick, harness.mailbox, until=is_over, on_error=lambda error, delay_s: pytest.fail(str(error)))
        assert wakes == []
        assert time.process_time() - busy_s < 0.05 * idle_s
        assert ticks <= 2 * idle_s / min(loop.LONGEST_WAIT_S, 1.0) + 2


class Endless:
    """A queue that never becomes empty."""

    def __init__(self) -> None:
        self.until = time.monotonic() + 5.0

    def get(self, timeout: float) -> loop.Wakeup:
        time.sleep(0.001)
        if time.monotonic() > self.until:
            raise queue.Empty
        return loop.Wakeup.CHECK


@pytest.mark.fault(34)
def test_a_flood_of_messages_neither_blocks_the_loop_nor_fills_memory():
    mailbox = loop.Mailbox()
    for _ in range(100_000):
        mailbox.wake()
    assert mailbox._queue.qsize() <= loop.MAX_MESSAGES
    mailbox.stop()
    until(lambda: mailbox.wait(1.0) is loop.Wakeup.STOP)
    mailbox._queue = Endless()
    began = time.monotonic()
    for _ in range(5):
        assert mailbox.wait(1.0) is loop.Wakeup.CHECK
    assert time.monotonic() - began < 3.0


# A share that fails sometimes


@pytest.mark.fault(35)
@pytest.mark.parametrize("number", [errno.EIO, errno.EBUSY, errno.ESTALE], ids=errno.errorcode.get)
def test_a_listing_that_fails_sometimes_is_retried_with_growing_delay(fresh_project, monkeypatch, number):
    with InstantHarness(fresh_project(), auto_train_after_n_rollouts=3) as harness:
        harness.write_rollouts(1, 2)
        harness.until(lambda: harness.ledger.pending_count() == 2)
        real, times = inbox.scan_folder, []

        def fails(folder: Path) -> object:
            if len(times) == 5:
                return real(folder)
            times.append(harness.clock.now)
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(inbox, "scan_folder", fails)
        harness.until(lambda: "W_EXPORTS" in harness.warnings())
        [message] = [warning.message for warning in harness.context.warnings() if warning.code == "W_EXPORTS"]
        assert message.startswith("the folder Exports cannot be listed: ")
        while len(times) < 5:
            harness.inbox.request_scan()  # a share that fails may still send events
            harness.tick()
        harness.write_rollouts(3)
        harness.until_version(1)
        gaps = [after - before for before, after in itertools.pairwise(times)]
        assert all(later >= 1.5 * earlier for earlier, later in itertools.pairwise(gaps))
        assert "W_EXPORTS" not in harness.warnings()
        assert len(harness.ledger.files()) == 3
        assert harness.failures == []
