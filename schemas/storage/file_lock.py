"""One process at a time: an exclusive lock on a file that is never removed, held as long as the process lives."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import IO

_LOCKED_BYTE = 1 << 20
"""Windows locks are mandatory: lock a byte far behind the text, so that others can read who holds it."""


def try_acquire(path: Path) -> tuple[IO[str] | None, str]:
    """Take the lock on a file and write our pid into it; give the open file, which holds the lock until it is closed.

    Where another process has it, give None and that process's pid.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    fd = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o644)
    file = os.fdopen(fd, "r+", encoding="utf-8")
    if not try_lock(file.fileno()):
        holder = file.read(200).strip() or "unknown"
        file.close()
        return None, holder
    file.seek(0)
    file.truncate()
    file.write(str(os.getpid()))
    file.flush()
    return file, ""


if sys.platform == "win32":
    import msvcrt

    def try_lock(descriptor: int) -> bool:
        """Lock an open file; tell whether nobody else holds it."""
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
        """Lock an open file or folder; tell whether nobody else holds it.

        Where the file system has no locks (some shares), nobody can.
        """
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            return error.errno not in {errno.EWOULDBLOCK, errno.EACCES}
        return True
