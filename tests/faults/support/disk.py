"""Disks that count, fail, tear and refuse: put in the place of `schemas.storage.files.Disk`."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from schemas.storage.files import Disk

Fault = Callable[[Path], OSError]


def os_error(number: int) -> Fault:
    """Return what the system says for an errno."""
    return lambda path: OSError(number, os.strerror(number), str(path))


def win_error(number: int) -> Fault:
    """Return what Windows says where a reader or a scanner holds a file open."""

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
    """One operation that the disk was asked for."""

    kind: str
    path: Path

    def __str__(self) -> str:
        return f"{self.kind} {self.path.name}"


@dataclass
class TestDisk(Disk):
    """Calls `before` with every operation's number (from 1); what that raises is what the disk answers.

    It really syncs nothing: no power is cut here, and it is ten times as fast.
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
                super().write(path, data[: len(data) // 2])  # what a full disk leaves behind
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
        for path in paths:  # one after the other: operations have numbers here
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
    """Return a disk that fails from operation number `first` on, `times` operations long, and is then well again."""

    def before(number: int, op: Op) -> None:
        if first <= number < first + times:
            raise fault(op.path)

    return TestDisk(before)


def refusing(refuses: Callable[[Op], bool], fault: Fault) -> TestDisk:
    """Return a disk that refuses some operations until its `before` is taken away."""

    def before(number: int, op: Op) -> None:
        if refuses(op):
            raise fault(op.path)

    return TestDisk(before)
