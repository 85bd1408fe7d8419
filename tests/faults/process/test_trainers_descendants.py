"""Processes that a trainer started end with it, and no other processes (rows 58, 63)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from daemon.errors import Exit
from daemon.ledger.cycle import Phase
from daemon.process.child import Child, ChildSpec
from daemon.process.orphans import kill_orphans
from daemon.runtime.instance_lock import ProjectLock
from schemas.process.group import WindowsJob
from schemas.process.run_token import TOKEN_VARIABLE, Token, kill_processes, new_token, project_fingerprint
from schemas.process.windows_job import KILL_ON_JOB_CLOSE, JobObject
from tests.fakes.trainer import PIDS_NAME
from tests.faults.support.children import (
    begin_cycle,
    is_gone,
    kill_and_wait,
    opened,
    sleeper,
    until,
    until_ended,
    workers_of,
)
from tests.platforms import needs_posix

ROOT = Path(__file__).parents[3]
posix = needs_posix("SIGSTOP and process groups")


@pytest.mark.fault(58)
@pytest.mark.parametrize(
    ("mode", "phase"),
    [
        ("descendants", Phase.PUBLISHED),
        ("descendants, then fails", Phase.FAILED),
        ("descendants, then hangs", Phase.FAILED),
    ],
)
def test_what_a_trainer_started_ends_with_it(fresh_project, mode, phase):
    with opened(fresh_project(), attempts=1) as harness:
        begin_cycle(harness, mode)
        pids = harness.paths.state / PIDS_NAME
        harness.until(lambda: pids.exists() and len(pids.read_text().split()) == 4)
        object.__setattr__(harness.settings.daemon, "silence_timeout_s", 0.5 if mode.endswith("hangs") else 60.0)
        descendants = [int(pid) for pid in pids.read_text().split()]
        until_ended(harness, 1)
        assert harness.runner.cycle.phase is phase
        harness.until(lambda: harness.launcher.started[0].poll() is not None and not workers_of(harness.paths.project))
        assert [pid for pid in descendants if not is_gone(pid)] == []


@pytest.mark.fault(58)
def test_what_a_trainer_started_ends_if_the_daemon_is_stopped_during_training(fresh_project):
    with opened(fresh_project()) as harness:
        begin_cycle(harness, "descendants, then hangs")
        pids = harness.paths.state / PIDS_NAME
        harness.until(lambda: pids.exists() and len(pids.read_text().split()) == 4)
        assert len(workers_of(harness.paths.project)) == 5
        harness.close()
        assert workers_of(harness.paths.project) == []


class FakeKernel:
    """Replaces the functions of Windows: records the calls, and refuses one of them."""

    def __init__(self, *, refuses: str = "") -> None:
        self.calls: list[tuple[object, ...]] = []
        self._refuses = refuses

    def _note(self, name: str, *arguments: object) -> None:
        if name == self._refuses:
            raise PermissionError(5, "Access is denied")
        self.calls.append((name, *arguments))

    def create_job(self) -> int:
        self._note("create_job")
        return 7

    def limit(self, job: int, flags: int) -> None:
        self._note("limit", job, flags)

    def assign(self, job: int, pid: int) -> None:
        self._note("assign", job, pid, psutil.Process(pid).status())

    def terminate(self, job: int) -> None:
        self._note("terminate", job)

    def close(self, job: int) -> None:
        self._note("close", job)


@posix
@pytest.mark.fault(58)
def test_on_windows_a_child_is_in_its_job_before_it_runs_and_ends_with_the_jobs_handle():
    kernel, child = FakeKernel(), sleeper()
    child.send_signal(signal.SIGSTOP)  # stands for CREATE_SUSPENDED
    try:
        until(lambda: psutil.Process(child.pid).status() == psutil.STATUS_STOPPED)
        job = WindowsJob(JobObject(kernel))
        assert job.options["creationflags"] & 0x4
        job.assign(child.pid)
        assert kernel.calls == [
            ("create_job",),
            ("limit", 7, KILL_ON_JOB_CLOSE),
            ("assign", 7, child.pid, psutil.STATUS_STOPPED),
        ]
        until(lambda: psutil.Process(child.pid).status() != psutil.STATUS_STOPPED)
        job.kill(child.pid)
        job.close()
        job.close()
        assert kernel.calls[3:] == [("terminate", 7), ("close", 7)]
    finally:
        kill_and_wait(child)


@posix
@pytest.mark.fault(58)
@pytest.mark.parametrize("call", ["create_job", "limit", "assign"])
def test_on_windows_a_child_runs_even_if_its_job_is_refused(call):
    kernel, child = FakeKernel(refuses=call), sleeper()
    child.send_signal(signal.SIGSTOP)
    try:
        job = WindowsJob(JobObject(kernel))
        job.assign(child.pid)
        job.kill(child.pid)
        job.close()
        until(lambda: psutil.Process(child.pid).status() != psutil.STATUS_STOPPED)
        assert kernel.calls[-1:] == ([("close", 7)] if call != "create_job" else [])
    finally:
        kill_and_wait(child)


# Other processes


def process_with(token: object) -> subprocess.Popen[bytes]:
    """Start a process that has a token in its environment."""
    return sleeper(env={**os.environ, TOKEN_VARIABLE: str(token)})


@pytest.mark.fault(63)
def test_a_process_that_the_lock_file_names_is_not_ended(fresh_project):
    folder = fresh_project()
    other_process = sleeper()
    try:
        with opened(folder) as harness:
            harness.paths.lock.write_text(f"{other_process.pid}\n")
            lock = ProjectLock(harness.paths.lock)
            lock.acquire()
            lock.release()
            begin_cycle(harness, "")
            harness.until_published(1)
        assert other_process.poll() is None
    finally:
        kill_and_wait(other_process)


@pytest.mark.fault(63)
def test_only_orphans_of_this_project_are_ended(tmp_path):
    project, other = tmp_path / "mine", tmp_path / "other"
    project.mkdir()
    other.mkdir()
    living = new_token(project)
    reused = Token(project_fingerprint(project), os.getpid(), living.owner_born_s - 1000, "run")
    processes = {
        "orphan": process_with(reused),
        "of another project": process_with(Token(project_fingerprint(other), os.getpid(), 1000, "run")),
        "of a living daemon": process_with(living),
        "with a token of another program": process_with("0123456789abcdef"),
        "without a token": sleeper(),
    }
    try:
        until(lambda: all(len(psutil.Process(p.pid).environ()) > 0 for p in processes.values()))
        assert kill_orphans(project) == (1, [])
        alive = {name for name, process in processes.items() if process.poll() is None}
        assert alive == set(processes) - {"orphan"}
    finally:
        kill_and_wait(*processes.values())


@posix
@pytest.mark.fault(63)
def test_a_process_that_reuses_a_pid_is_not_signalled(tmp_path, monkeypatch):
    spec = ChildSpec((sys.executable, "-c", "pass"), tmp_path / "log", (), tmp_path)
    child = Child(spec, sends_events=False, wake=lambda: None)
    until(lambda: child.poll() is not None)
    other_process = sleeper()
    remembered = psutil.Process(other_process.pid)
    remembered._ident = (other_process.pid, 12345.0)  # born long before the other process
    child._tree._descendants[other_process.pid] = remembered
    try:
        assert psutil.pid_exists(child.pid)  # still in the process table: no other process can have the pid
        assert child.reap()
        groups: list[int] = []
        monkeypatch.setattr(os, "killpg", lambda group, number: groups.append(group))
        child.kill()
        child.stop(0.1)
        assert groups == []
        assert other_process.poll() is None
    finally:
        kill_and_wait(other_process)


@pytest.mark.fault(63)
def test_neither_this_process_nor_its_ancestors_are_ever_ended(tmp_path):
    """Check a daemon that was started by a training script, so that it has the training's token."""
    token = Token(project_fingerprint(tmp_path), 1, 1000, "run")
    program = (
        "import sys; from pathlib import Path; from daemon.process.orphans import kill_orphans\n"
        "print(kill_orphans(Path(sys.argv[1])))"
    )
    nested = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {program!r}, sys.argv[1]], check=True)"
    done = subprocess.run(
        [sys.executable, "-c", nested, str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, TOKEN_VARIABLE: str(token)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stdout.strip()) == (Exit.DONE, "(0, [])"), done.stderr


@pytest.mark.fault(63)
def test_kill_processes_returns_what_does_not_end_after_its_timeout(monkeypatch, tmp_path):
    token = new_token(tmp_path)
    process = process_with(token)
    try:
        with monkeypatch.context() as patched:
            patched.setattr(psutil.Process, "kill", lambda self: None)
            began = time.monotonic()
            [left] = kill_processes(lambda found: found == token, timeout_s=0.3)
            assert left.pid == process.pid
            assert time.monotonic() - began < 3.0
        assert kill_processes(lambda found: found == token) == []
    finally:
        kill_and_wait(process)
