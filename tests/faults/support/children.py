"""Harnesses on a project with version 0, and helpers for the tests about trainer processes."""

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
from tests.daemon.conftest import ProcessHarness
from tests.fakes.trainer import SLEEPER
from tests.helpers import write_rollout
from tests.platforms import PATIENCE, is_console

HIDDEN_SIZES = (8, 8)
"""Those of version 0 in `fresh_project`."""
ENDED = {Phase.PUBLISHED, Phase.FAILED, Phase.PARKED}


@contextlib.contextmanager
def opened(folder: Path, **settings: object) -> Iterator[ProcessHarness]:
    """Open a harness on a project that has version 0, and close it afterwards."""
    harness = ProcessHarness(folder, hidden_sizes=HIDDEN_SIZES, **settings)
    try:
        yield harness
    finally:
        harness.close()


def begin_cycle(harness: ProcessHarness, mode: str, *, first: int = 1) -> None:
    """Set the mode of the next trainer, and write two rollouts."""
    harness.launcher.mode = mode
    write_rollout(harness.paths.exports, first)
    write_rollout(harness.paths.exports, first + 1)


def sleeper(**options: object) -> subprocess.Popen[bytes]:
    """Start a process that sleeps for an hour."""
    return subprocess.Popen([sys.executable, "-c", SLEEPER], **options)


def kill_and_wait(*processes: subprocess.Popen[bytes]) -> None:
    """Kill child processes and wait for their end."""
    for process in processes:
        process.kill()
        process.wait()


def until_ended(harness: ProcessHarness, cycle: int, *, timeout_s: float = 20.0) -> None:
    """Make passes until a cycle is published, failed or parked."""

    def is_over() -> bool:
        now = harness.runner.cycle
        return now is not None and now.id == cycle and now.phase in ENDED

    harness.until(is_over, timeout_s=timeout_s)


def is_gone(pid: int) -> bool:
    """Return whether a process has ended. A zombie has ended."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def until(condition: Callable[[], bool], *, timeout_s: float = 10.0) -> None:
    """Wait until a condition is true; fail after `timeout_s`."""
    end = time.monotonic() + timeout_s * PATIENCE
    while not condition():
        assert time.monotonic() < end, "the condition did not become true in time"
        time.sleep(0.02)


def workers_of(project: Path) -> list[int]:
    """Return the pids of all running processes that have the project's token, without the consoles of Windows."""
    mark = project_fingerprint(project)
    found = find_processes(lambda token: token.project == mark)
    return [process.pid for process in found if not is_console(process)]


def pointer_text(harness: ProcessHarness) -> str:
    """Return the content of the pointer file."""
    return harness.paths.pointer.read_text(encoding="utf-8")


def end(pid: int) -> None:
    """Kill a process, if it still exists."""
    with contextlib.suppress(OSError):
        os.kill(pid, 9)
