"""A daemon in another container or on another computer: its lock and its heartbeat count, not its pid; row 93."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from daemon.cli import main
from daemon.diagnostics import doctor
from daemon.errors import DaemonError, Exit
from daemon.runtime.clock import REAL_CLOCK
from daemon.runtime.commands import Command, send_command
from daemon.runtime.instance_lock import ProjectLock, holder_of, is_held, is_running
from schemas.process.run_token import TOKEN_VARIABLE, new_token
from schemas.status import DaemonState, Status
from schemas.storage.files import write_atomic
from schemas.storage.layout import ProjectPaths
from tests.faults.support.harness import violations
from tests.platforms import needs_linux

ROOT = Path(__file__).parents[3]
NAMESPACE = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child", "--uts"]
HOLD = """
import socket, subprocess, sys
from pathlib import Path
socket.sethostname("box-7")
from daemon.runtime.instance_lock import ProjectLock
lock = ProjectLock(Path(sys.argv[1]))
lock.acquire()
subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.readline()"], stdin=sys.stdin)
print("held", flush=True)
sys.stdin.readline()
"""
INTERVAL_S = 0.3


def may_unshare() -> bool:
    command = [*NAMESPACE, "true"]
    return bool(shutil.which("unshare")) and subprocess.run(command, capture_output=True, check=False).returncode == 0


def status(heartbeat: float, interval_s: float = INTERVAL_S) -> bytes:
    return Status(
        state=DaemonState.IDLE,
        step="waiting",
        cycle=0,
        rollouts_pending=0,
        rollouts_needed=2,
        policy_version=0,
        best_model_path=None,
        heartbeat=heartbeat,
        heartbeat_interval_s=interval_s,
        pid=1,
        create_time=0.0,
        started_at=0.0,
    ).to_bytes()


@pytest.fixture
def paths(fresh_project, monkeypatch) -> ProjectPaths:
    monkeypatch.setattr(doctor, "_python", lambda *_: ())
    return ProjectPaths(fresh_project())


@contextlib.contextmanager
def container(paths: ProjectPaths) -> Iterator[subprocess.Popen[str]]:
    """Run a process in another namespace of pids, under another host name, that has the lock and a child."""
    token = str(new_token(paths.project)).replace(f"-{os.getpid()}-", "-1-")
    process = subprocess.Popen(
        [*NAMESPACE, "env", f"{TOKEN_VARIABLE}={token}", sys.executable, "-c", HOLD, str(paths.lock)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.communicate()


@needs_linux("namespaces")
@pytest.mark.skipif(not may_unshare(), reason="Linux: user namespaces")
@pytest.mark.fault(93)
def test_no_command_advises_to_start_a_second_daemon_beside_one_in_a_container(paths, capsys):
    with container(paths):
        write_atomic(paths.status, status(REAL_CLOCK.utc_s(), 60.0))
        assert holder_of(paths.lock).endswith("in another container or on another computer (host box-7)")
        assert violations(paths.project) == ()
        project = ["--project", str(paths.project)]
        main([*project, "doctor"])
        printed = capsys.readouterr().out
        assert "daemon: running: pid 1, since " in printed
        assert "start the daemon" not in printed
        assert main([*project, "status"]) == Exit.DONE
        assert "no daemon runs" not in capsys.readouterr().out
        assert main([*project, "--once"]) == Exit.OTHER_DAEMON
        assert "(host box-7)" in capsys.readouterr().err
        with pytest.raises(DaemonError, match="did not reply"):
            send_command(paths, Command(what="pause"), timeout_s=0.1)


@pytest.fixture
def elsewhere(paths) -> Iterator[threading.Event]:
    """Let the lock file name a process on another computer; its heartbeat continues until the event is set."""
    paths.lock.write_text("1 1790000000 other-computer 4026531836")
    write_atomic(paths.status, status(REAL_CLOCK.utc_s()))
    stop = threading.Event()

    def beat() -> None:
        while not stop.wait(INTERVAL_S):
            write_atomic(paths.status, status(REAL_CLOCK.utc_s()))

    thread = threading.Thread(target=beat)
    thread.start()
    yield stop
    stop.set()
    thread.join()


@pytest.mark.fault(93)
def test_a_daemon_whose_lock_is_not_visible_here_is_known_by_its_heartbeat(paths, elsewhere, capsys):
    assert not is_held(paths.lock)
    assert is_running(paths)
    with pytest.raises(DaemonError, match=r"another daemon runs on this project: pid 1, .*other-computer") as refused:
        ProjectLock(paths.lock, status=paths.status).acquire()
    assert refused.value.exit_code == Exit.OTHER_DAEMON
    assert "other-computer" in paths.lock.read_text()
    main(["--project", str(paths.project), "doctor"])
    printed = capsys.readouterr().out
    assert "its lock is free, but its heartbeat is new" in printed
    assert "start the daemon" not in printed
    with pytest.raises(DaemonError, match="did not reply"):
        send_command(paths, Command(what="trigger"), timeout_s=0.1)


@pytest.mark.fault(93)
def test_after_the_other_daemon_has_ended_a_start_succeeds(paths, elsewhere):
    elsewhere.set()
    lock = ProjectLock(paths.lock, status=paths.status)
    lock.acquire()  # it may watch for two intervals
    assert holder_of(paths.lock).startswith(f"pid {os.getpid()}, since ")
    assert "another" not in holder_of(paths.lock)
    lock.release()
    assert holder_of(paths.lock) == "pid unknown"
    paths.lock.write_text("1 1790000000 other-computer 4026531836")
    write_atomic(paths.status, status(REAL_CLOCK.utc_s() - 3600))
    os.utime(paths.status, (0, 0))
    began = time.monotonic()
    assert not is_running(paths)
    lock.acquire()
    assert time.monotonic() - began < INTERVAL_S
    lock.release()
