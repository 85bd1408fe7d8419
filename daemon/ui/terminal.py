"""The terminal: its size, unbuffered writes, and its preparation on Windows.

A write blocks while the terminal is stopped, so only threads that no other thread waits for may write.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Callable, Iterator
from typing import TextIO

from daemon.runtime.clock import REAL_CLOCK

ENTER = "\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[2J"
"""Switch to the alternate screen, hide the cursor, disable line wrapping, clear the screen."""
LEAVE = "\x1b[0m\x1b[?7h\x1b[?25h\x1b[H\x1b[2J\x1b[?1049l"
"""Undo ENTER. The screen is cleared first, because tmux shows parts of it after a change of size."""


def wants_dashboard(stream: TextIO | None) -> bool:
    """Return whether a stream is a terminal that can show the dashboard and the daemon is in its foreground."""
    usual = "" if sys.platform == "win32" else "dumb"
    if os.environ.get("TERM", usual).lower() in {"dumb", "unknown"}:
        return False
    try:
        return stream is not None and stream.isatty() and _is_in_foreground(stream.fileno())
    except (OSError, ValueError, AttributeError):
        return False


def _is_in_foreground(fd: int) -> bool:
    """Return whether this process may use the terminal: not after `hotlap &`, because the shell uses it."""
    if sys.platform == "win32":
        return True
    try:
        return os.tcgetpgrp(fd) == os.getpgrp()
    except OSError:  # it is not the terminal of this session, so no shell uses it
        return True


def size_of(stream: TextIO) -> tuple[int, int]:
    """Return columns and rows; 80 by 24 if the terminal does not report them."""
    try:
        columns, rows = os.get_terminal_size(stream.fileno())
    except (OSError, ValueError, AttributeError):
        columns, rows = 0, 0
    return (min(columns, 400), min(rows, 150)) if columns > 0 and rows > 0 else (80, 24)


def unbuffered(stream: TextIO) -> Callable[[str], None]:
    """Return a function that writes text without the stream's buffer.

    A thread that is blocked in a buffered write has locked the buffer, and the interpreter would wait for this lock
    forever at its exit. Characters that the encoding does not have are written as escapes.
    """
    buffer = getattr(stream, "buffer", None)
    raw = getattr(buffer, "raw", buffer if isinstance(buffer, io.RawIOBase) else None)  # raw itself with `python -u`
    encoding = getattr(stream, "encoding", None) or "ascii"

    def write(text: str) -> None:
        data = text.encode(encoding, "backslashreplace")
        if raw is None:
            stream.write(data.decode(encoding))
            stream.flush()
            return
        while data:
            written = raw.write(data)
            if written is None:  # another program made the terminal non-blocking
                REAL_CLOCK.sleep(0.05)
            else:
                data = data[written:]

    return write


if sys.platform == "win32":
    import ctypes
    import msvcrt
    from ctypes import wintypes

    STD_INPUT = wintypes.DWORD(-10)
    QUICK_EDIT, EXTENDED_FLAGS = 0x40, 0x80
    WRAP, VIRTUAL_TERMINAL, DELAY_WRAP = 0x02, 0x04, 0x08

    class ScreenInfo(ctypes.Structure):
        """CONSOLE_SCREEN_BUFFER_INFO."""

        _fields_ = [
            ("size", wintypes._COORD),
            ("cursor", wintypes._COORD),
            ("attributes", wintypes.WORD),
            ("window", wintypes.SMALL_RECT),
            ("largest_window", wintypes._COORD),
        ]

    def kernel_functions() -> ctypes.WinDLL:
        """Return kernel32 with the types of the console functions."""
        kernel = ctypes.WinDLL("kernel32", use_last_error=True)
        kernel.GetStdHandle.argtypes, kernel.GetStdHandle.restype = [wintypes.DWORD], wintypes.HANDLE
        kernel.GetConsoleMode.argtypes = [wintypes.HANDLE, wintypes.LPDWORD]
        kernel.SetConsoleMode.argtypes = [wintypes.HANDLE, wintypes.DWORD]
        kernel.GetConsoleScreenBufferInfo.argtypes = [wintypes.HANDLE, ctypes.POINTER(ScreenInfo)]
        kernel.WriteConsoleW.argtypes = [
            wintypes.HANDLE, wintypes.LPCWSTR, wintypes.DWORD, wintypes.LPDWORD, wintypes.LPVOID,
        ]  # fmt: skip
        return kernel

    def shows_escapes_as_text(kernel: ctypes.WinDLL, screen: int) -> bool:
        """Return whether a console moves its cursor for an escape sequence. Wine's does, although it sets the mode."""

        def write(text: str) -> bool:
            return bool(kernel.WriteConsoleW(screen, text, len(text), ctypes.byref(wintypes.DWORD()), None))

        before, after, text = ScreenInfo(), ScreenInfo(), "\x1b[0m"
        moved = (
            kernel.GetConsoleScreenBufferInfo(screen, ctypes.byref(before))
            and write(text)
            and kernel.GetConsoleScreenBufferInfo(screen, ctypes.byref(after))
            and (before.cursor.X, before.cursor.Y) != (after.cursor.X, after.cursor.Y)
        )
        if moved:
            write("\b \b" * len(text))
        return bool(moved)

    @contextlib.contextmanager
    def prepare_console(stream: TextIO) -> Iterator[None]:
        """Enable escape sequences, and disable QuickEdit, because with it a click into the window stops all output.

        Also disable line wrapping, because the consoles of Windows 10 ignore the escape sequence for it and could
        scroll when the last column of the last row is written. Raises OSError if the console does not support escape
        sequences.
        """
        kernel = kernel_functions()

        @contextlib.contextmanager
        def mode(handle: int | None, *on: int, off: int) -> Iterator[bool]:
            """Set the first of several modes that the console accepts, and restore the old one at the end."""
            before = wintypes.DWORD()
            if not kernel.GetConsoleMode(handle, ctypes.byref(before)):
                yield False
                return
            done = any(kernel.SetConsoleMode(handle, before.value & ~off | flags) for flags in on)
            try:
                yield done
            finally:
                kernel.SetConsoleMode(handle, before.value)

        screen, keyboard = msvcrt.get_osfhandle(stream.fileno()), kernel.GetStdHandle(STD_INPUT)
        with (
            mode(screen, VIRTUAL_TERMINAL | DELAY_WRAP, VIRTUAL_TERMINAL, off=WRAP) as has_escapes,
            mode(keyboard, EXTENDED_FLAGS, off=QUICK_EDIT),
        ):
            if not has_escapes or shows_escapes_as_text(kernel, screen):
                raise OSError("this console does not support escape sequences")
            yield

else:

    @contextlib.contextmanager
    def prepare_console(_stream: TextIO) -> Iterator[None]:
        """Do nothing: terminals of this system support escape sequences, and a click does not stop the output."""
        yield
