"""Files that are written together, between epochs, are whole when the result is said, or the job fails."""

from __future__ import annotations

import time

import pytest

from schemas.files import sha256_of
from trainer import results
from trainer.results import Output


class Small:
    """Stands for a checkpoint: what `keep` asks one for."""

    size_bytes = 5

    def to_bytes(self) -> bytes:
        return b"small"


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_what_is_written_later_is_there_after_settling(tmp_path):
    output = Output(tmp_path)
    for name in ("a", "b", "c", "d"):
        output.write_later(name, name.encode)
    output.settle()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {n: n.encode() for n in "abcd"}
    assert output.files == {n: sha256_of(n.encode()) for n in "abcd"}


def test_writing_goes_on_while_something_else_is_done(tmp_path):
    output = Output(tmp_path)
    output.write_later("a", lambda: b"a")
    output.begin_to_write()
    began = time.monotonic()
    while names(tmp_path) != ["a"]:
        assert time.monotonic() - began < 10.0
    output.settle()
    assert names(tmp_path) == ["a"]


def test_a_failed_write_is_told_when_settling(tmp_path):
    output = Output(tmp_path / "gone")
    output.write_later("a", lambda: b"a")
    with pytest.raises(FileNotFoundError):
        output.settle()
    assert output.files == {}


@pytest.mark.parametrize("setting", ["MOST_WAITING", "MOST_WAITING_BYTES", "LONGEST_WAIT_S"])
def test_checkpoints_are_written_together_once_they_are_many_or_large_or_old(tmp_path, monkeypatch, setting):
    limits = {"MOST_WAITING": 10**9, "MOST_WAITING_BYTES": 10**9, "LONGEST_WAIT_S": 10**9}
    for name, value in (limits | {setting: {"MOST_WAITING": 3, "MOST_WAITING_BYTES": 15}.get(setting, 0.05)}).items():
        monkeypatch.setattr(results, name, value)
    output, began = Output(tmp_path), time.monotonic()
    kept = []
    while not names(tmp_path):
        kept.append(f"model_epoch_{len(kept)}.pt")
        output.keep(kept[-1], Small())
        assert time.monotonic() - began < 10.0
    assert names(tmp_path) == sorted(kept)
    if setting == "LONGEST_WAIT_S":
        assert time.monotonic() - began >= 0.05
    else:
        assert len(kept) == 3


def test_a_failed_write_ends_the_training_between_epochs(tmp_path):
    output = Output(tmp_path / "gone")
    with pytest.raises(FileNotFoundError):  # noqa: PT012  the last one at the latest
        for k in range(results.MOST_WAITING):
            output.keep(f"model_epoch_{k}.pt", Small())
