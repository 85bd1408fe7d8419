"""Disks that count operations, fail, or write only a part of a file; they replace `schemas.storage.files.Disk`."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from schemas.storage.files import Disk

Fault = Callable[[Path], OSError]


def os_error(number: int) -> Fault:
    """Return a fault that raises the system's error for an errno."""
    return lambda path: OSError(number, os.strerror(number), str(path))


def win_error(number: int) -> Fault:
    """Return a fault that raises a PermissionError with this error number of Windows."""

    def make(path: Path) -> OSError:
        error = PermissionError(errno.EACCES, "The process cannot access the file", str(path))
        error.winerror = number  # type: ignore[attr-defined]  # only there on Windows
        return error

    return make


def open_error() -> Fault:
    """Return a fault that raises what `open` and `os.open` raise on Windows if another program has the file open.

    They call the C runtime, which reports errno 13 and no error number of Windows, as for a missing permission.
    """

    def make(path: Path) -> OSError:
        error = PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        error.winerror = None  # type: ignore[attr-defined]  # only there on Windows
        return error

    return make


FAULTS: dict[str, Fault] = {
    **{errno.errorcode[n]: os_error(n) for n in (errno.ENOSPC, errno.EIO, errno.EACCES, errno.EXDEV)},
    **{f"winerror {n}": win_error(n) for n in (5, 32, 33)},
}


@dataclass(frozen=True)
class Op:
    """One operation of the disk."""

    kind: str
    path: Path

    def __str__(self) -> str:
        return f"{self.kind} {self.path.name}"


@dataclass
class TestDisk(Disk):
    """A disk that calls `before` with the number (from 1) of every operation; `before` may raise an error.

    It does not sync, because these tests do not cut the power; they are ten times as fast without.
    """

    __test__ = False
    before: Callable[[int, Op], None] = lambda number, op: None
    ops: list[Op] = field(default_factory=list)
    paused_s: float = 0.0

    def _announce(self, kind: str, path: Path) -> None:
        self.ops.append(Op(kind, path))
        self.before(len(self.ops), self.ops[-1])

    def write(self, path: Path, data: bytes) -> None:
        try:
            self._announce("write", path)
        except OSError as error:
            if error.errno in {errno.ENOSPC, errno.EIO}:
                super().write(path, data[: len(data) // 2])  # a full disk also writes only a part
            raise
        super().write(path, data)

    def append(self, path: Path, data: bytes) -> None:
        self._announce("append", path)
        super().append(path, data)

    def truncate(self, path: Path) -> None:
        self._announce("empty", path)
        super().truncate(path)

    def fsync(self, path: Path) -> None:
        self._announce("fsync", path)

    def fsync_all(self, paths: Sequence[Path]) -> None:
        for path in paths:  # one after the other, so that each has a number
            self.fsync(path)

    def rename(self, source: Path, target: Path) -> None:
        self._announce("rename", target)
        super().rename(source, target)

    def fsync_dir(self, path: Path) -> None:
        self._announce("fsync_dir", path)

    def unlink(self, path: Path) -> None:
        self._announce("unlink", path)
        super().unlink(path)

    def make_folder(self, path: Path) -> None:
        self._announce("make_folder", path)
        super().make_folder(path)

    def remove_folder(self, path: Path) -> None:
        self._announce("remove_folder", path)
        super().remove_folder(path)

    def pause(self, seconds: float) -> None:
        self.paused_s += seconds


def failing(first: int, fault: Fault, *, times: int = 1) -> TestDisk:
    """Return a disk on which `times` operations fail, from number `first` on."""

    def before(number: int, op: Op) -> None:
        if first <= number < first + times:
            raise fault(op.path)

    return TestDisk(before)


def refusing(refuses: Callable[[Op], bool], fault: Fault) -> TestDisk:
    """Return a disk that refuses some operations until its `before` is replaced."""

    def before(number: int, op: Op) -> None:
        if refuses(op):
            raise fault(op.path)

    return TestDisk(before)
