"""Trainers that do not end, and trainers whose daemon ends first (rows 54, 55, 57)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from daemon.ledger.cycle import Phase
from daemon.process.child import Child, ChildSpec
from daemon.training.exit_reason import CLOSING_S
from schemas.job import Ready
from schemas.process.exit_codes import CONTROL_C
from schemas.process.group import PosixSession
from tests.fakes.trainer import GO_ON_NAME, SLEEPER
from tests.faults.support.children import (
    begin_cycle,
    end,
    is_gone,
    kill_and_wait,
    opened,
    sleeper,
    until,
    workers_of,
)
from tests.faults.support.harness import InstantChild, InstantHarness
from tests.platforms import needs_posix

ROOT = Path(__file__).parents[3]
posix = needs_posix("sessions and inherited descriptors")
#: a daemon with the fake trainer in another process: FOLDER MODE [TRAINING_SCRIPT]
DAEMON = """
import sys
from pathlib import Path
from tests.daemon.conftest import ProcessHarness
from tests.faults.support.children import HIDDEN_SIZES, begin_cycle
folder, mode, script = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
harness = ProcessHarness(folder, hidden_sizes=HIDDEN_SIZES, training_script=script)
begin_cycle(harness, mode)
harness.until(lambda: False, timeout_s=60.0)
"""


# Hangs


@pytest.mark.fault(54)
@pytest.mark.parametrize(
    ("mode", "limit", "words"),
    [
        ("never ready", "startup_timeout_s", "not ready after"),
        ("silent", "silence_timeout_s", "sent no event"),
        pytest.param("stops", "silence_timeout_s", "sent no event", marks=needs_posix("SIGSTOP")),
        ("deaf", "silence_timeout_s", "sent no event"),
        ("closes its output", "silence_timeout_s", "sent no event"),
        ("talks on", "progress_timeout_s", "no progress"),
        ("talks on", "training_timeout_s", "took longer than"),
    ],
)
def test_a_trainer_that_hangs_is_ended_and_the_daemon_does_not_wait_for_it(fresh_project, mode, limit, words):
    with opened(fresh_project(), attempts=1, stop_grace_s=1.5) as harness:
        object.__setattr__(harness.settings.daemon, limit, 0.5)
        begin_cycle(harness, mode)
        harness.until(lambda: len(harness.launcher.started) == 1)
        longest_s, pid = 0.0, harness.launcher.started[0].pid

        def is_over() -> bool:
            nonlocal longest_s
            began = time.monotonic()
            harness.service.tick()
            longest_s = max(longest_s, time.monotonic() - began)
            return harness.runner.cycle.phase is Phase.FAILED

        harness.until(is_over)
        assert words in harness.runner.cycle.why
        assert is_gone(pid)
        assert longest_s < 1.4
        object.__setattr__(harness.settings.daemon, limit, 60.0)
        begin_cycle(harness, "", first=3)
        harness.until_published(2)


@pytest.mark.fault(88)
def test_a_trainer_that_writes_on_after_its_result_is_killed_and_its_result_counts(fresh_project):
    with opened(fresh_project(), attempts=1, stop_grace_s=0.5) as harness:
        begin_cycle(harness, "writes on")
        harness.until_published(1)
        [trainer] = harness.launcher.started
        folder = harness.paths.cycle_folder(1)
        before = {path.name: path.read_bytes() for path in folder.iterdir()}
        harness.until((harness.paths.state / GO_ON_NAME).exists)
        begin_cycle(harness, "", first=3)
        harness.until_published(2)
        assert is_gone(trainer.pid)
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
        assert b"written after the result" not in b"".join(before.values())


@pytest.mark.fault(54)
def test_jobs_arrive_whole_and_in_order(tmp_path):
    program = "import sys; [print(len(line), line[:1], file=sys.stderr) for line in sys.stdin]"
    spec = ChildSpec((sys.executable, "-c", program), tmp_path / "log", (), tmp_path)
    child = Child(spec, sends_events=True, wake=lambda: None)

    class Line:
        def __init__(self, number: int) -> None:
            self.number = number

        def to_bytes(self) -> bytes:
            return str(self.number).encode() * 100_000 + b"\n"

    for number in range(5):
        child.send(Line(number))
    child._cut_lifeline()
    until(lambda: child.poll() is not None)
    assert child.reap()
    assert (tmp_path / "log").read_text().split("\n")[:-1] == [f"100001 {number}" for number in range(5)]


@pytest.mark.fault(54)
def test_the_daemon_does_not_wait_for_a_trainer_that_does_not_read_its_job(tmp_path):
    spec = ChildSpec((sys.executable, "-c", SLEEPER), tmp_path / "log", (), tmp_path)
    child = Child(spec, sends_events=True, wake=lambda: None)

    class Long:
        @staticmethod
        def to_bytes() -> bytes:
            return b"x" * (4 << 20)

    try:
        began = time.monotonic()
        for _ in range(3):
            child.send(Long())
        assert time.monotonic() - began < 1.0
    finally:
        assert child.stop(1.0)
    assert is_gone(child.pid)


# Stuck


class Undying(InstantChild):
    """A child that does not end when it is killed, as a process that waits for a driver."""

    pid = 4_000_000

    def terminate(self) -> None:
        pass

    def kill(self) -> None:
        pass

    def reap(self) -> bool:
        return self.poll() is not None


@pytest.mark.fault(55)
def test_a_trainer_that_cannot_be_killed_is_reported_and_no_other_starts(fresh_project):
    with InstantHarness(fresh_project(), silence_timeout_s=30.0) as harness:
        before = harness.paths.pointer.read_text()
        harness.launcher.start = lambda spec, *, sends_events: (
            harness.launcher.started.append(Undying(lambda job: [Ready(versions={})])) or harness.launcher.started[-1]
        )
        harness.write_rollouts(1, 2)
        harness.until(lambda: "W_STUCK" in harness.warnings())
        [stuck] = harness.launcher.started
        harness.write_rollouts(3)
        harness.until(lambda: harness.ledger.pending_count() == 1)
        for _ in range(300):
            harness.tick()
        assert harness.failures == []
        assert harness.launcher.started == [stuck]
        assert harness.runner.progress.doing.startswith("stuck: the trainer (pid 4000000)")
        assert b"stuck: " in harness.paths.status.read_bytes()
        assert harness.paths.pointer.read_text() == before
        del harness.launcher.start
        stuck.end(-9)
        harness.until_version(1)
        assert "W_STUCK" not in harness.warnings()


@pytest.mark.fault(55)
@pytest.mark.fault(88)
def test_a_trainer_that_is_done_but_does_not_end_prevents_the_next_one(fresh_project):
    with InstantHarness(fresh_project()) as harness:
        harness.launcher.start = lambda spec, *, sends_events: (
            harness.launcher.started.append(Undying(harness.launcher.answer)) or harness.launcher.started[-1]
        )
        harness.write_rollouts(1, 2)
        harness.until_version(1)
        harness.write_rollouts(3, 4)
        harness.until(lambda: "W_STUCK" in harness.warnings() and harness.runner.cycle.id == 2)
        for _ in range(100):
            harness.tick()
        [stuck] = harness.launcher.started
        assert harness.runner.cycle.phase is Phase.CLAIMED
        stuck.end(-9)
        harness.until_version(2)


@pytest.mark.fault(55)
def test_a_process_of_an_earlier_daemon_that_does_not_end_prevents_trainers(fresh_project):
    left = sleeper()
    try:
        with InstantHarness(fresh_project()) as harness:
            harness.runner._reaper.adopt([psutil.Process(left.pid)])
            harness.write_rollouts(1, 2)
            harness.until(lambda: "W_STUCK" in harness.warnings() and harness.runner.cycle is not None)
            for _ in range(100):
                harness.tick()
            assert harness.launcher.started == []
            kill_and_wait(left)
            harness.until_version(1)
    finally:
        kill_and_wait(left)


@posix
@pytest.mark.fault(55)
def test_stop_waits_no_longer_than_its_grace_period(tmp_path, monkeypatch):
    spec = ChildSpec((sys.executable, "-c", SLEEPER), tmp_path / "log", (), tmp_path)
    child = Child(spec, sends_events=False, wake=lambda: None)
    with monkeypatch.context() as patched:
        for name in ("terminate", "kill"):
            patched.setattr(PosixSession, name, lambda self, pid: None)
        began = time.monotonic()
        assert not child.stop(0.3)
        assert 0.5 < time.monotonic() - began < 3.0
    assert child.stop(2.0)
    assert is_gone(child.pid)


# The daemon is killed


def killed_daemon(folder: Path, mode: str, script: str = "") -> tuple[list[int], float]:
    """Kill a daemon during training; return the pids with its token, and the time."""
    process = subprocess.Popen([sys.executable, "-c", DAEMON, str(folder), mode, script], cwd=ROOT)
    try:
        ready = folder / "ready"
        until(
            lambda: process.poll() is not None or ready.exists() or bool(not script and workers_of(folder)),
            timeout_s=60.0,
        )
        time.sleep(0.3 if not script else 0.0)
        workers = workers_of(folder)
        assert process.poll() is None
        assert workers
    finally:
        process.kill()
        process.wait()
    return workers, time.monotonic()


def script_in(folder: Path, *last_lines: str) -> str:
    """Write a training script that starts a worker."""
    lines = (
        "import os, pathlib, signal, subprocess, sys, time",
        f"subprocess.Popen([sys.executable, '-c', {SLEEPER!r}])",
        f"pathlib.Path({str(folder)!r}, 'ready').touch()",
        *last_lines,
    )
    (folder / "slow.py").write_text("\n".join(lines) + "\n")
    return "slow.py"


@pytest.mark.fault(57)
@pytest.mark.parametrize(
    "last_lines",
    [
        ("time.sleep(600)",),
        pytest.param(
            ("signal.signal(signal.SIGTERM, signal.SIG_IGN)", "os.kill(os.getpid(), signal.SIGSTOP)"),
            marks=needs_posix("SIGSTOP"),
        ),
    ],
    ids=["busy", "stopped"],
)
def test_a_training_script_and_its_workers_end_when_the_daemon_is_killed(fresh_project, last_lines):
    folder = fresh_project()
    workers, killed_at = killed_daemon(folder, "", script_in(folder, *last_lines))
    assert len(workers) == (2 if sys.platform == "win32" else 3)  # POSIX: another process watches the lifeline
    until(lambda: all(map(is_gone, workers)), timeout_s=5.0)
    assert time.monotonic() - killed_at < 5.0


@posix
@pytest.mark.slow
@pytest.mark.fault(57)
@pytest.mark.parametrize("way", ["lifeline", "parent death signal"])
def test_our_trainer_ends_when_the_daemon_is_killed_by_either_way_alone(tmp_path, way):
    """Check each way alone: a third process keeps the lifeline open, or the trainer does not request the signal."""
    if way == "parent death signal" and sys.platform != "linux":
        pytest.skip("Linux: the signal at a parent's end")
    parent = (
        "import os, subprocess, sys, time\n"
        "keep = subprocess.PIPE if sys.argv[1] == 'lifeline' else int(sys.argv[2])\n"
        "prctl = 'import trainer.worker.serve as s; s.die_with_parent = lambda: None; s.serve()'\n"
        "program = ['-c', prctl] if sys.argv[1] == 'lifeline' else ['-m', 'trainer', 'serve']\n"
        "p = subprocess.Popen([sys.executable, *program], stdin=keep, stdout=subprocess.PIPE, start_new_session=True)\n"
        "p.stdout.readline(); print(p.pid, flush=True); time.sleep(60)\n"
    )
    read, write = os.pipe()
    daemon = subprocess.Popen(
        [sys.executable, "-c", parent, way, str(read)], cwd=ROOT, stdout=subprocess.PIPE, pass_fds=(read,)
    )
    try:
        pid = int(daemon.stdout.readline())
        assert not is_gone(pid)
        daemon.send_signal(signal.SIGKILL)
        until(lambda: is_gone(pid), timeout_s=5.0)
    finally:
        kill_and_wait(daemon)
        daemon.stdout.close()
        os.close(read)
        os.close(write)


@posix
@pytest.mark.fault(57)
def test_the_next_start_ends_a_trainer_that_is_left_before_another_one_begins(fresh_project):
    folder = fresh_project()
    [orphan], _ = killed_daemon(folder, "orphaned")
    try:
        time.sleep(0.2)
        assert not is_gone(orphan)
        with opened(folder) as harness:
            assert is_gone(orphan)
            assert "1 processes of an earlier daemon were ended" in harness.log
            assert harness.launcher.started == []
            harness.until_published(1)
    finally:
        end(orphan)


# The console


def test_trainers_that_end_with_the_console_of_windows_are_not_failures(fresh_project):
    """Windows closes the console of the newest process first, so the daemon sees the trainer's end before its own."""
    with InstantHarness(fresh_project()) as harness:
        harness.launcher.answer = lambda job: [Ready(versions={})]
        harness.write_rollouts(1, 2)
        harness.until(lambda: len(harness.launcher.started) == 1)
        harness.launcher.started[0].end(CONTROL_C)
        harness.until(lambda: harness.runner.cycle.phase is Phase.CLAIMED)
        ended_s = harness.clock.now
        assert harness.runner.cycle.attempt == 0
        harness.until(lambda: len(harness.launcher.started) == 2)
        assert harness.clock.now - ended_s >= CLOSING_S
        harness.launcher.started[1].end(CONTROL_C)
        harness.until(lambda: harness.runner.cycle.phase is Phase.CLAIMED and harness.runner.cycle.attempt == 1)
        assert "exit code 0xC000013A (Ctrl-C, or its console was closed)" in harness.runner.cycle.why
