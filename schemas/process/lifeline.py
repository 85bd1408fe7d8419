"""End a child process when its parent has ended. Standard library only: script_wrapper.py loads this file by its path.

The lifeline is the child's standard input: the parent has the other end of the pipe, and the system closes that end
when the parent ends, also if it is killed.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from functools import partial
from typing import NoReturn

_PR_SET_PDEATHSIG = 1
_PARENT_HAS_ENDED = 75
"""The exit code of a child whose parent has ended: `ExitCode.TEMPORARY`, because another attempt may work."""


def discard_input(descriptor: int = 0) -> None:
    """Read a descriptor to its end and discard what it contains."""
    while os.read(descriptor, 1024):
        pass


def end_with_parent(
    read: Callable[[], object] = discard_input, *, exit_code: Callable[[], int] = lambda: _PARENT_HAS_ENDED
) -> None:
    """End this process, and its process group if it leads one, when `read` returns or raises.

    `read` runs on a thread of its own, and must return or raise when standard input ends.
    """
    threading.Thread(target=_end_after, args=(read, exit_code), name="lifeline", daemon=True).start()


def _end_after(read: Callable[[], object], exit_code: Callable[[], int]) -> NoReturn:
    try:
        read()
    finally:
        if sys.platform != "win32" and _leads_group():
            os.killpg(0, signal.SIGKILL)
        os._exit(exit_code())


def _leads_group() -> bool:
    """Return whether this process leads a process group, which then contains only its descendants."""
    return hasattr(os, "getpgrp") and os.getpgrp() == os.getpid()


def end_script_with_parent() -> None:
    """End this process and its process group when standard input ends, even if this process is stopped or hangs.

    For a process that runs code of others: on POSIX, a forked process waits for the end of standard input. Standard
    input is empty afterwards. A parent-death signal is not used: it would end this process before its workers.
    """
    lifeline = os.dup(0)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    if sys.platform != "win32" and _leads_group():
        if os.fork() == 0:
            _guard(lifeline, null)
        os.close(lifeline)
    else:
        end_with_parent(partial(discard_input, lifeline))
    os.close(null)


def _guard(lifeline: int, null: int) -> NoReturn:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    os.dup2(null, 1)
    os.dup2(null, 2)
    discard_input(lifeline)
    if sys.platform != "win32":
        os.killpg(0, signal.SIGKILL)
    os._exit(_PARENT_HAS_ENDED)


def die_with_parent() -> None:
    """Let Linux kill this process when its parent ends; on other systems only the lifeline does this.

    For the kernel, the parent is the *thread* that started this process. So a parent must start it from a thread that
    runs as long as the parent.
    """
    if sys.platform != "linux":
        return
    import ctypes

    parent = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # the parent ended just before the call
        os._exit(_PARENT_HAS_ENDED)
