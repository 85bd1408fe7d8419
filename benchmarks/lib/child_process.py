"""Child processes of benchmarks: reading lines with a time limit, logs, and ending them."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

ROOT = Path(__file__).resolve().parents[2]
GRACE_S = 15.0  #: a daemon needs time to end its trainer
POLL_S = 0.5  #: between two checks of the other processes while waiting for a line
LOG_TAIL_LINES = 12  #: lines


class RunError(Exception):
    """A run cannot continue. The message has the reason and the last log lines."""


class Cancelled(Exception):
    """The benchmark is being stopped."""


class BenchChild:
    """A Python program of this checkout in its own session. Standard error goes to a log file."""

    def __init__(
        self, name: str, arguments: Sequence[str], *, folder: Path, captures_output: bool, one_thread: bool = True
    ) -> None:
        self.name, self.log = name, folder / f"{name}.log"
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-P", *arguments],
                cwd=folder,
                env=environment(one_thread=one_thread),
                stdin=subprocess.PIPE,  # a lifeline: it closes when this process ends
                stdout=subprocess.PIPE if captures_output else log,
                stderr=log,
                start_new_session=sys.platform != "win32",
                creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
            )
        if captures_output:
            threading.Thread(target=self._read_lines, name=f"{name} lines", daemon=True).start()

    def _read_lines(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as stdout:
            for line in stdout:
                self._lines.put(line.decode("utf-8", "replace").rstrip("\r\n"))
        self._lines.put(None)

    def next_line(self, timeout_s: float, stopping: threading.Event, *others: BenchChild) -> str | None:
        """Return the next line, or None at the end of the output.

        Raises RunError if none arrives within `timeout_s` or if one of the `others` has ended, and Cancelled.
        """
        end_s = time.monotonic() + timeout_s
        while time.monotonic() < end_s:
            if stopping.is_set():
                raise Cancelled
            with contextlib.suppress(queue.Empty):
                return self._lines.get(timeout=POLL_S)
            for other in others:
                if (code := other.poll()) is not None:
                    raise RunError(f"{other.name} ended with code {code}:\n{other.log_tail()}")
        logs = "\n".join(f"{child.name}:\n{child.log_tail()}" for child in (self, *others))
        raise RunError(f"no line from {self.name} for {timeout_s:.0f} s. Last log lines of {logs}")

    def send_line(self, line: str) -> None:
        """Write a line to its standard input. Raises RunError if it has ended."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(f"{line}\n".encode())
            self._process.stdin.flush()
        except OSError:
            raise RunError(f"{self.name} has ended:\n{self.log_tail()}") from None

    def poll(self) -> int | None:
        """Return the exit code, or None while it runs."""
        return self._process.poll()

    def expect_success(self, timeout_s: float) -> None:
        """Wait for its end. Raises RunError if it fails or does not end."""
        try:
            code = self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise RunError(f"{self.name} does not end:\n{self.log_tail()}") from None
        if code:
            raise RunError(f"{self.name} ended with code {code}:\n{self.log_tail()}")

    def log_tail(self) -> str:
        """Return the end of its log, indented."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_TAIL_LINES:]
        return "\n".join(f"    {line}" for line in lines) or "    (nothing)"

    def stop(self) -> None:
        """End it and its descendants: terminate, wait, kill. A second call does nothing."""
        processes = self._descendants()
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        if self.poll() is None:
            with contextlib.suppress(OSError):
                self._terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(GRACE_S)
        processes += self._descendants()
        if self.poll() is None:
            self._process.kill()
        for process in processes:  # psutil recognises a reused pid
            with contextlib.suppress(psutil.Error):
                process.kill()
        self._process.wait()

    def _terminate(self) -> None:
        if sys.platform == "win32":
            self._process.send_signal(signal.CTRL_BREAK_EVENT)
        else:
            self._process.terminate()

    def _descendants(self) -> list[psutil.Process]:
        """Return its descendants while it runs; later they cannot be found through their parent."""
        if self.poll() is None:
            with contextlib.suppress(psutil.Error):
                return psutil.Process(self._process.pid).children(recursive=True)
        return []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def environment(*, one_thread: bool = True) -> dict[str, str]:
    """Return an environment for this checkout, without the user's settings; with one thread for parallel runs."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HOTLAP_")}
    if one_thread:
        environment |= {f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL")}
    return environment | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8"}
