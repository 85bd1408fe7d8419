"""The daemon's log: a file, the last lines in memory, and the console if the dashboard does not use it.

After the log was opened, no method raises, and no caller waits for the console: a thread prints the lines. If the
console is too slow, lines are not printed.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import queue
import shutil
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

from daemon.runtime.clock import REAL_CLOCK
from daemon.ui.terminal import unbuffered
from schemas.program.commands import usable
from schemas.storage.careful_open import open_regular
from schemas.storage.guarded import open_own
from schemas.text import ascii_safe, printable

LIMIT_BYTES = 10_000_000  #: of one file
OLD_FILES = 3  #: daemon.1.log is the youngest
LINES_KEPT = 200  #: in memory
TAIL_BYTES = 64 << 10  #: how much of the file of an earlier daemon is read
LINE_LIMIT = 2000  #: characters of one of its lines
CLOSE_TIMEOUT_S = 1.0  #: how long `close` waits for the console


class Log:
    """Writes lines such as `2026-11-21 12:00:01 INFO  [2/5] training`, in local time and ASCII, from any thread."""

    def __init__(
        self,
        path: Path,
        console: TextIO | None = None,
        *,
        limit_bytes: int = LIMIT_BYTES,
        utc_s: Callable[[], float] = REAL_CLOCK.utc_s,
    ) -> None:
        self._file = _LogFile(path, limit_bytes)
        self._console = None if console is None else _Printer(console)
        self._muted = False
        self._lines: deque[str] = deque(last_lines(path), maxlen=LINES_KEPT)
        self._lock = threading.Lock()
        self._utc_s = utc_s

    def info(self, text: str) -> None:
        """Log an event."""
        self._write("INFO", text)

    def warning(self, text: str) -> None:
        """Log something that users should check."""
        self._write("WARNING", text)

    def error(self, text: str) -> None:
        """Log a failure and its remedy."""
        self._write("ERROR", text)

    def tail(self, n: int) -> tuple[str, ...]:
        """Return the last `n` lines, oldest first; fewer if memory has fewer."""
        with self._lock:
            return tuple(self._lines)[-n:] if n > 0 else ()

    def mute_console(self) -> None:
        """Stop printing, because the dashboard uses the console."""
        self._muted = True

    def unmute_console(self) -> None:
        """Print again."""
        self._muted = False

    def close(self) -> None:
        """Print the waiting lines for at most `CLOSE_TIMEOUT_S`, and close the file. May be called again."""
        if self._console is not None:
            self._console.close()
        with self._lock:
            self._file.close()

    def _write(self, level: str, text: str) -> None:
        at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self._utc_s()))
        line = f"{at} {level:<5} {ascii_safe(usable(text))}"
        with self._lock:
            self._lines.append(line)
            self._file.write(line + "\n")
        if self._console is not None and not self._muted:
            self._console.print(line + "\n")


def last_lines(path: Path) -> list[str]:
    """Return the last complete lines that an earlier daemon wrote to its log; none if it cannot be read."""
    try:
        fd = open_regular(path, os.O_RDONLY)
    except OSError:
        return []
    with contextlib.suppress(OSError), os.fdopen(fd, "rb") as file:
        begin = max(0, os.fstat(fd).st_size - TAIL_BYTES)
        file.seek(begin)
        lines = file.read(TAIL_BYTES).decode("ascii", "replace").split("\n")[1 if begin else 0 : -1]
        return [printable(line.rstrip("\r"), limit=LINE_LIMIT) for line in lines[-LINES_KEPT:]]
    return []


class _LogFile:
    """A file that grows to a limit. Then its content is copied to another file and it is truncated.

    It is never renamed, because Windows refuses that while another program has it open.
    """

    def __init__(self, path: Path, limit: int) -> None:
        self._path = path
        self._limit = limit
        self._rotate_at = limit
        self._fd: int | None = None
        self._closed = False

    def write(self, line: str) -> None:
        """Append a line. If the write fails, the line is lost."""
        if self._closed:
            return
        with contextlib.suppress(OSError):
            fd = self._open()
            if os.fstat(fd).st_size >= self._rotate_at:
                self._rotate(fd)
            data = line.encode("ascii")
            while data:
                data = data[os.write(fd, data) :]

    def close(self) -> None:
        """Close the file; later lines are ignored."""
        self._closed = True
        self._close()

    def _open(self) -> int:
        """Return the open file, or a new one if the file was removed. Raises OSError."""
        if self._fd is not None:
            try:
                info = os.fstat(self._fd)
                if os.path.samestat(info, self._path.stat()) and info.st_nlink == 1:
                    return self._fd
            except FileNotFoundError:
                pass
            self._close()
        self._fd = open_own(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        return self._fd

    def _close(self) -> None:
        if self._fd is not None:
            with contextlib.suppress(OSError):
                os.close(self._fd)
        self._fd = None

    def _rotate(self, fd: int) -> None:
        """Copy the files, oldest first, then truncate. If a copy fails, the file may first grow to twice the limit."""
        names = [self._path, *(self._path.with_suffix(f".{k}{self._path.suffix}") for k in range(1, OLD_FILES + 1))]
        try:
            for old, new in reversed(list(itertools.pairwise(names))):
                if old.exists():
                    _copy(old, new)
        except OSError:
            if self._rotate_at == self._limit:
                self._rotate_at = 2 * self._limit
                return
        os.ftruncate(fd, 0)
        self._rotate_at = self._limit


def _copy(old: Path, new: Path) -> None:
    """Replace the content of one log by that of another one. Raises OSError, also for a link or a pipe."""
    source = os.fdopen(open_regular(old, os.O_RDONLY), "rb")
    with source, os.fdopen(open_own(new, os.O_WRONLY | os.O_CREAT), "wb") as target:
        target.truncate()
        shutil.copyfileobj(source, target, 1 << 20)


class _Printer:
    """Prints lines on a console that may be slow, stopped or closed. No caller waits."""

    def __init__(self, stream: TextIO) -> None:
        self._lines: queue.Queue[str | None] = queue.Queue(maxsize=500)
        self._thread = threading.Thread(target=self._run, args=(stream,), name="log console", daemon=True)
        self._thread.start()

    def print(self, line: str) -> None:
        """Queue a line for printing; skip it if too many lines wait."""
        with contextlib.suppress(queue.Full):
            self._lines.put_nowait(line)

    def close(self) -> None:
        """Stop after the waiting lines, or after `CLOSE_TIMEOUT_S` if the console is blocked."""
        with contextlib.suppress(queue.Full):
            self._lines.put_nowait(None)
        self._thread.join(CLOSE_TIMEOUT_S)

    def _run(self, stream: TextIO) -> None:
        with contextlib.suppress(OSError, ValueError):  # the console was closed
            write = unbuffered(stream)
            while (line := self._lines.get()) is not None:
                write(line)
