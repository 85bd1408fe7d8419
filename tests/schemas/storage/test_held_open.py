"""Files that another program has open: operations on them are tried again, for a limited time, and only on Windows."""

from __future__ import annotations

import sys
import threading

import pytest

from schemas.storage.files import Disk, read_regular, read_with_retries, unlink_with_retries, write_atomic
from schemas.storage.held_open import is_held_open, is_surely_held_open, may_be_held_open, retry_while_held_open
from tests.faults.support.disk import open_error, os_error, win_error

if sys.platform == "win32":
    from tests.faults.support.windows import SHARE_NOTHING, SHARE_READ_AND_WRITE, held_open


class CountingDisk(Disk):
    def __init__(self):
        self.paused_s = 0.0

    def pause(self, seconds):
        self.paused_s += seconds


@pytest.mark.parametrize(
    ("fault", "when_renaming", "when_reading", "surely"),
    [
        (win_error(5), True, True, False),
        (win_error(32), True, True, True),
        (win_error(33), True, True, True),
        (win_error(112), False, False, False),
        (open_error(), False, True, False),  # `open` on Windows: errno 13, winerror None
        (os_error(28), False, False, False),
    ],
)
def test_errors_of_windows_are_recognised(tmp_path, fault, when_renaming, when_reading, surely):
    error = fault(tmp_path / "x")
    assert (is_held_open(error), may_be_held_open(error), is_surely_held_open(error)) == (
        when_renaming,
        when_reading,
        surely,
    )


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX: errno 13 is a missing permission")
def test_a_missing_permission_elsewhere_is_not_tried_again(tmp_path):
    disk = CountingDisk()

    def refuse():
        raise os_error(13)(tmp_path / "x")

    with pytest.raises(PermissionError):
        retry_while_held_open(refuse, pause=disk.pause)
    assert disk.paused_s == 0.0


@pytest.mark.parametrize("refusals", [1, 5])
def test_an_operation_succeeds_when_the_other_program_closes_the_file(tmp_path, refusals):
    disk, left = CountingDisk(), [open_error()(tmp_path / "x") for _ in range(refusals)]

    def operation():
        if left:
            raise left.pop()
        return "read"

    assert retry_while_held_open(operation, pause=disk.pause) == "read"
    assert 0.0 < disk.paused_s < 1.0


def test_the_time_is_limited_and_the_last_error_is_raised(tmp_path):
    disk = CountingDisk()

    def refuse():
        raise win_error(32)(tmp_path / "x")

    with pytest.raises(PermissionError) as caught:
        retry_while_held_open(refuse, pause=disk.pause, timeout_s=1.0)
    assert caught.value.winerror == 32
    assert 0.7 < disk.paused_s <= 1.0


def test_removing_a_file_is_tried_again(tmp_path):
    class Held(CountingDisk):
        refusals = 3

        def unlink(self, path):
            if self.refusals:
                self.refusals -= 1
                raise win_error(32)(path)
            super().unlink(path)

    (tmp_path / "x").write_bytes(b"x")
    unlink_with_retries(tmp_path / "x", disk=Held())
    assert not (tmp_path / "x").exists()


@pytest.mark.skipif(sys.platform != "win32", reason="Windows: files that programs do not share")
def test_windows_reports_a_file_that_is_not_shared_as_the_fakes_do(tmp_path):
    path, new = tmp_path / "rollout.json", tmp_path / "new"
    path.write_bytes(b"old")
    new.write_bytes(b"new")
    with held_open(path):
        with pytest.raises(PermissionError) as opening:
            read_regular(path, limit=10)
        with pytest.raises(PermissionError) as replacing:
            new.replace(path)
        with pytest.raises(PermissionError) as removing:
            path.unlink()
        assert path.lstat().st_size == 3
    assert (opening.value.errno, opening.value.winerror) == (13, None)
    assert may_be_held_open(opening.value)
    assert is_held_open(replacing.value)
    assert is_held_open(removing.value)


@pytest.mark.skipif(sys.platform != "win32", reason="Windows: files that programs do not share")
@pytest.mark.parametrize("operation", ["read", "replace", "remove"])
def test_on_windows_we_wait_for_the_program_that_has_the_file_open(tmp_path, operation):
    path, closing, waited = tmp_path / "best_model_path.txt", threading.Event(), threading.Event()
    path.write_bytes(b"old")

    class Telling(Disk):
        def pause(self, seconds):
            closing.set()  # the file was refused once: only now the other program closes it
            waited.wait(5.0)

    def hold():
        with held_open(path, share=SHARE_NOTHING if operation == "read" else SHARE_READ_AND_WRITE):
            opened.set()
            closing.wait(5.0)
        waited.set()

    opened = threading.Event()
    thread = threading.Thread(target=hold)
    thread.start()
    assert opened.wait(5.0)
    if operation == "read":
        assert read_with_retries(path, limit=10, disk=Telling()) == b"old"
    elif operation == "replace":
        write_atomic(path, b"new", disk=Telling())
        assert path.read_bytes() == b"new"
    else:
        unlink_with_retries(path, disk=Telling())
        assert not path.exists()
    thread.join(5.0)
    assert closing.is_set()
