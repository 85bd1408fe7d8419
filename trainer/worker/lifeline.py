"""End the trainer when its daemon ends: stdin is closed then, and on Linux the kernel sends a signal as well."""

from __future__ import annotations

import os
import queue
import sys
import threading

from schemas.job import ExitCode

_PR_SET_PDEATHSIG = 1
_SIGKILL = 9


class Lifeline:
    """Reads stdin on its own thread: each line is a job, and the end of stdin ends this process."""

    def __init__(self) -> None:
        self._lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self.exit_code = int(ExitCode.TEMPORARY)  #: of the process if stdin ends
        threading.Thread(target=self._watch, name="lifeline", daemon=True).start()

    def next_line(self) -> bytes:
        """Return the next line when it arrives."""
        return self._lines.get()

    @property
    def has_line(self) -> bool:
        """Return whether a line has arrived that was not returned yet."""
        return not self._lines.empty()

    def _watch(self) -> None:
        try:
            line = b""
            while chunk := os.read(0, 1 << 16):  # not sys.stdin: its lock would be held at exit
                *whole, line = (line + chunk).split(b"\n")
                for job in whole:
                    self._lines.put(job)
        finally:
            _kill_process_group()
            os._exit(self.exit_code)


def _kill_process_group() -> None:
    """Kill the process group if this process leads it: processes that user code started, and this one."""
    if sys.platform != "win32" and os.getpgrp() == os.getpid():
        os.killpg(0, _SIGKILL)


def die_with_parent() -> None:
    """Ask Linux to kill this process when its parent dies. On other systems only the lifeline ends it.

    The kernel watches the parent *thread*: it must live as long as the daemon.
    """
    if sys.platform != "linux":
        return
    import ctypes

    parent = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, _SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # the parent died before the request
        os._exit(int(ExitCode.TEMPORARY))
