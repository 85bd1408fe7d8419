"""Files that are written together, between epochs, are complete when the result is sent, or the job fails."""

from __future__ import annotations

import threading
import time

import pytest

from schemas.errors import ModelError
from schemas.storage.files import sha256_of, write_all_atomic
from tests.trainer.toy import Bandit, loop_for
from trainer.checkpoints import output as output_module
from trainer.checkpoints.output import Output


class Small:
    """Replaces a checkpoint: has what `queue_checkpoint` uses."""

    size_bytes = 5

    def to_bytes(self) -> bytes:
        return b"small"


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_queued_files_exist_after_flush(tmp_path):
    output = Output(tmp_path)
    for name in ("a", "b", "c", "d"):
        output.queue_file(name, name.encode)
    output.flush()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {n: n.encode() for n in "abcd"}
    assert output.files == {n: sha256_of(n.encode()) for n in "abcd"}


def test_files_are_written_on_a_thread(tmp_path):
    output = Output(tmp_path)
    output.queue_file("a", lambda: b"a")
    output.start_writing()
    began = time.monotonic()
    while names(tmp_path) != ["a"]:
        assert time.monotonic() - began < 10.0
    output.flush()
    assert names(tmp_path) == ["a"]


def test_flush_raises_what_a_write_failed_with(tmp_path):
    output = Output(tmp_path / "gone")
    output.queue_file("a", lambda: b"a")
    with pytest.raises(FileNotFoundError):
        output.flush()
    assert output.files == {}


@pytest.mark.parametrize("setting", ["MAX_QUEUED", "MAX_QUEUED_BYTES", "MAX_QUEUED_S"])
def test_checkpoints_are_written_together_if_they_are_many_or_large_or_old(tmp_path, monkeypatch, setting):
    limits = {"MAX_QUEUED": 10**9, "MAX_QUEUED_BYTES": 10**9, "MAX_QUEUED_S": 10**9}
    for name, value in (limits | {setting: {"MAX_QUEUED": 3, "MAX_QUEUED_BYTES": 15}.get(setting, 0.05)}).items():
        monkeypatch.setattr(output_module, name, value)
    output, began = Output(tmp_path), time.monotonic()
    checkpoints = []
    while not names(tmp_path):
        checkpoints.append(f"model_epoch_{len(checkpoints)}.pt")
        output.queue_checkpoint(checkpoints[-1], Small())
        assert time.monotonic() - began < 10.0
    assert names(tmp_path) == sorted(checkpoints)
    if setting == "MAX_QUEUED_S":
        assert time.monotonic() - began >= 0.05
    else:
        assert len(checkpoints) == 3


def test_a_failed_write_ends_the_training_between_epochs(tmp_path):
    output = Output(tmp_path / "gone")
    with pytest.raises(FileNotFoundError):  # noqa: PT012  at the last one, if not before
        for k in range(output_module.MAX_QUEUED):
            output.queue_checkpoint(f"model_epoch_{k}.pt", Small())


def test_a_checkpoint_that_is_not_kept_in_memory_is_read_from_its_file(tmp_path, monkeypatch):
    loop = loop_for(Bandit(), tmp_path / "loop")
    loop.start()
    checkpoint = Output(loop.output).checkpoint(loop.result.checkpoint, None)
    monkeypatch.setattr(output_module, "MAX_IN_MEMORY_BYTES", 0)
    (tmp_path / "out").mkdir()
    output = Output(tmp_path / "out")
    output.queue_checkpoint("model_epoch_1.pt", checkpoint)
    output.start_writing()
    assert output.checkpoint("model_epoch_1.pt", None).to_bytes() == checkpoint.to_bytes()


def test_after_an_interrupt_the_writes_can_still_be_waited_for(tmp_path, monkeypatch):
    def interrupted(writes):
        raise KeyboardInterrupt

    output = Output(tmp_path)
    output.queue_file("a", lambda: b"a")
    with monkeypatch.context() as patch:
        patch.setattr(output_module, "wait", interrupted)
        with pytest.raises(KeyboardInterrupt):
            output.flush()
    output.wait()
    assert names(tmp_path) == ["a"]


def test_a_job_that_fails_during_a_write_waits_for_the_write(tmp_path, monkeypatch):
    def slow(folder, files, **how):
        assert refused.wait(10.0)
        write_all_atomic(folder, files, **how)

    def refuse(*arguments, **more):
        refused.set()
        raise ModelError("no", hint="none")

    refused = threading.Event()
    loop = loop_for(env := Bandit(), tmp_path)
    rollout = env.play(loop.start(), 40)
    monkeypatch.setattr(output_module, "write_all_atomic", slow)
    monkeypatch.setattr(output_module, "MAX_QUEUED_S", 10**9)  # a slow machine must not write before the failure
    monkeypatch.setattr(output_module, "export", refuse)
    with pytest.raises(ModelError):
        loop.train(rollout)
    assert names(loop.output) == ["model_analysis.json", *(f"model_epoch_{k}.pt" for k in range(1, 5))]
