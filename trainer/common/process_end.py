"""The end of a process in which code of users has run."""

from __future__ import annotations

import atexit
import os
import sys
import threading
from typing import NoReturn

_PATIENCE_S = 1.0


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
