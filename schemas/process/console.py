"""The console of Windows: whether this process has one, and how children are started without a new window."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable

CREATE_NO_WINDOW = 0x08000000
"""The child gets a console without a window, which its own children share."""


def has_console() -> bool:
    """Return whether this process has a console: not under pythonw, in a service or if it was started detached."""
    if sys.platform != "win32":
        return True
    first = (ctypes.c_uint32 * 1)()
    return bool(ctypes.WinDLL("kernel32").GetConsoleProcessList(first, 1))


def window_flags(has_console: Callable[[], bool] = has_console) -> int:
    """Return the creation flags of a child that must not open a window; 0 if it shares the console of this process.

    Without them, Windows opens a window for each console program that a process without a console starts.
    """
    return 0 if sys.platform != "win32" or has_console() else CREATE_NO_WINDOW
