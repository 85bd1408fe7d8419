"""Reads jobs from standard input, and ends this process when the daemon is gone: standard input ends then."""

from __future__ import annotations

import os
import queue

from schemas.job import ExitCode
from schemas.process.lifeline import end_with_parent


class Lifeline:
    """Reads standard input on a thread of its own: each line is a job, and its end ends this process."""

    def __init__(self) -> None:
        self._lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self.exit_code = int(ExitCode.TEMPORARY)  #: of this process if standard input ends
        end_with_parent(self._read_jobs, exit_code=lambda: self.exit_code)

    def job_line(self) -> bytes:
        """Wait for the next job and return its line."""
        return self._lines.get()

    @property
    def is_quiet(self) -> bool:
        """Return whether no job waits."""
        return self._lines.empty()

    def _read_jobs(self) -> None:
        line = b""
        while chunk := os.read(0, 1 << 16):  # not sys.stdin: its lock would be held at exit
            *whole, line = (line + chunk).split(b"\n")
            for job in whole:
                self._lines.put(job)
