"""Only one process at a time has a lock. Its file names that process, and the lock is free after its end."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from schemas.storage.file_lock import try_acquire
from tests.platforms import make_link

HOLD = """
import sys
from pathlib import Path
from schemas.storage.file_lock import try_acquire
lock, _ = try_acquire(Path(sys.argv[1]))
print("held" if lock else "refused", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("end", ["kill", "exit"])
def test_a_lock_of_another_process_names_it_and_is_free_after_its_end(tmp_path, end):
    path = tmp_path / "folder" / ".lock"
    command = [sys.executable, "-c", HOLD, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        assert try_acquire(path) == (None, str(other.pid))
        if end == "kill":
            other.kill()
        else:
            other.stdin.close()
        other.wait(timeout=30)
    lock, holder = try_acquire(path)
    assert lock is not None
    assert holder == ""
    assert path.read_text(encoding="utf-8") == str(os.getpid())
    lock.release()


def test_a_released_lock_can_be_acquired_again(tmp_path):
    path = tmp_path / ".lock"
    lock, _ = try_acquire(path)
    assert try_acquire(path) == (None, str(os.getpid()))
    with lock:
        pass
    lock.release()
    again, _ = try_acquire(path)
    assert again is not None
    again.release()


def test_a_link_in_place_of_the_lock_file_does_not_change_its_target(tmp_path):
    (tmp_path / "target").write_text("text", encoding="utf-8")
    make_link(tmp_path / ".lock", tmp_path / "target")
    with pytest.raises(OSError, match=r"\.lock"):
        try_acquire(tmp_path / ".lock")
    assert (tmp_path / "target").read_text(encoding="utf-8") == "text"
