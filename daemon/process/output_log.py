"""The log of a child's output: limited in size and without control characters. The child never waits for it."""

from __future__ import annotations

import codecs
import contextlib
import os
import re
import threading
from pathlib import Path
from typing import IO

from schemas.program.children import CODE_ROOT
from schemas.storage.careful_open import open_regular
from schemas.storage.files import REAL_DISK
from schemas.storage.guarded import open_own
from schemas.storage.held_open import retry_while_held_open

LIMIT_BYTES = 8 << 20
HEAD_BYTES = 64 << 10
_HELD_OPEN_TIMEOUT_S = 0.5
"""How much of the beginning is kept when the middle is removed."""
_CONTROLS = bytes(byte for byte in range(0x20) if byte not in b"\t\n\r") + b"\x7f"
_TO_QUESTION_MARKS = bytes.maketrans(_CONTROLS, b"?" * len(_CONTROLS))
_UNSAFE = re.compile("[\x80-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")
_FRAME = re.compile(r'\s+File "(?P<file>[^"<]+)", line (?P<line>\d+)')
_LIBRARY = re.compile(r"[/\\](site-packages|dist-packages|lib[/\\]python\d[\d.]*|Lib)[/\\]")
_HOTLAP = tuple(CODE_ROOT / package for package in ("daemon", "trainer", "schemas"))


class ChildLog:
    """A log file for any thread. If a write fails, the text is lost and the child continues."""

    def __init__(self, path: Path, *, limit: int = LIMIT_BYTES, head: int = HEAD_BYTES) -> None:
        self._limit, self._head = limit, head
        self._lock = threading.Lock()
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._file: IO[bytes] | None = None
        self._open(path)

    def write(self, data: bytes) -> None:
        """Append to the log. Above the size limit, only the beginning and the newest part are kept."""
        text = self._decoder.decode(data.translate(_TO_QUESTION_MARKS))
        safe = text if text.isascii() else _UNSAFE.sub("?", text)
        with self._lock:
            if self._file is None:
                return
            with contextlib.suppress(OSError):
                self._file.write(safe.encode("utf-8"))
                if self._file.tell() > self._limit:
                    self._remove_middle(self._file)

    def move_to(self, path: Path) -> None:
        """Close the file, and append to another file from now on."""
        with self._lock:
            self._close_file()
            self._open(path)

    def close(self) -> None:
        """Close the log; later writes are ignored."""
        with self._lock:
            self._close_file()

    def _open(self, path: Path) -> None:
        with contextlib.suppress(OSError):
            descriptor = retry_while_held_open(
                lambda: open_own(path, os.O_RDWR | os.O_CREAT), pause=REAL_DISK.pause, timeout_s=_HELD_OPEN_TIMEOUT_S
            )
            self._file = os.fdopen(descriptor, "r+b", buffering=0)
            self._file.seek(0, 2)

    def _close_file(self) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()
            self._file = None

    def _remove_middle(self, file: IO[bytes]) -> None:
        tail_bytes = self._limit // 2
        file.seek(file.tell() - tail_bytes)
        tail = _whole_characters(file.read(tail_bytes))
        file.seek(0)
        head = _whole_characters(file.read(self._head))
        file.seek(len(head))
        file.write(b"\n[... the middle was removed: this log is limited to %d KB ...]\n" % (self._limit // 1024))
        file.write(tail)
        file.truncate()


def _whole_characters(data: bytes) -> bytes:
    return data.decode("utf-8", "ignore").encode("utf-8")


def last_line(log: Path, *, limit: int = 8192) -> str:
    """Return the last line of a log that is not empty, or "" if all are empty or the log cannot be read."""
    return next((line.strip() for line in reversed(_last_lines(log, limit)) if line.strip()), "")


def last_error(log: Path, *, limit: int = 32768) -> str:
    """Return the last line of a log. If a Python traceback ends the log, return its error with the place in user code.

    `ValueError: too short (train.py, line 12)`. The place is left out if all of it is in Hotlap, Python or packages.
    """
    lines = _last_lines(log, limit)
    frames = [(k, found) for k, line in enumerate(lines) if (found := _FRAME.match(line))]
    after = lines[frames[-1][0] + 1 :] if frames else []
    error = next((line for line in after if line[:1].strip()), "")
    own = [found for _, found in frames if not _is_library(found["file"])]
    if not error or not own:
        return last_line(log)
    return f"{error.strip()} ({Path(own[-1]['file']).name}, line {own[-1]['line']})"


def _is_library(file: str) -> bool:
    return _LIBRARY.search(file) is not None or any(Path(file).is_relative_to(folder) for folder in _HOTLAP)


def _last_lines(log: Path, limit: int) -> list[str]:
    try:
        descriptor = retry_while_held_open(lambda: open_regular(log, os.O_RDONLY), pause=REAL_DISK.pause)
        with os.fdopen(descriptor, "rb") as file:
            file.seek(max(0, os.fstat(descriptor).st_size - limit))
            return file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return []
