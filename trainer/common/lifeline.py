"""Lifeline: a trainer process ends when its stdin ends, and on Linux when its parent dies."""

from __future__ import annotations

import os
import queue
import sys
import threading

from schemas.job import ExitCode

_PR_SET_PDEATHSIG = 1
_SIGKILL = 9


class Lifeline:
    """Reads stdin on a thread of its own: each line is a job, the end of it is the end of this process."""

    def __init__(self) -> None:
        self._lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self.exit_code = int(ExitCode.TEMPORARY)  #: what the process ends with when the line is cut
        threading.Thread(target=self._watch, name="lifeline", daemon=True).start()

    def job_line(self) -> bytes:
        """Wait for the next job."""
        return self._lines.get()

    @property
    def is_quiet(self) -> bool:
        """Return whether no job waits."""
        return self._lines.empty()

    def _watch(self) -> None:
        try:
            line = b""
            while chunk := os.read(0, 1 << 16):  # not sys.stdin: its lock would be held at exit
                *whole, line = (line + chunk).split(b"\n")
                for job in whole:
                    self._lines.put(job)
        finally:
            _end_workers()
            os._exit(self.exit_code)


def _end_workers() -> None:
    """End the process group where it is ours alone: workers that user code started, and this process with them."""
    if sys.platform != "win32" and os.getpgrp() == os.getpid():
        os.killpg(0, _SIGKILL)


def die_with_parent() -> None:
    """Ask Linux to kill this process when its parent dies; elsewhere the lifeline alone must do.

    The kernel means the *thread* that started us: the daemon must start its trainers from the thread it lives on.
    """
    if sys.platform != "linux":
        return
    import ctypes

    parent = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, _SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it died just before we asked
        os._exit(int(ExitCode.TEMPORARY))
