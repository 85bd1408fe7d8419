"""Rigs that begin with version 0 already published, and what the tests of trainers ask about processes."""

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
"""Those of the version 0 that `fresh_project` has."""
ENDED = {Phase.PUBLISHED, Phase.FAILED, Phase.PARKED}


@contextlib.contextmanager
def opened(folder: Path, **settings: object) -> Iterator[Rig]:
    """Return a rig on a project that has version 0, and end it."""
    rig = Rig(folder, hidden_sizes=HIDDEN_SIZES, **settings)
    try:
        yield rig
    finally:
        rig.close()


def begin_cycle(rig: Rig, mode: str, *, first: int = 1) -> None:
    """Let the next trainer be of this mode, and give it two rollouts."""
    rig.launcher.mode = mode
    drop(rig.layout.exports, first)
    drop(rig.layout.exports, first + 1)


def sleeper(**options: object) -> subprocess.Popen[bytes]:
    """Start a process that sleeps for an hour."""
    return subprocess.Popen([sys.executable, "-c", SLEEPER], **options)


def put_away(*processes: subprocess.Popen[bytes]) -> None:
    """Kill processes of ours and take them off the system's table."""
    for process in processes:
        process.kill()
        process.wait()


def until_ended(rig: Rig, cycle: int, *, timeout_s: float = 20.0) -> None:
    """Tick until a cycle is over, whatever came of it."""

    def is_over() -> bool:
        now = rig.runner.cycle
        return now is not None and now.id == cycle and now.phase in ENDED

    rig.until(is_over, timeout_s=timeout_s)


def is_gone(pid: int) -> bool:
    """Return whether a process has ended, reaped or not."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def until(condition: Callable[[], bool], *, timeout_s: float = 10.0) -> None:
    """Wait for a condition; fail where it does not come."""
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def workers_of(project: Path) -> list[int]:
    """Return the pids of all living processes that carry the project's token."""
    mark = project_fingerprint(project)
    return [process.pid for process in find_processes(lambda token: token.project == mark)]


def pointed(rig: Rig) -> str:
    return rig.layout.pointer.read_text(encoding="utf-8")


def end(pid: int) -> None:
    """Kill a process of ours; one that is gone is fine."""
    with contextlib.suppress(OSError):
        os.kill(pid, 9)
