"""Jobs from standard input. At the end of standard input, the daemon has ended, and this process ends as well."""

from __future__ import annotations

import os
import queue

from schemas.job import ExitCode
from schemas.process.lifeline import end_with_parent


class Lifeline:
    """Reads stdin on its own thread: each line is a job, and the end of stdin ends this process."""

    def __init__(self) -> None:
        self._lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self.exit_code = int(ExitCode.TEMPORARY)  #: exit code of the process if stdin ends
        end_with_parent(self._read_jobs, exit_code=lambda: self.exit_code)

    def next_line(self) -> bytes:
        """Wait for the next line and return it."""
        return self._lines.get()

    @property
    def has_line(self) -> bool:
        """Return whether a line has arrived that was not returned yet."""
        return not self._lines.empty()

    def _read_jobs(self, descriptor: int) -> None:
        line = b""
        while chunk := os.read(descriptor, 1 << 16):  # not sys.stdin: its lock would be held at exit
            *whole, line = (line + chunk).split(b"\n")
            for job in whole:
                self._lines.put(job)
