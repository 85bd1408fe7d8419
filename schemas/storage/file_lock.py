"""One process at a time: an exclusive lock on a file that is never removed.

The library filelock is not used: it empties the file that it locks, so the process that has the lock
could not be named, and it cannot lock a file or a folder that is already open.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Self

from schemas.storage.careful_open import open_regular
from schemas.storage.guarded import make_guarded_folder, place_of
from schemas.text import printable

_LOCKED_BYTE = 1 << 20
"""Windows locks are mandatory: lock a byte far after the text, so that other processes can read the pid."""
_HOLDER_BYTES = 200


class FileLock:
    """A lock of this process until `release`, the end of a `with` block, or the end of the process."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor: int | None = descriptor

    def __enter__(self) -> Self:
        """Return the lock."""
        return self

    def __exit__(self, *_: object) -> None:
        """Release the lock."""
        self.release()

    def release(self) -> None:
        """Release the lock. A second call does nothing."""
        if self._descriptor is not None:
            os.close(self._descriptor)
        self._descriptor = None


def try_acquire(path: Path) -> tuple[FileLock | None, str]:
    """Lock a file without waiting, and write the own pid into it; return the lock and "".

    If another process has locked it, return None and that process's pid as text. Raises OSError.
    """
    make_guarded_folder(path.parent)
    with place_of(path) as (name, folder):
        descriptor = open_regular(name, os.O_RDWR | os.O_CREAT, dir_fd=folder)
    if not try_lock(descriptor):
        holder = os.read(descriptor, _HOLDER_BYTES).decode("utf-8", "replace").strip()
        os.close(descriptor)
        return None, printable(holder) or "unknown"
    if os.fstat(descriptor).st_nlink == 1:  # with a hard link, the text would appear under the other name as well
        os.ftruncate(descriptor, 0)
        os.write(descriptor, str(os.getpid()).encode("ascii"))
    return FileLock(descriptor), ""


if sys.platform == "win32":
    import msvcrt

    def try_lock(descriptor: int) -> bool:
        """Lock an open file. Return False if another process has locked it."""
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
        """Lock an open file or folder. Return False if another process has locked it.

        Return True if the file system does not support locks, like some network shares.
        """
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            return error.errno not in {errno.EWOULDBLOCK, errno.EACCES}
        return True
