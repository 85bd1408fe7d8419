"""Progress lines, the run of one step's program, and the errors that a step can end with."""

from __future__ import annotations

import contextlib
import os
import queue
import shutil
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path


class SetupError(Exception):
    """Something that the user can fix. The message is one line: the cause, then the remedy."""


class Unavailable(SetupError):
    """The environment cannot be made on this machine, for example without apt or a network."""


class Progress:
    """One line for each step: rewritten on a terminal, and repeated every ten seconds elsewhere."""

    def __init__(self, out: Any = None, now: Callable[[], float] = time.monotonic) -> None:
        self._out, self._now = out or sys.stdout, now
        self._tty = bool(self._out.isatty())
        self._started_s = self._shown_s = now()
        self._doing = ""
        self.detail = ""  #: what the step is doing right now
        self.durations_s: dict[str, float] = {}  #: of the steps that did something

    def say(self, text: str) -> None:
        """Print a line."""
        self._write(f"[windows] {text}", "\n")

    @contextlib.contextmanager
    def step(self, name: str, text: str) -> Iterator[None]:
        """Show that a step runs, and how long it took."""
        self._started_s, self._doing, self.detail = self._now(), text, ""
        self._show()
        try:
            yield
        except BaseException:
            self._write("", "\n" if self._tty else "")
            raise
        took_s = self._now() - self._started_s
        self.durations_s[name] = took_s
        self.detail = ""
        self._write(f"[windows] {text}: {took_s:.1f} s", "\n")

    def tick(self) -> None:
        """Show the current step if it is time to."""
        if self._now() - self._shown_s >= (0.5 if self._tty else 10.0):
            self._show()

    def _show(self) -> None:
        self._shown_s = self._now()
        detail = f" ({self.detail})" if self.detail else ""
        line = f"[windows] {self._doing}{detail} ... {self._shown_s - self._started_s:.0f} s"
        self._write(line, "" if self._tty else "\n")

    def _write(self, line: str, end: str) -> None:
        if self._tty and line:  # a line of full width would wrap and stay on the screen
            width = shutil.get_terminal_size().columns - 1
            line = "\r" + line[:width].ljust(width)
        self._out.write(line + end)
        self._out.flush()


def run_program(
    argv: Sequence[str],
    progress: Progress,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    describe: Callable[[str], str] = lambda line: "",
) -> tuple[int, str]:
    """Run a program of a step and return its exit code and output. `describe` turns a line into a detail."""
    child = subprocess.Popen(
        list(argv),
        cwd=cwd,
        env=dict(os.environ if env is None else env),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert child.stdin is not None
    child.stdin.close()
    lines: queue.Queue[bytes] = queue.Queue()

    def read() -> None:
        for line in child.stdout or ():
            lines.put(line)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    output: list[str] = []
    try:
        while reader.is_alive() or not lines.empty():
            progress.tick()
            with contextlib.suppress(queue.Empty):
                line = lines.get(timeout=0.25).decode("utf-8", "replace").rstrip()
                output.append(line)
                progress.detail = describe(line) or progress.detail
        return child.wait(), "\n".join(output)
    except BaseException:  # after Ctrl-C the program must not continue to write to the cache
        child.terminate()
        child.wait()
        raise
    finally:
        if child.stdout is not None and not reader.is_alive():
            child.stdout.close()
