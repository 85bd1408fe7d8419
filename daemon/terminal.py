"""The console as it is: it may block, close, lie about its size, or stop everything when someone clicks into it.

Whoever writes here does so from a thread of its own that nobody has to wait for.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable
from typing import TextIO

ENTER = "\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[2J"
"""Alternate screen, no cursor, no wrapping, nothing on it."""
LEAVE = "\x1b[0m\x1b[?7h\x1b[?25h\x1b[?1049l"
"""The reverse."""


def wants_dashboard(stream: TextIO | None) -> bool:
    """Tell whether a stream is a terminal that can show pictures, and ours to draw on."""
    if os.environ.get("TERM", "").lower() in {"dumb", "unknown"} or (
        sys.platform != "win32" and "TERM" not in os.environ
    ):
        return False
    try:
        return stream is not None and stream.isatty() and _is_in_foreground(stream.fileno())
    except (OSError, ValueError, AttributeError):
        return False


def _is_in_foreground(fd: int) -> bool:
    """False for `python -m daemon &`, whose terminal the shell goes on using."""
    if sys.platform == "win32":
        return True
    try:
        return os.tcgetpgrp(fd) == os.getpgrp()
    except OSError:  # not the terminal that we were started from
        return True


def size_of(stream: TextIO) -> tuple[int, int]:
    """Give columns and rows; 80 by 24 where the terminal does not say."""
    try:
        columns, rows = os.get_terminal_size(stream.fileno())
    except (OSError, ValueError, AttributeError):
        columns, rows = 0, 0
    return (min(columns, 500), min(rows, 200)) if columns > 0 and rows > 0 else (80, 24)


def unbuffered(stream: TextIO) -> Callable[[str], None]:
    """Give a function that writes text past the stream's buffer.

    A thread that hangs in a buffered write holds the buffer's lock, and the interpreter dies of that when it
    flushes the buffer at its end. Text that the encoding does not have is written as escapes.
    """
    raw = getattr(getattr(stream, "buffer", None), "raw", None)
    encoding = getattr(stream, "encoding", None) or "ascii"

    def write(text: str) -> None:
        data = memoryview(text.encode(encoding, "backslashreplace"))
        if raw is None:
            stream.write(str(data, encoding))
            stream.flush()
            return
        while data:
            written = raw.write(data)
            if not written:
                raise BlockingIOError("the console takes nothing")
            data = data[written:]

    return write


if sys.platform == "win32":
    import ctypes
    import msvcrt

    _QUICK_EDIT, _EXTENDED_FLAGS, _VIRTUAL_TERMINAL = 0x40, 0x80, 0x4
    _STD_INPUT = -10

    @contextlib.contextmanager
    def prepared(stream: TextIO) -> Iterator[None]:
        """Escape sequences work, and a click into the window does not stop us (QuickEdit), until the end.

        Raises OSError on a console that knows no escape sequences.
        """
        kernel = ctypes.WinDLL("kernel32", use_last_error=True)
        kernel.GetStdHandle.restype = ctypes.c_void_p
        output, keyboard = msvcrt.get_osfhandle(stream.fileno()), kernel.GetStdHandle(_STD_INPUT)
