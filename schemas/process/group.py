"""The group of a child and its descendants, which end together: a session on POSIX, a job object on Windows."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from typing import Any, Protocol

import psutil

from schemas.process.console import window_flags
from schemas.process.windows_job import CREATE_SUSPENDED, JobObject, job_for_child


class ProcessGroup(Protocol):
    """The group of one child. Call it only while the child is in the process table: its pid is not reused before."""

    options: Mapping[str, Any]  #: for subprocess.Popen

    def assign(self, pid: int) -> None:
        """Add the child, which was just started."""

    def terminate(self, pid: int) -> None:
        """Request the child to end, if the system can do that."""

    def kill(self, pid: int) -> None:
        """Kill the child and those of its descendants that are still in the group."""

    def close(self) -> None:
        """Release the system's resources."""


class PosixSession:
    """A new session, which is also a new process group."""

    options: Mapping[str, Any] = {"start_new_session": True}

    def assign(self, pid: int) -> None:
        """Do nothing: the child was started in the session."""

    def terminate(self, pid: int) -> None:
        """Send SIGTERM to the child only; it decides about its own children."""
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGTERM)

    def kill(self, pid: int) -> None:
        """Send SIGKILL to the whole group."""
        if sys.platform != "win32":
            with contextlib.suppress(OSError):
                os.killpg(pid, signal.SIGKILL)

    def close(self) -> None:
        """Do nothing: a session does not need resources."""


class WindowsJob:
    """A job object: Windows ends its processes when the handle is closed, also if this process is killed.

    With `shares_ctrl_c` the child also gets the Ctrl-C of this process's console. Otherwise this process decides when
    the child ends.
    """

    def __init__(self, job: JobObject | None = None, *, shares_ctrl_c: bool = False) -> None:
        group = 0 if shares_ctrl_c else getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)
        self.options: Mapping[str, Any] = {"creationflags": group | CREATE_SUSPENDED | window_flags()}
        self._job = job or job_for_child()

    def assign(self, pid: int) -> None:
        """Put the child into the job before it runs, so that its descendants are in the job as well."""
        try:
            self._job.assign(pid)
        finally:
            psutil.Process(pid).resume()

    def terminate(self, pid: int) -> None:
        """Do nothing: Windows has no signal for a child without a console. The end of the lifeline ends the child."""

    def kill(self, pid: int) -> None:
        """End all processes in the job."""
        self._job.terminate()

    def close(self) -> None:
        """Close the job, which ends its remaining processes."""
        self._job.close()


def process_group() -> ProcessGroup:
    """Return a new group of this system's kind."""
    return WindowsJob() if sys.platform == "win32" else PosixSession()
