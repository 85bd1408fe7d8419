"""Files that another program has open: Windows then refuses to open, replace or remove them, mostly for a moment."""

from __future__ import annotations

import errno
import itertools
from collections.abc import Callable
from typing import TypeVar

from schemas.backoff import backoff_s

T = TypeVar("T")

HELD_OPEN_TIMEOUT_S = 2.5
"""How long an operation is repeated while another program has the file open."""
_ACCESS_DENIED, _SHARING_VIOLATION, _LOCK_VIOLATION = 5, 32, 33
"""Error numbers of Windows. It reports the first one for a rename onto an open file, and for a missing permission."""


def is_surely_held_open(error: OSError) -> bool:
    """Return whether an operation on a file failed because a program on Windows has the file open."""
    return getattr(error, "winerror", None) in {_SHARING_VIOLATION, _LOCK_VIOLATION}


def is_held_open(error: OSError) -> bool:
    """Return whether a program on Windows may have the file open, if replacing, renaming or removing it failed."""
    return is_surely_held_open(error) or getattr(error, "winerror", None) == _ACCESS_DENIED


def may_be_held_open(error: OSError) -> bool:
    """Return whether opening a file may have failed because a program on Windows has it open.

    `open` and `os.open` call the C runtime, which reports errno 13 without an error number of Windows, also for a file
    that this user may not read. On other systems an error does not have the attribute `winerror`.
    """
    if is_held_open(error):
        return True
    return error.errno == errno.EACCES and getattr(error, "winerror", "absent") is None


def retry_while_held_open(
    operation: Callable[[], T],
    *,
    pause: Callable[[float], None],
    is_temporary: Callable[[OSError], bool] = may_be_held_open,
    timeout_s: float = HELD_OPEN_TIMEOUT_S,
) -> T:
    """Return the result of `operation`; repeat it for up to `timeout_s` seconds while it raises a temporary error."""
    waited_s = 0.0
    for failures in itertools.count(1):
        delay_s = backoff_s(failures, first_s=0.01, longest_s=0.25)
        try:
            return operation()
        except OSError as error:
            if not is_temporary(error) or waited_s + delay_s > timeout_s:
                raise
        pause(delay_s)
        waited_s += delay_s
    raise AssertionError("unreachable")
