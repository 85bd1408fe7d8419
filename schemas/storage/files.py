"""Files that other programs read and write: atomic writes, and reading only regular files."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
import shutil
import stat
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from schemas.errors import HotlapError
from schemas.storage.careful_open import is_link_at, open_regular
from schemas.storage.guarded import make_guarded_folder, open_own, opened_folder, place_of
from schemas.storage.held_open import HELD_OPEN_TIMEOUT_S, is_held_open, retry_while_held_open
from schemas.storage.windows_paths import for_system

TEMPORARY_NAME = re.compile(r"\..+\.[0-9a-f]{8}\.tmp")
"""The name that `write_atomic` gives to a file that is not complete yet; it matches no reader's pattern."""


class Disk:
    """All changes to the disk, so that tests can replace them by failing ones. All raise OSError."""

    def write(self, path: Path, data: bytes) -> None:
        """Write a new file. Raises FileExistsError if it exists."""
        with place_of(path) as (name, folder), open(name, "xb", opener=partial(_open_new, folder)) as file:
            file.write(data)
            if sys.platform == "linux":  # starts the write now, so that the fsync takes less time
                file.flush()
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

    def append(self, path: Path, data: bytes) -> None:
        """Append to a file, which is created if it does not exist, and make it safe against a power cut."""
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
        with os.fdopen(retry_while_held_open(lambda: open_own(path, flags, 0o666), pause=self.pause), "ab") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())

    def fsync(self, path: Path) -> None:
        """Make the bytes of a file safe against a power cut."""
        with place_of(path) as (name, folder):
            fd = retry_while_held_open(lambda: open_regular(name, os.O_RDWR, dir_fd=folder), pause=self.pause)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def fsync_all(self, paths: Sequence[Path]) -> None:
        """Make the bytes of several files safe against a power cut, at the same time."""
        with ThreadPoolExecutor(max_workers=min(8, max(1, len(paths)))) as pool:
            for _ in pool.map(self.fsync, paths):
                pass

    def rename(self, source: Path, target: Path) -> None:
        """Rename `source` to `target`, which is replaced."""
        with place_of(source) as (old, old_folder), place_of(target) as (new, new_folder):
            os.replace(old, new, src_dir_fd=old_folder, dst_dir_fd=new_folder)

    def fsync_dir(self, path: Path) -> None:
        """Make the names in a folder safe against a power cut. Windows does not have and does not need this call."""
        if sys.platform == "win32":
            return
        with opened_folder(path) as folder:
            if folder is not None:
                os.fsync(folder)
                return
        fd = os.open(path, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def unlink(self, path: Path) -> None:
        """Remove a file if it exists."""
        with contextlib.suppress(FileNotFoundError), place_of(path) as (name, folder):
            os.unlink(name, dir_fd=folder)

    def truncate(self, path: Path) -> None:
        """Make a file empty; it is created if it does not exist."""
        fd = open_own(path, os.O_WRONLY | os.O_CREAT, 0o666)
        try:
            os.ftruncate(fd, 0)
        finally:
            os.close(fd)

    def make_folder(self, path: Path) -> None:
        """Create a folder and its parents if they do not exist."""
        make_guarded_folder(path)

    def remove_folder(self, path: Path) -> None:
        """Remove a folder and its content if it exists. Of a link only the link itself is removed."""
        with contextlib.suppress(FileNotFoundError), place_of(path) as (name, folder):
            if is_link_at(for_system(path)):
                os.unlink(name, dir_fd=folder)
            else:
                shutil.rmtree(name, dir_fd=folder)

    def copy_time(self, source: Path, target: Path) -> None:
        """Set the time of change of a copy to that of its original."""
        info = source.stat()
        with place_of(target) as (name, folder):
            os.utime(name, ns=(info.st_atime_ns, info.st_mtime_ns), dir_fd=folder)

    def pause(self, seconds: float) -> None:
        """Wait before an operation that failed is tried again."""
        time.sleep(seconds)


def _open_new(folder: int | None, name: str, flags: int) -> int:
    return os.open(name, flags, 0o666, dir_fd=folder)


REAL_DISK = Disk()


def rename_with_retries(
    source: Path, target: Path, *, disk: Disk = REAL_DISK, timeout_s: float = HELD_OPEN_TIMEOUT_S
) -> None:
    """Rename; on Windows, repeat it for `timeout_s` seconds while another program has one of the files open."""
    retry_while_held_open(
        lambda: disk.rename(source, target), is_temporary=is_held_open, pause=disk.pause, timeout_s=timeout_s
    )


def unlink_with_retries(path: Path, *, disk: Disk = REAL_DISK, timeout_s: float = HELD_OPEN_TIMEOUT_S) -> None:
    """Remove a file if it exists; on Windows, repeat it while another program has the file open."""
    retry_while_held_open(lambda: disk.unlink(path), is_temporary=is_held_open, pause=disk.pause, timeout_s=timeout_s)


def temporary_name(path: Path) -> Path:
    """Return a new path next to another one, with a name that matches `TEMPORARY_NAME`."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")


def write_atomic(path: Path, data: bytes, *, disk: Disk = REAL_DISK, durable: bool = True) -> None:
    """Write a file of which readers see the old bytes or the new ones, also after a power cut.

    With `durable=False` this holds after a crash of the process, but not after a power cut.
    """
    write_all_atomic(path.parent, {path.name: lambda: data}, disk=disk, durable=durable)


def write_all_atomic(
    folder: Path, files: Mapping[str, Callable[[], bytes]], *, disk: Disk = REAL_DISK, durable: bool = True
) -> None:
    """Write several files as `write_atomic` does, with one wait for the disk.

    `files` maps names to functions that return the bytes, so that they are not all in memory at the same time.
    """
    temporaries = {temporary_name(folder / name): folder / name for name in files}
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
    """Return the bytes of a regular file of at most `limit` bytes. Other files are not opened.

    A file of a OneDrive folder is a regular file, also if only reading it fetches its bytes.
    Raises HotlapError (E_NOT_REGULAR, E_SYMLINK, E_TOO_BIG) or OSError.
    """
    path = for_system(path)
    _require_regular(path.name, os.lstat(path), limit)
    with os.fdopen(open_regular(path, os.O_RDONLY), "rb") as file:
        info = os.fstat(file.fileno())  # of the opened file: it may have been replaced after the first check
        _require_regular(path.name, info, limit)
        return file.read(info.st_size + 1)


def read_with_retries(
    path: Path, *, limit: int, disk: Disk = REAL_DISK, timeout_s: float = HELD_OPEN_TIMEOUT_S
) -> bytes:
    """Read as `read_regular` does; on Windows, repeat it while another program writes or replaces the file."""
    return retry_while_held_open(lambda: read_regular(path, limit=limit), pause=disk.pause, timeout_s=timeout_s)


def _require_regular(name: str, info: os.stat_result, limit: int) -> None:
    if stat.S_ISLNK(info.st_mode):
        raise HotlapError(f"{name} is a symbolic link", hint="write the file itself", code="E_SYMLINK")
    if not stat.S_ISREG(info.st_mode):
        raise HotlapError(f"{name} is not a regular file", hint="remove it", code="E_NOT_REGULAR")
    if info.st_size > limit:
        raise HotlapError(
            f"{name} has {info.st_size / 1e6:.0f} MB, more than the {limit / 1e6:.0f} MB allowed",
            hint="write fewer experiences in a file",
            code="E_TOO_BIG",
        )


def sha256_of(data: bytes) -> str:
    """Return the SHA-256 of `data` as 64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()
