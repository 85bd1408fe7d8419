"""Files that other programs read: they appear whole or not at all, and are never opened blindly."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import re
import secrets
import shutil
import stat
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from schemas.backoff import backoff_s
from schemas.errors import HotlapError
from schemas.storage.careful_open import open_regular

RENAME_TIMEOUT_S = 2.5
"""How long a rename is tried again where Windows holds the old file open."""
_HELD_OPEN_WINERRORS = frozenset({5, 32, 33})
TEMPORARY_NAME = re.compile(r"\..+\.[0-9a-f]{8}\.tmp")
"""What `write_atomic` calls a file that is not whole yet; no reader's pattern matches it."""


class Disk:
    """The one way to change the disk, in operations that tests can fail, forget or count. All raise OSError."""

    def write(self, path: Path, data: bytes) -> None:
        """Write a new file; raises FileExistsError where there is one."""
        with path.open("xb") as file:
            file.write(data)
            if sys.platform == "linux":  # begin to write at once: the fsync to come has less to wait for
                file.flush()
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

    def append(self, path: Path, data: bytes) -> None:
        """Add to the end of a file, new where there is none, and make it safe against a power cut."""
        with path.open("ab") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())

    def fsync(self, path: Path) -> None:
        """Make a file's bytes safe against a power cut."""
        fd = os.open(path, os.O_RDWR | getattr(os, "O_BINARY", 0))
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def fsync_all(self, paths: Sequence[Path]) -> None:
        """Make several files' bytes safe: they wait for the disk together."""
        with ThreadPoolExecutor(max_workers=min(8, max(1, len(paths)))) as pool:
            for _ in pool.map(self.fsync, paths):
                pass

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

    def truncate(self, path: Path) -> None:
        """Make a file of no bytes, or leave none in the one that is there."""
        path.write_bytes(b"")

    def make_folder(self, path: Path) -> None:
        """Create a folder and those above it; one that is there is fine."""
        path.mkdir(parents=True, exist_ok=True)

    def remove_folder(self, path: Path) -> None:
        """Remove a folder with all that is in it; one that is not there is fine."""
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(path)

    def pause(self, seconds: float) -> None:
        """Wait before an operation that was refused is tried again."""
        time.sleep(seconds)


REAL_DISK = Disk()


def rename_with_retries(
    source: Path, target: Path, *, disk: Disk = REAL_DISK, timeout_s: float = RENAME_TIMEOUT_S
) -> None:
    """Rename, trying again for `timeout_s` seconds while Windows says that a reader holds the target."""
    waited_s = 0.0
    for failures in itertools.count(1):
        delay_s = backoff_s(failures, first_s=0.01, longest_s=0.25)
        try:
            disk.rename(source, target)
            return
        except PermissionError as error:
            is_held_open = getattr(error, "winerror", None) in _HELD_OPEN_WINERRORS
            if not is_held_open or waited_s + delay_s > timeout_s:
                raise
        disk.pause(delay_s)
        waited_s += delay_s


def write_atomic(path: Path, data: bytes, *, disk: Disk = REAL_DISK, durable: bool = True) -> None:
    """Readers see the old bytes or the new ones, also across a power cut (`durable=False`: across a crash only)."""
    write_all_atomic(path.parent, {path.name: lambda: data}, disk=disk, durable=durable)


def write_all_atomic(
    folder: Path, files: Mapping[str, Callable[[], bytes]], *, disk: Disk = REAL_DISK, durable: bool = True
) -> None:
    """Write files as `write_atomic` does, each whole or not at all; they wait for the disk together.

    `files` says how to get each one's bytes: they are not in memory at the same time.
    """
    temporaries = {folder / f".{name}.{secrets.token_hex(4)}.tmp": folder / name for name in files}
    try:
        for temporary, path in temporaries.items():
            disk.write(temporary, files[path.name]())
        if durable and len(temporaries) == 1:
            disk.fsync(next(iter(temporaries)))
        elif durable:
            disk.fsync_all(list(temporaries))
        for temporary, path in temporaries.items():
            rename_with_retries(temporary, path, disk=disk)
    except BaseException:
        for temporary in temporaries:
            with contextlib.suppress(OSError):
                disk.unlink(temporary)
        raise
    if durable:
        disk.fsync_dir(folder)


def read_regular(path: Path, *, limit: int) -> bytes:
    """Return the bytes of a regular file of at most `limit` bytes; anything else is not even opened.

    Never blocks on a FIFO, never follows a symbolic link. Raises HotlapError (E_NOT_REGULAR, E_SYMLINK, E_TOO_BIG)
    or OSError.
    """
    _require_plain(path.name, os.lstat(path), limit)
    with os.fdopen(open_regular(path, os.O_RDONLY), "rb") as file:
        info = os.fstat(file.fileno())  # of the file that was opened: another one may have been there before
        _require_plain(path.name, info, limit)
        return file.read(info.st_size + 1)


def _require_plain(name: str, info: os.stat_result, limit: int) -> None:
    if stat.S_ISLNK(info.st_mode):
        raise HotlapError(f"{name} is a symbolic link", hint="write the file itself", code="E_SYMLINK")
    if not stat.S_ISREG(info.st_mode):
        raise HotlapError(f"{name} is not a regular file", hint="remove it", code="E_NOT_REGULAR")
    if info.st_size > limit:
        raise HotlapError(
            f"{name} has {info.st_size / 1e6:.0f} MB, more than the {limit / 1e6:.0f} MB allowed",
            hint="write fewer experiences a file",
            code="E_TOO_BIG",
        )


def sha256_of(data: bytes) -> str:
    """Return the SHA-256 of some bytes as 64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()
