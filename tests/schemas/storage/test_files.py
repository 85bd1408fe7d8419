"""Files are written completely or not at all, and only regular files are read."""

from __future__ import annotations

import contextlib
import os

import pytest

from schemas.errors import HotlapError
from schemas.storage.files import Disk, read_regular, write_all_atomic, write_atomic
from tests.platforms import needs_posix


class CutError(BaseException):
    """The process dies."""


class DyingDisk(Disk):
    """Raises CutError instead of operation number `left`."""

    def __init__(self, left: int) -> None:
        self.left = left

    def _op(self) -> None:
        if self.left == 0:
            raise CutError
        self.left -= 1

    def write(self, path, data):
        self._op()
        super().write(path, data)

    def fsync(self, path):
        self._op()
        super().fsync(path)

    def rename(self, source, target):
        self._op()
        super().rename(source, target)

    def fsync_dir(self, path):
        self._op()
        super().fsync_dir(path)


def test_a_reader_sees_the_old_or_the_new_bytes_whenever_the_writer_is_killed(tmp_path):
    path = tmp_path / "model.json"
    contents = set()
    for left in range(5):
        path.write_bytes(b"old")
        with contextlib.suppress(CutError):
            write_atomic(path, b"new", disk=DyingDisk(left))
        contents.add((left, path.read_bytes()))
    assert contents == {(0, b"old"), (1, b"old"), (2, b"old"), (3, b"new"), (4, b"new")}


def test_several_files_are_renamed_only_after_all_are_fsynced(tmp_path):
    class Sequential(DyingDisk):
        def fsync_all(self, paths):
            for path in paths:
                self.fsync(path)

    for left in range(8):
        for name in "ab":
            (tmp_path / name).write_bytes(b"old")
        with contextlib.suppress(CutError):
            write_all_atomic(tmp_path, {"a": lambda: b"new", "b": lambda: b"new"}, disk=Sequential(left))
        contents = {name: (tmp_path / name).read_bytes() for name in "ab"}
        assert contents == {"a": b"new" if left > 4 else b"old", "b": b"new" if left > 5 else b"old"}


def test_a_failed_fsync_of_several_files_raises_and_removes_all_files(tmp_path):
    class Full(Disk):
        def fsync(self, path):
            if path.name.startswith(".b."):
                raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        write_all_atomic(tmp_path, {name: lambda: b"x" for name in "abc"}, disk=Full())
    assert list(tmp_path.iterdir()) == []


def test_a_failed_fsync_removes_the_temporary_file(tmp_path):
    class Full(Disk):
        def fsync(self, path):
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        write_atomic(tmp_path / "status.json", b"x", disk=Full())
    assert list(tmp_path.iterdir()) == []


def test_a_rename_is_tried_again_while_windows_has_the_target_open(tmp_path):
    class HeldOpen(Disk):
        refusals = 3

        def rename(self, source, target):
            if self.refusals:
                self.refusals -= 1
                error = PermissionError(13, "held")
                error.winerror = 32
                raise error
            super().rename(source, target)

    write_atomic(tmp_path / "best_model_path.txt", b"new", disk=HeldOpen())
    assert (tmp_path / "best_model_path.txt").read_bytes() == b"new"


def test_a_rename_without_permission_is_not_tried_again(tmp_path):
    class Forbidden(Disk):
        calls = 0

        def rename(self, source, target):
            self.calls += 1
            raise PermissionError(13, "no")

    disk = Forbidden()
    with pytest.raises(PermissionError):
        write_atomic(tmp_path / "x", b"new", disk=disk)
    assert disk.calls == 1


@pytest.mark.fault(15)
def test_a_file_over_the_limit_is_not_read(tmp_path):
    path = tmp_path / "big"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(HotlapError) as caught:
        read_regular(path, limit=1000)
    assert caught.value.code == "E_TOO_BIG"


@pytest.mark.fault(20)
@pytest.mark.fault(21)
@needs_posix("FIFOs")
def test_a_fifo_and_a_link_are_rejected_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to("/etc/hostname")
    for name, code in (("fifo", "E_NOT_REGULAR"), ("link", "E_SYMLINK")):
        with pytest.raises(HotlapError) as caught:
            read_regular(tmp_path / name, limit=1000)
        assert caught.value.code == code
