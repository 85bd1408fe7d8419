"""Moves a file to Rejected and writes the reason next to it; moves it back if it changes afterwards."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from daemon.ledger.records import FileSignature
from daemon.runtime.context import Context
from schemas.storage.files import Disk, rename_with_retries, write_atomic
from schemas.storage.windows_paths import for_system
from schemas.text import printable

CHECK_S = 5.0
_NOTE = ".reason.txt"
LONGEST_NAME_BYTES = 200
"""File systems allow 255 bytes. `.reason.txt` and the ending of a temporary name must still fit."""
_HELD_OPEN_TIMEOUT_S = 0.2
"""How long to wait for a program that has the file open: the daemon does nothing else meanwhile."""


def move_to_rejected(source: Path, rejected: Path, reason: str, *, disk: Disk) -> Path:
    """Write the reason, move the file, and return its new path. Never overwrites another rejected file.

    Raises FileNotFoundError if the file does not exist any more, another OSError if it cannot be moved.
    """
    os.lstat(for_system(source))
    disk.make_folder(rejected)
    target = _free_name(rejected, source.name)
    note = _note_of(target)
    write_atomic(note, f"{reason}\n".encode("utf-8", "backslashreplace"), disk=disk)
    try:
        rename_with_retries(source, target, disk=disk, timeout_s=_HELD_OPEN_TIMEOUT_S)
    except OSError:
        disk.unlink(note)
        raise
    return target


def _free_name(folder: Path, name: str) -> Path:
    short = _shortened(name)
    candidate, n = folder / short, 1
    while os.path.lexists(for_system(candidate)) or os.path.lexists(for_system(_note_of(candidate))):
        n += 1
        candidate = folder / f"{short}.{n}"
    return candidate


def _shortened(name: str) -> str:
    """Return the name, shortened if no suffix fits. A hash makes different shortened names differ."""
    raw = os.fsencode(name)
    if len(raw) <= LONGEST_NAME_BYTES:
        return name
    digest = hashlib.sha256(raw).hexdigest()[:8]
    return raw[: LONGEST_NAME_BYTES - 20].decode("utf-8", "ignore") + f"~{digest}.json"


@dataclass(slots=True)
class _Watched:
    rejected: FileSignature | None  #: when it was rejected; None if it has changed since
    last: FileSignature | None = None  #: at the last check


class RejectedFiles:
    """The files in Rejected that may still be written: a slow copy goes on although the file was moved.

    A file that has changed since it was rejected, and then stays the same, is moved back to Exports and read again.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._watched = {path: _Watched(None) for path in _changed_since_rejection(context.paths.rejected)}
        self._next_s = 0.0

    def watch(self, path: Path) -> None:
        """Watch a file that was rejected because it stayed incomplete."""
        if (signature := _signature(path)) is not None:
            self._watched[path] = _Watched(signature)

    def check(self, now: float) -> None:
        """Move files back, at most every `CHECK_S` seconds."""
        if self._watched and now >= self._next_s:
            self._next_s = now + CHECK_S
            for path, watched in tuple(self._watched.items()):
                self._check(path, watched)

    def _check(self, path: Path, watched: _Watched) -> None:
        signature = _signature(path)
        if signature is None:
            del self._watched[path]
        elif signature != watched.rejected and signature == watched.last:
            del self._watched[path]
            self._move_back(path)
        else:
            watched.last = signature

    def _move_back(self, path: Path) -> None:
        context = self._context
        target = _free_name_in_exports(context.paths.exports, _original_name(path.name))
        try:
            context.disk.rename(path, target)
            context.disk.unlink(_note_of(path))
        except OSError:
            return  # it stays in Rejected; the next start tries again
        context.log.info(f"{printable(path.name)} in Rejected has changed since it was rejected: it is read again")


def _changed_since_rejection(rejected: Path) -> list[Path]:
    """Return the files in Rejected that were written after the note with their reason."""
    found = []
    for note in rejected.glob(f"*{_NOTE}"):
        path = note.with_name(note.name.removesuffix(_NOTE))
        with contextlib.suppress(OSError):
            info = path.lstat()
            if stat.S_ISREG(info.st_mode) and info.st_mtime_ns > note.lstat().st_mtime_ns:
                found.append(path)
    return found


def _signature(path: Path) -> FileSignature | None:
    try:
        return FileSignature.of(path.lstat())
    except OSError:
        return None


def _note_of(path: Path) -> Path:
    return path.with_name(f"{path.name}{_NOTE}")


def _original_name(name: str) -> str:
    """Return the name without the number that `_free_name` adds."""
    stem, _, number = name.rpartition(".")
    return stem if number.isdecimal() else name


def _free_name_in_exports(exports: Path, name: str) -> Path:
    """Return the path for a file that is moved back; a number is added if another file has its name now."""
    candidate, n = exports / name, 1
    while os.path.lexists(candidate):
        n += 1
        candidate = exports / f"{name.removesuffix('.json')}_{n}.json"
    return candidate
