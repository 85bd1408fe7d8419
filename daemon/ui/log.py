"""The daemon's log: a file, the last lines in memory, and the console where no dashboard uses it.

Nothing here raises once the log is open, and no caller ever waits for a console: a thread of its own prints, and
lines that it cannot keep up with are left out there.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import queue
import shutil
import stat
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

from daemon.runtime.clock import REAL_CLOCK
from daemon.ui.terminal import unbuffered
from schemas.program.commands import usable
from schemas.text import ascii_safe

LIMIT_BYTES = 10_000_000  #: of one file
OLD_FILES = 3  #: daemon.1.log is the youngest
LINES_KEPT = 200  #: in memory
TIMEOUT_S = 1.0  #: how long `close` waits for the console


class Log:
    """Lines such as `2026-11-21 12:00:01 INFO  [2/5] training`, in local time and ASCII. Any thread may write."""

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
        self._lines: deque[str] = deque(maxlen=LINES_KEPT)
        self._lock = threading.Lock()
        self._utc_s = utc_s

    def info(self, text: str) -> None:
        """Say what happens."""
        self._write("INFO", text)

    def warning(self, text: str) -> None:
        """Say what people should look at."""
        self._write("WARNING", text)

    def error(self, text: str) -> None:
        """Say what failed, and the remedy."""
        self._write("ERROR", text)

    def tail(self, n: int) -> tuple[str, ...]:
        """Return the last lines, at most `n` and at most those kept, oldest first."""
        with self._lock:
            return tuple(self._lines)[-n:] if n > 0 else ()

    def mute_console(self) -> None:
        """Print nothing from now on: the dashboard has the console."""
        self._muted = True

    def unmute_console(self) -> None:
        """Print again: the dashboard is gone."""
        self._muted = False

    def close(self) -> None:
        """Write out what the console takes within a second, and close the file. May be called again."""
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


class _LogFile:
    """A file that grows to a limit. Then its content is copied away and it is emptied in place.

    It is never renamed: Windows refuses that while anyone has it open.
    """

    def __init__(self, path: Path, limit: int) -> None:
        self._path = path
        self._limit = limit
        self._rotate_at = limit
        self._fd: int | None = None
        self._closed = False

    def write(self, line: str) -> None:
        """Append a line; a disk or a folder that refuses loses it."""
        if self._closed:
            return
        with contextlib.suppress(OSError):
            fd = self._opened()
            if os.fstat(fd).st_size >= self._rotate_at:
                self._rotate(fd)
            data = line.encode("ascii")
            while data:
                data = data[os.write(fd, data) :]

    def close(self) -> None:
        """Write nothing more."""
        self._closed = True
        self._forget()

    def _opened(self) -> int:
        """Return the file under our name: a new one where someone removed it. Raises OSError."""
        if self._fd is not None:
            try:
                if os.path.samestat(os.fstat(self._fd), self._path.stat()):
                    return self._fd
            except FileNotFoundError:
                pass
            self._forget()
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
        for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "O_BINARY", "O_NOINHERIT"):
            flags |= getattr(os, name, 0)
        fd = os.open(self._path, flags, 0o644)
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise OSError(f"{self._path.name} is not a regular file")
        self._fd = fd
        return fd

    def _forget(self) -> None:
        if self._fd is not None:
            with contextlib.suppress(OSError):
                os.close(self._fd)
        self._fd = None

    def _rotate(self, fd: int) -> None:
        """Copy oldest first, then empty. Where the copy fails, go on up to twice the limit before giving it up."""
        names = [self._path, *(self._path.with_suffix(f".{k}{self._path.suffix}") for k in range(1, OLD_FILES + 1))]
        try:
            for old, new in reversed(list(itertools.pairwise(names))):
                if old.exists():
                    shutil.copyfile(old, new, follow_symlinks=False)
        except OSError:
            if self._rotate_at == self._limit:
                self._rotate_at = 2 * self._limit
                return
        os.ftruncate(fd, 0)
        self._rotate_at = self._limit


class _Printer:
    """Prints lines on a console that may be slow, stopped or closed, without anybody waiting."""

    def __init__(self, stream: TextIO) -> None:
        self._lines: queue.Queue[str | None] = queue.Queue(maxsize=500)
        self._thread = threading.Thread(target=self._run, args=(stream,), name="log console", daemon=True)
        self._thread.start()

    def print(self, line: str) -> None:
        """Print soon, or never where too much waits already."""
        with contextlib.suppress(queue.Full):
            self._lines.put_nowait(line)

    def close(self) -> None:
        """Stop, within a second also where the console does not."""
        with contextlib.suppress(queue.Full):
            self._lines.put_nowait(None)
        self._thread.join(TIMEOUT_S)

    def _run(self, stream: TextIO) -> None:
        with contextlib.suppress(OSError, ValueError):  # the console was closed: go on without it
            write = unbuffered(stream)
            while (line := self._lines.get()) is not None:
                write(line)
