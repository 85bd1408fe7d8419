"""The hidden window that Windows asks to close, also when the user logs off or shuts the computer down.

Windows sends console events for the end of the session only to programs that have not loaded user32.dll. Python's
ctypes loads it, and pythonw does not have a console.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

QUERY_END_SESSION, END_SESSION = 0x11, 0x16
CLOSE = 0x10  #: `taskkill /PID` sends it
_DESTROY, _LEAVE = 0x02, 0x8000
_LOGOFF = 0x80000000
_START_TIMEOUT_S = 2.0


class SessionWindow:
    """Calls `on_end`, with whether the user logs off, when the session ends, and `on_close` if asked to close.

    Both are called on a thread of the window. The session does not end before `on_end` returns. If the window cannot
    be created, the end of the session ends the process at once.
    """

    def __init__(self, *, on_end: Callable[[bool], object], on_close: Callable[[], object]) -> None:
        self._on_end, self._on_close = on_end, on_close
        self._is_started = threading.Event()
        self.handle: int | None = None

    def __enter__(self) -> Self:
        threading.Thread(target=self._run, name="session-window", daemon=True).start()
        self._is_started.wait(_START_TIMEOUT_S)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if sys.platform == "win32" and self.handle is not None:
            import ctypes

            ctypes.WinDLL("user32").PostMessageW(ctypes.c_void_p(self.handle), _LEAVE, 0, 0)

    def answer(self, message: int, wide: int, long: int) -> int | None:
        """Handle a message about the end and return the answer, or None if it is about something else."""
        if message == QUERY_END_SESSION:
            return 1
        if message == END_SESSION and wide:
            self._on_end(bool(long & _LOGOFF))
        elif message == CLOSE:
            self._on_close()
        elif message != END_SESSION:
            return None
        return 0

    def _run(self) -> None:
        try:
            if sys.platform == "win32":
                _serve(self)
        except OSError:  # without a desktop there are no windows
            pass
        finally:
            self.handle = None
            self._is_started.set()


if sys.platform == "win32":
    import ctypes
    from ctypes import wintypes

    _RESULT = ctypes.c_ssize_t
    _PROCEDURE = ctypes.WINFUNCTYPE(_RESULT, wintypes.HWND, wintypes.UINT, wintypes.WPARAM, wintypes.LPARAM)

    class _WindowClass(ctypes.Structure):
        _fields_ = (
            ("style", wintypes.UINT),
            ("procedure", _PROCEDURE),
            ("class_extra", ctypes.c_int),
            ("window_extra", ctypes.c_int),
            ("instance", wintypes.HINSTANCE),
            ("icon", wintypes.HANDLE),
            ("cursor", wintypes.HANDLE),
            ("background", wintypes.HANDLE),
            ("menu", wintypes.LPCWSTR),
            ("name", wintypes.LPCWSTR),
        )

    def _serve(window: SessionWindow) -> None:
        """Create the window and handle its messages until it is closed. Raises OSError."""
        user32 = ctypes.WinDLL("user32", use_last_error=True)
        user32.DefWindowProcW.restype = _RESULT
        user32.DefWindowProcW.argtypes = (wintypes.HWND, wintypes.UINT, wintypes.WPARAM, wintypes.LPARAM)
        user32.CreateWindowExW.restype = wintypes.HWND
        user32.CreateWindowExW.argtypes = (
            *(wintypes.DWORD, wintypes.LPCWSTR, wintypes.LPCWSTR, wintypes.DWORD),
            *(ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_int),
            *(wintypes.HWND, wintypes.HMENU, wintypes.HINSTANCE, wintypes.LPVOID),
        )

        @_PROCEDURE
        def procedure(handle: int, message: int, wide: int, long: int) -> int:
            answer = window.answer(message, wide, long)
            if answer is not None:
                return answer
            if message == _LEAVE:
                user32.DestroyWindow(handle)
                return 0
            if message == _DESTROY:
                user32.PostQuitMessage(0)
                return 0
            return int(user32.DefWindowProcW(handle, message, wide, long))

        name = f"hotlap session {id(window)}"
        described = _WindowClass(procedure=procedure, name=name)
        if not user32.RegisterClassW(ctypes.byref(described)):
            raise ctypes.WinError(ctypes.get_last_error())
        handle = user32.CreateWindowExW(0, name, name, 0, 0, 0, 0, 0, None, None, None, None)
        if not handle:
            raise ctypes.WinError(ctypes.get_last_error())
        window.handle = handle
        window._is_started.set()
        message = wintypes.MSG()
        while user32.GetMessageW(ctypes.byref(message), None, 0, 0) > 0:
            user32.DispatchMessageW(ctypes.byref(message))
        user32.UnregisterClassW(name, None)
