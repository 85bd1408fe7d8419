"""Files that are written while training goes on are whole when the result is said, or the job fails."""

from __future__ import annotations

import threading

import pytest

from schemas.files import sha256_of
from trainer.results import MOST_WAITING, Output


def test_what_is_written_later_is_there_after_settling(tmp_path):
    output = Output(tmp_path)
    for name in ("a", "b", "c", "d"):
        output.write_later(name, name.encode)
    output.settle()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {n: n.encode() for n in "abcd"}
    assert output.files == {n: sha256_of(n.encode()) for n in "abcd"}


def test_a_failed_write_is_told_when_settling(tmp_path):
    output = Output(tmp_path / "gone")
    output.write_later("a", lambda: b"a")
    with pytest.raises(FileNotFoundError):
        output.settle()
    assert output.files == {}


def test_a_failed_write_ends_the_training_at_the_next_epochs(tmp_path):
    output = Output(tmp_path / "gone")
    with pytest.raises(FileNotFoundError):  # noqa: PT012  the last one at the latest: none waits for a disk that fails
        for _ in range(MOST_WAITING + 1):
            output.write_later("a", lambda: b"a")


def test_a_slow_disk_is_waited_for(tmp_path):
    output, release = Output(tmp_path), threading.Event()

    def slow():
        assert release.wait(10.0)
        return b"slow"

    for name in "ab"[:MOST_WAITING]:
        output.write_later(name, slow)
    third = threading.Thread(target=output.write_later, args=("c", lambda: b"c"))
    third.start()
    third.join(0.2)
    assert third.is_alive()
    release.set()
    third.join(10.0)
    output.settle()
    assert not third.is_alive()
    assert sorted(output.files) == ["a", "b", "c"]
