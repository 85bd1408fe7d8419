"""The lock that allows only one daemon for each project. It is released when the process ends.

The lock is on a file and, on POSIX, on the file's folder as well: if a user deletes the file, a second daemon still
cannot start.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from pathlib import Path

from daemon.errors import DaemonError, Exit
from daemon.runtime.clock import REAL_CLOCK, Clock
from schemas.storage.careful_open import open_regular
from schemas.storage.file_lock import try_lock
from schemas.storage.guarded import make_guarded_folder, open_own
from schemas.storage.held_open import retry_while_held_open
from schemas.storage.windows_paths import error_text, shown_path
from schemas.text import printable

_TIMEOUT_S, _BETWEEN_S = 0.3, 0.02
"""`is_held` takes the lock for a moment, so `acquire` tries for this long."""


class ProjectLock:
    """The lock of a project, held from `acquire` until `release` or the end of the process."""

    def __init__(self, path: Path, *, clock: Clock = REAL_CLOCK) -> None:
        self._path = path
        self._models_folder: int | None = None
        self._clock = clock
        self._file: int | None = None
        self._folder: int | None = None

    def acquire(self) -> None:
        """Take the lock. If another process has it, raises DaemonError with exit code 4 and the holder's pid."""
        make_guarded_folder(self._path.parent)
        until = self._clock.monotonic() + _TIMEOUT_S
        while not self._try_acquire():
            if self._clock.monotonic() >= until:
                raise DaemonError(
                    f"another daemon runs on this project: {holder_of(self._path)} ({shown_path(self._path)})",
                    hint="stop it first; `hotlap status` shows what it does",
                    code="E_OTHER_DAEMON",
                    exit_code=Exit.OTHER_DAEMON,
                )
            self._clock.sleep(_BETWEEN_S)
        self._write_holder()

    def lock_models(self, models: Path) -> None:
        """Lock the folder Models too, which another project may use through a link or a mount. Not on Windows.

        Raises DaemonError with exit code 4 if another process has locked it.
        """
        folder = _open_folder(models)
        if folder is not None and not try_lock(folder):
            os.close(folder)
            raise DaemonError(
                f"another daemon, of another project, uses the same folder {shown_path(models)} now",
                hint="give each project its own Models",
                code="E_OTHER_PROJECT",
                exit_code=Exit.OTHER_DAEMON,
            )
        self._models_folder = folder

    def _try_acquire(self) -> bool:
        folder = _open_folder(self._path.parent)
        if folder is not None and not try_lock(folder):
            os.close(folder)
            return False
        try:
            file = _open_file(self._path)
        except BaseException:
            _close(folder)
            raise
        if not try_lock(file):
            os.close(file)
            _close(folder)
            return False
        self._file, self._folder = file, folder
        return True

    def _write_holder(self) -> None:
        """Write this process's pid and the time (s since 1970) to the file: `123 1795273472`."""
        if self._file is not None:
            os.ftruncate(self._file, 0)
            os.lseek(self._file, 0, os.SEEK_SET)
            os.write(self._file, f"{os.getpid()} {self._clock.utc_s():.0f}".encode("ascii"))

    def renew(self) -> str | None:
        """Lock a new file if the old one was removed or replaced; return a message if this fails, else None."""
        if self._file is None:
            return None
        with contextlib.suppress(OSError):
            if os.path.samestat(os.fstat(self._file), self._path.lstat()):
                return None
        try:
            file = _open_file(self._path)
        except (OSError, DaemonError) as error:
            return (
                f"the lock file {shown_path(self._path)} was removed and cannot be created again: {error_text(error)}"
            )
        if not try_lock(file):
            os.close(file)
            holder = holder_of(self._path)
            return f"the lock file {shown_path(self._path)} was replaced and {holder} has locked it: stop that process"
        os.close(self._file)
        self._file = file
        self._write_holder()
        return None

    def release(self) -> None:
        """Release the lock."""
        for descriptor in (self._file, self._folder, self._models_folder):
            _close(descriptor)
        self._file = self._folder = self._models_folder = None


def is_held(path: Path) -> bool:
    """Return whether a process has the lock."""
    folder = _open_folder(path.parent) if path.parent.is_dir() else None
    if folder is not None:
        is_free = try_lock(folder)
        os.close(folder)
        if not is_free:
            return True
    try:
        flags = os.O_RDWR if sys.platform == "win32" else os.O_RDONLY
        file = retry_while_held_open(lambda: open_regular(path, flags), pause=REAL_CLOCK.sleep)
    except OSError:
        return False
    is_free = try_lock(file)
    os.close(file)
    return not is_free


def holder_of(path: Path) -> str:
    """Return the pid in the lock file and when that process started, for a message."""
    try:
        file = open_regular(path, os.O_RDONLY)
        try:
            words = os.read(file, 200).decode("ascii", "replace").split()
        finally:
            os.close(file)
    except OSError:
        words = []
    if not words:
        return "pid unknown"
    since = ""
    if len(words) > 1 and words[1].isdecimal():
        with contextlib.suppress(OverflowError, OSError, ValueError):
            since = time.strftime(", since %Y-%m-%d %H:%M:%S", time.localtime(int(words[1])))
    return printable(f"pid {words[0]}{since}")


def _open_file(path: Path) -> int:
    try:
        return retry_while_held_open(lambda: open_own(path, os.O_RDWR | os.O_CREAT), pause=REAL_CLOCK.sleep)
    except PermissionError:
        raise DaemonError(
            f"the lock file {shown_path(path)} belongs to another user",
            hint="run the daemon as the user who owns the project, or correct the permissions of Saved/Training",
            code="E_LOCK",
        ) from None
    except OSError as error:
        raise DaemonError(
            f"the lock file {shown_path(path)} cannot be used: {error.strerror or error}",
            hint=f"remove {shown_path(path)}",
            code="E_LOCK",
        ) from None


def _close(descriptor: int | None) -> None:
    if descriptor is not None:
        os.close(descriptor)


def _open_folder(path: Path) -> int | None:
    """Return a descriptor of the lock file's folder; None if it cannot be opened.

    On Windows a lock on the folder is not necessary, because an open file cannot be deleted.
    """
    if sys.platform == "win32":
        return None
    try:
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return None
