"""Files that other programs read: they appear whole or not at all, and are never opened blindly."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import stat
import sys
import time
from pathlib import Path

from schemas.errors import HotlapError

RENAME_PATIENCE_S = 2.5
"""How long a rename is tried again where Windows holds the old file open."""
_HELD_OPEN_WINERRORS = frozenset({5, 32, 33})


class Disk:
    """The disk operations that a publish is made of. Tests put their own in its place."""

    def write(self, path: Path, data: bytes) -> None:
        """Write a new file; raises FileExistsError where there is one."""
        with path.open("xb") as file:
            file.write(data)

    def fsync(self, path: Path) -> None:
        """Make a file's bytes safe against a power cut."""
        fd = os.open(path, os.O_RDWR | getattr(os, "O_BINARY", 0))
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def rename(self, source: Path, target: Path) -> None:
        """Put `source` in the place of `target`."""
        os.replace(source, target)

    def fsync_dir(self, path: Path) -> None:
        """Make a folder's names safe against a power cut (Windows has no such call and needs none)."""
        if sys.platform == "win32":
            return
        fd = os.open(path, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def unlink(self, path: Path) -> None:
        """Remove a file; one that is not there is fine."""
        path.unlink(missing_ok=True)


REAL_DISK = Disk()


def rename_patiently(
    source: Path, target: Path, *, disk: Disk = REAL_DISK, patience_s: float = RENAME_PATIENCE_S
) -> None:
    """Rename, trying again for `patience_s` seconds while Windows says that a reader holds the target."""
    until = time.monotonic() + patience_s
    delay_s = 0.01
    while True:
        try:
            disk.rename(source, target)
            return
        except PermissionError as error:
            held = getattr(error, "winerror", None) in _HELD_OPEN_WINERRORS
            if not held or time.monotonic() + delay_s > until:
                raise
        time.sleep(delay_s)
        delay_s = min(0.25, delay_s * 2)


def write_atomic(path: Path, data: bytes, *, disk: Disk = REAL_DISK, durable: bool = True) -> None:
    """Readers see the old bytes or the new ones, also across a power cut (`durable=False`: across a crash only)."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        disk.write(temporary, data)
        if durable:
            disk.fsync(temporary)
        rename_patiently(temporary, path, disk=disk)
    except BaseException:
        with contextlib.suppress(OSError):
            disk.unlink(temporary)
        raise
    if durable:
        disk.fsync_dir(path.parent)


def read_regular(path: Path, *, limit: int) -> bytes:
    """Give the bytes of a regular file of at most `limit` bytes.

    Never blocks on a FIFO, never follows a symbolic link. Raises HotlapError (E_NOT_REGULAR, E_TOO_BIG) or OSError.
    """
    if path.is_symlink():
        raise HotlapError(f"{path.name} is a symbolic link", hint="write the file itself", code="E_SYMLINK")
    flags = os.O_RDONLY
    for name in ("O_NONBLOCK", "O_NOFOLLOW", "O_CLOEXEC", "O_BINARY"):
        flags |= getattr(os, name, 0)
    fd = os.open(path, flags)
    with os.fdopen(fd, "rb") as file:
        info = os.fstat(file.fileno())
        if not stat.S_ISREG(info.st_mode):
            raise HotlapError(f"{path.name} is not a regular file", hint="remove it", code="E_NOT_REGULAR")
        if info.st_size > limit:
            raise HotlapError(
                f"{path.name} has {info.st_size / 1e6:.0f} MB, more than the {limit / 1e6:.0f} MB allowed",
                hint="write fewer experiences a file",
                code="E_TOO_BIG",
            )
        return file.read(limit + 1)


def sha256_of(data: bytes) -> str:
    """Give the SHA-256 of some bytes as 64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()
