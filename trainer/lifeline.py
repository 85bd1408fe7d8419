"""No trainer outlives its daemon: stdin's end means that the daemon is gone, on Linux the kernel says it as well."""

from __future__ import annotations

import os
import queue
import sys
import threading

from schemas.job import ExitCode

_PR_SET_PDEATHSIG = 1
_SIGKILL = 9


class Lifeline:
    """Reads stdin on a thread of its own: the first line is the job, the end of it is the end of this process."""

    def __init__(self) -> None:
        self._lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self.exit_code = int(ExitCode.TEMPORARY)  #: what the process ends with when the line is cut
        self._given = False
        threading.Thread(target=self._watch, name="lifeline", daemon=True).start()

    def job_line(self) -> bytes:
        """Wait for the job."""
        return self._lines.get()

    def _watch(self) -> None:
        try:
            line = b""
            while chunk := os.read(0, 1 << 16):  # not sys.stdin: its lock would be held at exit
                line += chunk
                if not self._given and b"\n" in line:
                    self._given = True
                    self._lines.put(line.partition(b"\n")[0])
                line = b"" if self._given else line
        finally:
            os._exit(self.exit_code)


def die_with_parent() -> None:
    """Ask Linux to kill this process when its parent dies; elsewhere the lifeline alone must do.

    The kernel means the *thread* that started us: the daemon must start its trainers from the thread it lives on.
    """
    if sys.platform != "linux":
        return
    import ctypes

    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, _SIGKILL, 0, 0, 0)
