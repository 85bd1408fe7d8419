"""Windows: a program whose console closes. Usage: closing_console.py TRIGGER EVENT daemon|trainer ARGUMENT ...

EVENT is what happens when the file TRIGGER exists: the number of a console event, for which the registered handler is
called as Windows calls it, on a new thread of the system; or the number of a window message, which is sent to the
hidden window. If an end of the console or of the session returns, or after 5 s, the process ends with exit code 99:
Windows would end it as well.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from schemas.process import ending, session_window

TRIGGER, EVENT = Path(sys.argv[1]), int(sys.argv[2])
register = ending._console_events
ENDS = {ending.CLOSE_EVENT, ending.LOGOFF_EVENT, ending.SHUTDOWN_EVENT, session_window.END_SESSION}


def after_trigger(do: Callable[[], object]) -> None:
    def wait() -> None:
        while not TRIGGER.exists():
            time.sleep(0.05)
        do()
        if EVENT in ENDS:
            os._exit(99)

    threading.Thread(target=wait, daemon=True).start()


def call(handler: object) -> None:
    """Call the handler of console events on a new thread, and wait until it returns, for 5 s at most."""
    kernel32 = ctypes.WinDLL("kernel32")
    kernel32.CreateThread.restype = ctypes.c_void_p
    address = ctypes.cast(handler, ctypes.c_void_p)
    thread = kernel32.CreateThread(None, ctypes.c_size_t(0), address, ctypes.c_void_p(EVENT), 0, None)
    kernel32.WaitForSingleObject(ctypes.c_void_p(thread), int(1000 * ending.LIMIT_S))


@contextlib.contextmanager
def registered() -> Iterator[None]:
    with register() as handler:
        if EVENT <= ending.SHUTDOWN_EVENT:
            after_trigger(lambda: call(handler))
        yield


class Window(session_window.SessionWindow):
    """The hidden window, which gets the message."""

    def __enter__(self) -> Window:
        super().__enter__()
        if EVENT > ending.SHUTDOWN_EVENT:
            assert self.handle is not None, "the window could not be created"
            after_trigger(self.send)
        return self

    def send(self) -> None:
        result = ctypes.c_size_t()
        milliseconds = int(1000 * ending.LIMIT_S)
        send = ctypes.WinDLL("user32").SendMessageTimeoutW
        send(ctypes.c_void_p(self.handle), EVENT, ctypes.c_size_t(1), 0, 0, milliseconds, ctypes.byref(result))


if __name__ == "__main__":
    session_window._START_TIMEOUT_S = 30.0  # Wine starts its desktop first
    ending._console_events, ending.SessionWindow, ending.is_wine = registered, Window, bool
    if sys.argv[3] == "daemon":
        from tests.fakes.whole_daemon import run

        sys.exit(run(sys.argv[4:]))
    from trainer.cli import main

    sys.exit(main(sys.argv[4:]))
