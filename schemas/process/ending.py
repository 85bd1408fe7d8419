"""The end of a program in order: Ctrl-C, a request to terminate, a closed console, the end of the user's session."""

from __future__ import annotations

import _thread
import atexit
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any, NoReturn

from schemas.process.session_window import SessionWindow

BREAK_EVENT, CLOSE_EVENT, LOGOFF_EVENT, SHUTDOWN_EVENT = 1, 2, 5, 6
_PATIENCE_S = 1.0  #: how long `exit_with` waits for each thread
LIMIT_S = 5.0
"""After this time Windows ends a program whose console was closed, or whose session ends."""
_is_closing = threading.Event()
_terminals: list[int] = []
"""The output descriptors that were a terminal when the program started."""


def is_closing() -> bool:
    """Return whether Windows ends this process within `LIMIT_S`."""
    return _is_closing.is_set()


@contextlib.contextmanager
def end_in_order() -> Iterator[None]:
    """Let every request to end act as Ctrl-C, and keep Windows waiting for the end of this process.

    - SIGTERM, SIGHUP and Ctrl-Break call the handler of SIGINT, unless the program handles or ignores them.
    - Windows: closing the console, logging off and shutting down do the same. Windows ends the process when the handler
      of such an event returns, or `LIMIT_S` later. So the handler never returns: the process ends before it.
    - Windows: `taskkill /PID` without /F asks for the same.

    For the main thread of a program that a user starts. Children that have a lifeline end with their parent instead.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _terminals[:] = [descriptor for descriptor in (1, 2) if os.isatty(descriptor)]
    with contextlib.ExitStack() as stack:
        for name in ("SIGTERM", "SIGHUP", "SIGBREAK"):
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) is signal.SIG_DFL:
                signal.signal(number, act_as_ctrl_c)
                stack.callback(_stop_handling, number)
        if sys.platform == "win32":
            stack.enter_context(_console_events())
            if not is_wine():  # it never ends a session, and would start its desktop for the window
                stack.enter_context(SessionWindow(on_end=_end_session, on_close=_interrupt))
        yield


def _stop_handling(number: int) -> None:
    if signal.getsignal(number) is act_as_ctrl_c:
        signal.signal(number, signal.SIG_DFL)


def act_as_ctrl_c(number: int, frame: FrameType | None) -> None:
    """Handle a signal as the program handles Ctrl-C.

    When a terminal closes, the system and the shell both send SIGHUP: the second one is ignored, because a second
    Ctrl-C ends most programs at once.
    """
    if number == getattr(signal, "SIGHUP", None):
        signal.signal(number, signal.SIG_IGN)
        _discard_output_to_closed_terminal()
    handler = signal.getsignal(signal.SIGINT)
    if not callable(handler):
        raise KeyboardInterrupt
    handler(signal.SIGINT, frame)


def _discard_output_to_closed_terminal() -> None:
    """Connect the outputs that were a terminal to the null device: writing to a closed terminal is an error."""
    null = os.open(os.devnull, os.O_WRONLY)
    for descriptor in _terminals:
        if not os.isatty(descriptor):
            os.dup2(null, descriptor)
    os.close(null)


def handle_console_event(event: int) -> bool:
    """Handle an event of Windows on a thread of Windows. Return whether it was handled; do not return from an end."""
    if event == BREAK_EVENT:
        return _interrupt()
    if event not in {CLOSE_EVENT, LOGOFF_EVENT, SHUTDOWN_EVENT}:
        return False
    if event == LOGOFF_EVENT and is_service():  # a service gets it if any user logs off, and continues
        return True
    _is_closing.set()
    if not _interrupt():
        return False
    threading.Event().wait()
    return True


def _end_session(is_logoff: bool) -> None:
    handle_console_event(LOGOFF_EVENT if is_logoff else SHUTDOWN_EVENT)


def _interrupt() -> bool:
    """Let the main thread handle Ctrl-C; return False if the program does not handle it."""
    if not callable(signal.getsignal(signal.SIGINT)):
        return False
    _thread.interrupt_main(signal.SIGINT)
    return True


def is_wine() -> bool:
    """Return whether this process runs on Wine, and not on Windows."""
    import ctypes

    return sys.platform == "win32" and hasattr(ctypes.WinDLL("ntdll"), "wine_get_version")


def is_service() -> bool:
    """Return whether this process runs in the session of Windows services."""
    if sys.platform != "win32":
        return False
    import ctypes

    kernel32, session = ctypes.WinDLL("kernel32"), ctypes.c_uint32(1)
    found = kernel32.ProcessIdToSessionId(kernel32.GetCurrentProcessId(), ctypes.byref(session))
    return bool(found) and session.value == 0


if sys.platform == "win32":

    @contextlib.contextmanager
    def _console_events() -> Iterator[Any]:
        """Register the handler of console events for the length of the `with` block, and provide it."""
        import ctypes

        kernel32 = ctypes.WinDLL("kernel32")
        prototype = ctypes.WINFUNCTYPE(ctypes.c_int, ctypes.c_uint32)
        handler = prototype(handle_console_event)
        kernel32.SetConsoleCtrlHandler.argtypes = (prototype, ctypes.c_int)
        kernel32.SetConsoleCtrlHandler(handler, True)
        try:
            yield handler
        finally:
            kernel32.SetConsoleCtrlHandler(handler, False)


def exit_with(code: int) -> NoReturn:
    """End the process with this exit code, also if threads that a user's simulator has started would keep it alive."""
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join(_PATIENCE_S)
            if thread.is_alive():
                atexit._run_exitfuncs()  # what the interpreter would run after it has waited for all threads
                for stream in (sys.stdout, sys.stderr):
                    stream.flush()
                os._exit(code)
    sys.exit(code)
