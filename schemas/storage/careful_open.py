"""Opening a file whose name another program could have replaced by a link, a pipe or a folder."""

from __future__ import annotations

import errno
import os
import stat
import sys
from pathlib import Path

_FLAGS = 0
for _name in ("O_CLOEXEC", "O_NOFOLLOW", "O_NONBLOCK", "O_NOINHERIT", "O_BINARY"):  # no system has all of them
    _FLAGS |= getattr(os, _name, 0)
_NAME_SURROGATE = 0x20000000
"""The bit of a reparse tag that says that the entry names another one: links and junctions, but not OneDrive files."""


class LinkInTheWay(OSError):
    """A link that Hotlap does not follow, in the path of a file that it wants to change."""

    def __init__(self, path: str | Path) -> None:
        name = Path(path).name
        super().__init__(errno.ELOOP, f"{name} is a link, which Hotlap does not follow", str(path))


def is_link(info: os.stat_result) -> bool:
    """Return whether `os.lstat` found a symbolic link, or a junction or mounted volume of Windows."""
    tag: int = getattr(info, "st_reparse_tag", 0)
    return stat.S_ISLNK(info.st_mode) or bool(tag & _NAME_SURROGATE)


def is_link_at(path: str | Path) -> bool:
    """Return whether a path is a link, as `is_link`. A volume of Windows that is mounted in a folder is not one."""
    try:
        info = os.lstat(path)
        if not is_link(info):
            return False
        return sys.platform != "win32" or not _is_volume(str(Path(path).readlink()))
    except (OSError, ValueError):
        return False


def _is_volume(target: str) -> bool:
    r"""Return whether a junction leads to the root of a volume: `\\?\Volume{<id>}\`."""
    return target.startswith("\\\\?\\Volume{") and target.rstrip("\\").endswith("}")


def open_regular(path: str | Path, flags: int, mode: int = 0o644, *, dir_fd: int | None = None) -> int:
    """Open a regular file and return its descriptor, which child processes do not inherit.

    Never follows a link at `path` and never waits for a pipe. `dir_fd` is an open folder that contains the file; `path`
    is then its name. Raises OSError, also if it is not a regular file.
    """
    if sys.platform == "win32" and is_link_at(path):
        raise LinkInTheWay(path)
    descriptor = os.open(path, flags | _FLAGS, mode, dir_fd=dir_fd)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))
    return descriptor
