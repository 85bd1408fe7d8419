"""Disks that count operations, fail, and write only in part; they replace `schemas.storage.files.Disk`."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from schemas.storage.files import Disk

Fault = Callable[[Path], OSError]


def os_error(number: int) -> Fault:
    """Return the system's error for an errno."""
    return lambda path: OSError(number, os.strerror(number), str(path))


def win_error(number: int) -> Fault:
    """Return the error of Windows for a file that another program has open."""

    def make(path: Path) -> OSError:
        error = PermissionError(errno.EACCES, "The process cannot access the file", str(path))
        error.winerror = number  # type: ignore[attr-defined]  # only there on Windows
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
    """Calls `before` with the number of every operation (from 1), which may raise the disk's error.

    It does not sync: the power is not cut in these tests, and they are ten times as fast.
    """

    __test__ = False
    before: Callable[[int, Op], None] = lambda number, op: None
    ops: list[Op] = field(default_factory=list)
    paused_s: float = 0.0

    def _ask(self, kind: str, path: Path) -> None:
        self.ops.append(Op(kind, path))
        self.before(len(self.ops), self.ops[-1])

    def write(self, path: Path, data: bytes) -> None:
        try:
            self._ask("write", path)
        except OSError as error:
            if error.errno in {errno.ENOSPC, errno.EIO}:
                super().write(path, data[: len(data) // 2])  # as a full disk does
            raise
        super().write(path, data)

    def append(self, path: Path, data: bytes) -> None:
        self._ask("append", path)
        super().append(path, data)

    def truncate(self, path: Path) -> None:
        self._ask("empty", path)
        super().truncate(path)

    def fsync(self, path: Path) -> None:
        self._ask("fsync", path)

    def fsync_all(self, paths: Sequence[Path]) -> None:
        for path in paths:  # one after the other, so that each has a number
            self.fsync(path)

    def rename(self, source: Path, target: Path) -> None:
        self._ask("rename", target)
        super().rename(source, target)

    def fsync_dir(self, path: Path) -> None:
        self._ask("fsync_dir", path)

    def unlink(self, path: Path) -> None:
        self._ask("unlink", path)
        super().unlink(path)

    def make_folder(self, path: Path) -> None:
        self._ask("make_folder", path)
        super().make_folder(path)

    def remove_folder(self, path: Path) -> None:
        self._ask("remove_folder", path)
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
