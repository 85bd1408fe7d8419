"""Opening a file whose name another program could have replaced by a link, a pipe or a folder."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

_JUNCTION = 0xA0000003
"""stat.IO_REPARSE_TAG_MOUNT_POINT, which exists on Windows only."""
_FLAGS = 0
for _name in ("O_CLOEXEC", "O_NOFOLLOW", "O_NONBLOCK", "O_NOINHERIT", "O_BINARY"):  # no system has all of them
    _FLAGS |= getattr(os, _name, 0)


def open_regular(path: Path, flags: int, mode: int = 0o644) -> int:
    """Open a regular file and return its descriptor, which child processes do not inherit.

    Never follows a symbolic link at `path` and never waits for a pipe. Raises OSError, also if it is not a regular
    file.
    """
    descriptor = os.open(path, flags | _FLAGS, mode)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))
    return descriptor


def is_link(path: Path) -> bool:
    """Return whether a path is a symbolic link, or a junction of Windows; the target need not exist."""
    try:
        info = os.lstat(path)
    except OSError:
        return False
    return stat.S_ISLNK(info.st_mode) or getattr(info, "st_reparse_tag", 0) == _JUNCTION
