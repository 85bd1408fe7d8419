"""A result that cannot be one of its job is refused before it is stored."""

from __future__ import annotations

import pytest

from daemon.publishing.pointer import PublishError
from daemon.training.result_check import MAX_EPOCH, checked_result
from schemas.contract import ContinuousActions, PolicyContract
from schemas.job import Job, RankedEpoch, Result
from schemas.settings.models import TrainerSettings

CONTRACT = PolicyContract(observation_size=4, action_space=ContinuousActions.named(("steer",)))
JOB = Job(
    kind="train",
    policy_version=1,
    output="staging",
    contract=CONTRACT,
    hidden_sizes=(8, 8),
    settings=TrainerSettings(epochs=5),
)
FILES = {"model_epoch_2.pt": "0" * 64, "model_epoch_2.json": "1" * 64, "model_analysis.json": "a" * 64}
GOOD = Result(
    epoch=2,
    score=0.5,
    model="model_epoch_2.json",
    checkpoint="model_epoch_2.pt",
    files=FILES,
    contract=CONTRACT,
    hidden_sizes=(8, 8),
)
ANOTHER = CONTRACT.model_copy(update={"observation_size": 3})
WRONG = {
    "an epoch of 2**70": ({"epoch": 2**70}, "epoch 1180591620717411303424 instead of an epoch from 0 to 5"),
    "a negative epoch": ({"epoch": -1}, "epoch -1"),
    "an epoch after the last": ({"epoch": 6}, "epoch 6"),
    "a model elsewhere": ({"model": "/etc/passwd"}, "the model '/etc/passwd' instead of model_epoch_2.json"),
    "a checkpoint above": ({"checkpoint": "../../model_epoch_2.pt"}, "the checkpoint '../../model_epoch_2.pt'"),
    "the model of another epoch": ({"model": "model_epoch_3.json"}, "the model 'model_epoch_3.json'"),
    "a file elsewhere": ({"files": FILES | {"/etc/passwd": "0" * 64}}, "the file '/etc/passwd'"),
    "a file above": ({"files": FILES | {"../x.json": "0" * 64}}, "the file '../x.json'"),
    "a file of Windows": ({"files": FILES | {"C:\\x.json": "0" * 64}}, "the file 'C:"),
    "a stream of Windows": ({"files": FILES | {"model_epoch_1.pt:x": "0" * 64}}, "the file 'model_epoch_1.pt:x'"),
    "the pointer file": ({"files": FILES | {"best_model_path.txt": "0" * 64}}, "the file 'best_model_path.txt'"),
    "a cycle's folder": ({"files": FILES | {"cycle_000001": "0" * 64}}, "the file 'cycle_000001'"),
    "a name with a newline": ({"files": FILES | {"model_epoch_1.pt\n": "0" * 64}}, "the file 'model_epoch_1.pt"),
    "no hashes": ({"files": {}}, "no hash for model_epoch_2.json"),
    "a hash that is none": ({"files": FILES | {"model_epoch_1.pt": "x"}}, "'x' as the hash of model_epoch_1.pt"),
    "a long hash": ({"files": FILES | {"model_epoch_1.pt": "0" * 10**6}}, "as the hash of model_epoch_1.pt"),
    "more experiences than exist": ({"experiences": 2**70}, "experiences"),
    "an impossible ranking": (
        {"ranking": (RankedEpoch(epoch=2**70, score=None, value_loss=None, reason=""),)},
        "an impossible epoch",
    ),
    "another contract": ({"contract": ANOTHER}, "3 observations instead of 4"),
    "another network": ({"hidden_sizes": (64,)}, "hidden layers [64] instead of [8, 8]"),
}


@pytest.mark.fault(87)
@pytest.mark.parametrize("fault", WRONG)
def test_a_wrong_result_is_refused_with_what_is_wrong(fault):
    changes, words = WRONG[fault]
    with pytest.raises(PublishError) as caught:
        checked_result(GOOD.model_copy(update=changes), JOB)
    assert words in caught.value.message
    assert len(caught.value.message) < 400
    assert caught.value.code == "E_PUBLISH"


def test_a_right_result_is_returned_unchanged():
    assert checked_result(GOOD, JOB) == GOOD


def test_a_script_may_have_written_more_epochs_than_the_settings_name():
    epoch = MAX_EPOCH
    names = {"model": f"model_epoch_{epoch}.json", "checkpoint": f"model_epoch_{epoch}.pt"}
    files = dict.fromkeys(names.values(), "0" * 64)
    result = GOOD.model_copy(update={"epoch": epoch, "files": files, **names})
    assert checked_result(result, JOB.model_copy(update={"kind": "select"})) == result


def test_an_adopted_model_has_its_own_shape():
    result = GOOD.model_copy(update={"contract": ANOTHER, "hidden_sizes": (64,)})
    assert checked_result(result, JOB.model_copy(update={"kind": "adopt"})) == result


@pytest.mark.fault(87)
def test_long_texts_and_control_characters_are_shortened_and_escaped():
    ranking = (RankedEpoch(epoch=1, score=None, value_loss=None, reason="\x1b[2J" * 10_000),)
    losses = {"a" * 10_000: 1.0} | {f"loss_{k}": 1.0 for k in range(1000)}
    texts = {"device": "\x1b" * 10_000, "algorithm": "x" * 10_000, "notes": ("\n" * 10_000,) * 10_000}
    result = checked_result(GOOD.model_copy(update={"ranking": ranking, "losses": losses, **texts}), JOB)
    assert len(result.to_bytes()) < 10_000
    assert b"\\u001b" not in result.to_bytes()
