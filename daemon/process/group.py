"""What keeps a child's family together, so that it ends together: a session on POSIX, a job object on Windows."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from typing import Any, Protocol

import psutil

from daemon.process.windows_job import CREATE_SUSPENDED, JobObject


class ProcessGroup(Protocol):
    """One child's. Only called while its pid is still its own: not yet waited for."""

    options: Mapping[str, Any]  #: for subprocess.Popen

    def assign(self, pid: int) -> None:
        """Hold the child that was just started."""

    def terminate(self, pid: int) -> None:
        """Ask the child to end where the system has a way to."""

    def kill(self, pid: int) -> None:
        """Kill the child and those of its family that have not left it."""

    def close(self) -> None:
        """Return the system's resources back."""


class PosixSession:
    """A session, and so a process group, of its own."""

    options: Mapping[str, Any] = {"start_new_session": True}

    def assign(self, pid: int) -> None:
        """Nothing to do: the child began in it."""

    def terminate(self, pid: int) -> None:
        """Send SIGTERM to the child alone; what it does with its family is its own affair."""
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGTERM)

    def kill(self, pid: int) -> None:
        """Send SIGKILL to the whole group."""
        if sys.platform != "win32":
            with contextlib.suppress(OSError):
                os.killpg(pid, signal.SIGKILL)

    def close(self) -> None:
        """Nothing to give back."""


class WindowsJob:
    """A job object that Windows ends when our handle on it goes, however this process ends."""

    def __init__(self, job: JobObject | None = None) -> None:
        group = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)
        self.options: Mapping[str, Any] = {"creationflags": group | CREATE_SUSPENDED}
        self._job = job or JobObject()

    def assign(self, pid: int) -> None:
        """Put the child into the job before it runs: what it starts is in it as well."""
        try:
            self._job.assign(pid)
        finally:
            psutil.Process(pid).resume()

    def terminate(self, pid: int) -> None:
        """Nothing that a child could catch without a console: its lifeline asks it."""

    def kill(self, pid: int) -> None:
        """End all that is in the job."""
        self._job.terminate()

    def close(self) -> None:
        """Let go of the job; what is still in it ends."""
        self._job.close()


def process_group() -> ProcessGroup:
    """Return the one that this system has."""
    return WindowsJob() if sys.platform == "win32" else PosixSession()
