"""A child process with all its descendants: starting it, and ending it with all of them."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from schemas.process.group import process_group
from schemas.process.run_token import TOKEN_VARIABLE, kill_processes, new_token

KILL_TIMEOUT_S = 5.0
_POLL_S = 0.02


class ProcessTree:
    """A child process and its descendants.

    Three things find the descendants: the session (POSIX) or job object (Windows) that they are started in, the list
    of the child's descendants while it runs, and a token in their environment.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        *,
        project: Path,
        environment: Mapping[str, str] | None = None,
        **options: Any,
    ) -> None:
        """Start the child, which works for a folder. Raises OSError or psutil.Error if it cannot be started.

        `options` are those of `subprocess.Popen`.
        """
        self.token = new_token(project)
        self._group = process_group()
        self._descendants: dict[int, psutil.Process] = {}
        variables = os.environ if environment is None else environment
        process: subprocess.Popen[bytes] | None = None
        try:
            process = subprocess.Popen(
                arguments, env={**variables, TOKEN_VARIABLE: str(self.token)}, **options, **self._group.options
            )
            self._group.assign(process.pid)
        except (OSError, psutil.Error):
            self._group.close()
            if process is not None:
                process.kill()
                process.communicate()
            raise
        self.process: subprocess.Popen[bytes] = process

    @property
    def pid(self) -> int:
        """Return the child's pid."""
        return self.process.pid

    def poll(self) -> int | None:
        """Return the child's exit code, or None while it runs; never blocks.

        If the system can do it, the child stays in the process table: until `release`, no other process can get its
        pid.
        """
        if self.process.returncode is not None or sys.platform == "win32" or not hasattr(os, "waitid"):
            return self.process.poll()
        try:
            ended = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return self.process.poll()
        if ended is None:
            return None
        return int(ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status)

    def wait(self, timeout_s: float) -> bool:
        """Return whether the child ends within `timeout_s`."""
        until = time.monotonic() + timeout_s
        while self.poll() is None:
            if time.monotonic() >= until:
                return False
            time.sleep(_POLL_S)
        return True

    def terminate(self) -> None:
        """Request the child to end, if the system can do that; its descendants are not signalled."""
        if self.poll() is None:
            self._record_descendants()
            self._group.terminate(self.pid)

    def kill(self) -> None:
        """Kill the child and its descendants; does not wait. A second call is allowed."""
        if self.process.returncode is None:  # afterwards another process may have the pid
            self._record_descendants()
            self._group.kill(self.pid)
        _kill_all(list(self._descendants.values()))

    def release(self) -> bool:
        """Kill the remaining descendants of an ended child; return False if the child or one of them still runs."""
        if self.poll() is None:
            return False
        self.kill()
        left = kill_processes(lambda token: token == self.token)
        self.process.poll()
        self._group.close()
        return not left

    def end(self, *, wait_s: float = 0.0) -> int | None:
        """Wait `wait_s` for the child to end by itself, then kill it and its descendants.

        Returns the exit code, or None if the child cannot be killed.
        """
        self.wait(wait_s)
        self.kill()
        self.wait(KILL_TIMEOUT_S)
        self.release()
        return self.process.returncode

    def _record_descendants(self) -> None:
        """Store the descendants while the child runs, because afterwards they have another parent."""
        with contextlib.suppress(psutil.Error):
            for process in psutil.Process(self.pid).children(recursive=True):
                self._descendants[process.pid] = process


def _kill_all(processes: Sequence[psutil.Process]) -> None:
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.kill()
