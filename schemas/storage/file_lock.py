"""One process at a time: an exclusive lock on a file that is never removed.

The library filelock is not used: it empties the file that it locks, so the holder could not be named, and it cannot
lock a file or a folder that is already open.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Self

from schemas.storage.careful_open import open_regular
from schemas.text import printable

_LOCKED_BYTE = 1 << 20
"""Windows locks are mandatory: lock a byte far after the text, so that others can read who holds the lock."""
_HOLDER_BYTES = 200


class FileLock:
    """A lock that this process holds until `release`, the end of a `with` block, or its own end."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor: int | None = descriptor

    def __enter__(self) -> Self:
        """Return the lock."""
        return self

    def __exit__(self, *_: object) -> None:
        """Release the lock."""
        self.release()

    def release(self) -> None:
        """Let other processes have the lock. Does nothing the second time."""
        if self._descriptor is not None:
            os.close(self._descriptor)
        self._descriptor = None


def try_acquire(path: Path) -> tuple[FileLock | None, str]:
    """Lock a file and write our pid into it, without waiting; return the lock and "".

    If another process holds it, return None and that process's pid as text. Raises OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = open_regular(path, os.O_RDWR | os.O_CREAT)
    if not try_lock(descriptor):
        holder = os.read(descriptor, _HOLDER_BYTES).decode("utf-8", "replace").strip()
        os.close(descriptor)
        return None, printable(holder) or "unknown"
    os.ftruncate(descriptor, 0)
    os.write(descriptor, str(os.getpid()).encode("ascii"))
    return FileLock(descriptor), ""


if sys.platform == "win32":
    import msvcrt

    def try_lock(descriptor: int) -> bool:
        """Lock an open file. Return whether no other process holds the lock."""
        os.lseek(descriptor, _LOCKED_BYTE, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        finally:
            os.lseek(descriptor, 0, os.SEEK_SET)
        return True

else:
    import errno
    import fcntl

    def try_lock(descriptor: int) -> bool:
        """Lock an open file or folder. Return whether no other process holds the lock.

        Return True if the file system has no locks, as some network shares: nobody else can hold one there.
        """
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            return error.errno not in {errno.EWOULDBLOCK, errno.EACCES}
        return True
