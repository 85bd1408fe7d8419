"""Rigs with version 0 published, and helpers of the tests about trainer processes."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

from daemon.ledger.cycle import Phase
from schemas.process.run_token import find_processes, project_fingerprint
from tests.daemon.conftest import Rig
from tests.fakes.trainer import SLEEPER
from tests.helpers import drop

HIDDEN_SIZES = (8, 8)
"""Those of version 0 in `fresh_project`."""
ENDED = {Phase.PUBLISHED, Phase.FAILED, Phase.PARKED}


@contextlib.contextmanager
def opened(folder: Path, **settings: object) -> Iterator[Rig]:
    """Open a rig on a project that has version 0, and close it afterwards."""
    rig = Rig(folder, hidden_sizes=HIDDEN_SIZES, **settings)
    try:
        yield rig
    finally:
        rig.close()


def begin_cycle(rig: Rig, mode: str, *, first: int = 1) -> None:
    """Set the mode of the next trainer, and drop two rollouts."""
    rig.launcher.mode = mode
    drop(rig.layout.exports, first)
    drop(rig.layout.exports, first + 1)


def sleeper(**options: object) -> subprocess.Popen[bytes]:
    """Start a process that sleeps for an hour."""
    return subprocess.Popen([sys.executable, "-c", SLEEPER], **options)


def put_away(*processes: subprocess.Popen[bytes]) -> None:
    """Kill child processes and wait for them."""
    for process in processes:
        process.kill()
        process.wait()


def until_ended(rig: Rig, cycle: int, *, timeout_s: float = 20.0) -> None:
    """Tick until a cycle is published, failed or parked."""

    def is_over() -> bool:
        now = rig.runner.cycle
        return now is not None and now.id == cycle and now.phase in ENDED

    rig.until(is_over, timeout_s=timeout_s)


def is_gone(pid: int) -> bool:
    """Return whether a process has ended; a zombie has."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def until(condition: Callable[[], bool], *, timeout_s: float = 10.0) -> None:
    """Wait until a condition is true; fail after `timeout_s`."""
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "the condition did not become true in time"
        time.sleep(0.02)


def workers_of(project: Path) -> list[int]:
    """Return the pids of all living processes that carry the project's token."""
    mark = project_fingerprint(project)
    return [process.pid for process in find_processes(lambda token: token.project == mark)]


def pointed(rig: Rig) -> str:
    """Return the content of the pointer file."""
    return rig.layout.pointer.read_text(encoding="utf-8")


def end(pid: int) -> None:
    """Kill a process, if it still exists."""
    with contextlib.suppress(OSError):
        os.kill(pid, 9)
