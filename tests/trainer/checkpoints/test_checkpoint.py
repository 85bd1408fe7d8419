"""Loading checkpoints: a damaged file is a bad checkpoint; running out of memory is not."""

import pickle

import pytest
import torch

from schemas.errors import ModelError
from tests.trainer.toy import Bandit, loop_for
from trainer.checkpoints import checkpoint as module
from trainer.checkpoints.checkpoint import load_document


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Return the bytes of a real checkpoint."""
    loop = loop_for(Bandit(), tmp_path_factory.mktemp("loop"))
    loop.start()
    return (loop.output / loop.result.checkpoint).read_bytes()


DAMAGED = {
    "empty": lambda data: b"",
    "cut": lambda data: data[: len(data) // 2],
    "text": lambda data: b"not a checkpoint at all",
    "a pickle of another kind": lambda data: pickle.dumps({"policy_state_dict": pytest.approx}, protocol=2),
    "keys missing": lambda data: data.replace(b"training_history", b"training_histoxy"),
}


@pytest.mark.parametrize("damage", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_file_is_an_error_that_names_it(saved, damage):
    assert damage(saved) != saved
    with pytest.raises(ModelError, match=r"^epoch\.pt ") as error:
        load_document(damage(saved), "epoch.pt")
    assert error.value.code == "E_CHECKPOINT"


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
        torch.OutOfMemoryError("CUDA out of memory"),
    ],
    ids=repr,
)
def test_running_out_of_memory_is_not_a_damaged_file(saved, monkeypatch, error):
    def fail(*arguments, **named):
        raise error

    monkeypatch.setattr(module.torch, "load", fail)
    with pytest.raises(type(error)) as caught:
        load_document(saved)
    assert caught.value is error
