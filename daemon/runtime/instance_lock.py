"""The lock that allows only one daemon for each project. It is released when the process ends.

The lock is on a file and, on POSIX, on the file's folder as well: if a user deletes the file, a second daemon still
cannot start. The file names the process, its computer and, on Linux, its namespace of pids. A daemon of another
computer or container may have a lock that is not visible here, as on some network drives. Its heartbeat in status.json
then shows that it runs. Its pid does not: here, another program may have this pid.
"""

from __future__ import annotations

import contextlib
import os
import platform
import sys
import time
from pathlib import Path

from pydantic import ValidationError

from daemon.errors import DaemonError, Exit
from daemon.runtime.clock import REAL_CLOCK, Clock
from schemas.errors import HotlapError
from schemas.status import Status
from schemas.storage.careful_open import open_regular
from schemas.storage.file_lock import try_lock
from schemas.storage.files import read_with_retries
from schemas.storage.guarded import make_guarded_folder, open_own
from schemas.storage.held_open import retry_while_held_open
from schemas.storage.layout import ProjectPaths
from schemas.storage.set_aside import set_aside
from schemas.storage.windows_paths import error_text, shown_path
from schemas.text import printable

_TIMEOUT_S, _BETWEEN_S = 0.3, 0.02
"""`is_held` takes the lock for a moment, so `acquire` tries for this long."""
_MAX_STATUS_BYTES = 16 << 20
_ALIVE_INTERVALS = 3.0
"""A daemon has ended or hangs if its heartbeat is older than so many of its intervals."""
_WATCHED_INTERVALS = 2.0
"""How long a start watches the heartbeat of a daemon whose lock may not be visible here."""


class ProjectLock:
    """The lock of a project, held from `acquire` until `release` or the end of the process."""

    def __init__(self, path: Path, *, status: Path | None = None, clock: Clock = REAL_CLOCK) -> None:
        self._path = path
        self._models_folder: int | None = None
        self._status = status
        self._clock = clock
        self._file: int | None = None
        self._folder: int | None = None

    def acquire(self) -> list[Path]:
        """Take the lock. If another process has it, raises DaemonError with exit code 4 and the holder's pid.

        A folder in the place of the lock file is moved away; return its new path, or nothing.
        """
        moved: list[Path] = []
        make_guarded_folder(self._path.parent)
        until = self._clock.monotonic() + _TIMEOUT_S
        while not self._try_acquire(moved):
            if self._clock.monotonic() >= until:
                raise self._other_daemon()
            self._clock.sleep(_BETWEEN_S)
        if self._status is not None and _is_elsewhere(_holder(self._path)) and self._beats(self._status):
            self.release(keep_holder=True)
            raise self._other_daemon()
        self._write_holder()
        return moved

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

    def _other_daemon(self) -> DaemonError:
        return DaemonError(
            f"another daemon runs on this project: {holder_of(self._path)} ({shown_path(self._path)})",
            hint="stop it first; `hotlap status` shows what it does",
            code="E_OTHER_DAEMON",
            exit_code=Exit.OTHER_DAEMON,
        )

    def _beats(self, status: Path) -> bool:
        """Return whether a daemon whose lock is not visible here writes its heartbeat; wait for the next one."""
        first = _read_status(status)
        if first is None or not _is_recent(status, first):
            return False
        until = self._clock.monotonic() + _WATCHED_INTERVALS * first.heartbeat_interval_s
        while self._clock.monotonic() < until:
            self._clock.sleep(0.1)
            newer = _read_status(status)
            if newer is not None and newer.heartbeat != first.heartbeat:
                return True
        return False

    def _try_acquire(self, moved: list[Path]) -> bool:
        folder = _open_folder(self._path.parent)
        if folder is not None and not try_lock(folder):
            os.close(folder)
            return False
        try:
            if self._path.is_dir() and not self._path.is_symlink():
                with contextlib.suppress(OSError):  # the next line reports it
                    moved.append(set_aside(self._path, at_s=self._clock.utc_s()))
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
        """Write this process's pid, the time (s since 1970) and the place: `123 1795273472 host 4026531836`."""
        if self._file is not None:
            os.ftruncate(self._file, 0)
            os.lseek(self._file, 0, os.SEEK_SET)
            text = f"{os.getpid()} {self._clock.utc_s():.0f} {' '.join(_place())}"
            os.write(self._file, text.encode("utf-8", "replace"))

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

    def release(self, *, keep_holder: bool = False) -> None:
        """Release the lock, and remove this process's pid from the file unless `keep_holder`."""
        if self._file is not None and not keep_holder:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, 0)
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


def is_running(paths: ProjectPaths) -> bool:
    """Return whether a daemon runs on a project: it has the lock, or it runs elsewhere and its heartbeat is new."""
    if is_held(paths.lock):
        return True
    status = _read_status(paths.status) if _is_elsewhere(_holder(paths.lock)) else None
    return status is not None and _is_recent(paths.status, status)


def _is_recent(path: Path, status: Status) -> bool:
    return _age_s(path, status) <= _ALIVE_INTERVALS * status.heartbeat_interval_s


def heartbeat_age_s(paths: ProjectPaths, status: Status) -> float:
    """Return the seconds since the daemon wrote status.json. The clock of another computer may differ."""
    if not _is_elsewhere(_holder(paths.lock)):
        return max(0.0, REAL_CLOCK.utc_s() - status.heartbeat)
    return _age_s(paths.status, status)


def _age_s(path: Path, status: Status) -> float:
    """Return the time since the heartbeat, or since the file was changed if that is less."""
    now_s = REAL_CLOCK.utc_s()
    ages = [abs(now_s - status.heartbeat)]
    with contextlib.suppress(OSError):
        ages.append(abs(now_s - path.stat().st_mtime))
    return min(ages)


def _read_status(path: Path) -> Status | None:
    try:
        return Status.from_bytes(read_with_retries(path, limit=_MAX_STATUS_BYTES))
    except (OSError, HotlapError, ValidationError):
        return None


def holder_of(path: Path) -> str:
    """Return the pid in the lock file, when that process started and where it runs, for a message."""
    words = _holder(path)
    if not words:
        return "pid unknown"
    since = where = ""
    if len(words) > 1 and words[1].isdecimal():
        with contextlib.suppress(OverflowError, OSError, ValueError):
            since = time.strftime(", since %Y-%m-%d %H:%M:%S", time.localtime(int(words[1])))
    if _is_elsewhere(words):
        where = f", in another container or on another computer (host {words[2]})"
    return printable(f"pid {words[0]}{since}{where}")


def _holder(path: Path) -> list[str]:
    """Return the words in the lock file; none if it cannot be read or no daemon has it."""
    try:
        file = open_regular(path, os.O_RDONLY)
        try:
            return os.read(file, 400).decode("utf-8", "replace").split()
        finally:
            os.close(file)
    except OSError:
        return []


def _place() -> tuple[str, str]:
    """Return the name of this computer, and on Linux the namespace in which its pids are valid, else "-"."""
    namespace = "-"
    with contextlib.suppress(OSError):
        namespace = "".join(filter(str.isdecimal, os.readlink("/proc/self/ns/pid"))) or "-"  # noqa: PTH115  not a file
    return "_".join(platform.node().split()) or "-", namespace


def _is_elsewhere(holder: list[str]) -> bool:
    """Return whether the process in the lock file ran in another container or on another computer."""
    return len(holder) >= 4 and (holder[2], holder[3]) != _place()


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
