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
from typing import NoReturn

_PR_SET_PDEATHSIG = 1
_PARENT_HAS_ENDED = 75
"""The exit code of a child whose parent has ended: `ExitCode.TEMPORARY`, because another attempt may work."""


def take_stdin() -> int:
    """Return a copy of standard input, and put the null device in its place.

    Whoever reads standard input on a thread must read this copy. On Windows, a read of descriptor 0 that waits holds a
    lock of the C runtime. OpenBLAS asks for the state of descriptor 0 when numpy is imported, and would wait for it
    forever (numpy issue 24290). Child processes do not inherit the copy.
    """
    copy = os.dup(0)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.close(null)
    return copy


def leave_ctrl_c_to_parent() -> None:
    """Ignore Ctrl-C and Ctrl-Break on Windows: the parent gets them as well, and decides when this process ends.

    On POSIX a child is in a session of its own, to which the terminal sends nothing.
    """
    if sys.platform == "win32":
        for number in (signal.SIGINT, signal.SIGBREAK):
            signal.signal(number, signal.SIG_IGN)


def discard_input(descriptor: int) -> None:
    """Read a descriptor to its end and discard what it contains."""
    while os.read(descriptor, 1024):
        pass


def end_with_parent(
    read: Callable[[int], object] = discard_input, *, exit_code: Callable[[], int] = lambda: _PARENT_HAS_ENDED
) -> None:
    """End this process, and its process group if it leads one, when `read` returns or raises.

    `read` gets the descriptor of standard input's copy, runs on a thread of its own, and must return or raise when the
    input ends. Standard input itself is empty afterwards.
    """
    leave_ctrl_c_to_parent()
    arguments = (read, take_stdin(), exit_code)
    threading.Thread(target=_end_after, args=arguments, name="lifeline", daemon=True).start()


def _end_after(read: Callable[[int], object], descriptor: int, exit_code: Callable[[], int]) -> NoReturn:
    try:
        read(descriptor)
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
    if sys.platform == "win32" or not _leads_group():
        end_with_parent()
        return
    lifeline = take_stdin()
    if os.fork() == 0:
        _guard(lifeline)
    os.close(lifeline)


def _guard(lifeline: int) -> NoReturn:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    os.dup2(0, 1)
    os.dup2(0, 2)
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
