"""Online runs with td3: they learn from all experiences, and a resumed run continues exactly."""

import dataclasses

import numpy as np
import pytest
import torch

from tests.trainer.online.test_run import checkpoints, config
from tests.trainer.toy import columns
from trainer.checkpoints.checkpoint import load_document
from trainer.online.cli import main
from trainer.online.learners.history import History
from trainer.rollouts.experiences import by_agent


def run(folder, *arguments, env="Pendulum-v1", steps=3072, **train):
    folder.mkdir(exist_ok=True)
    path = config(folder, env, 8, steps)
    settings = "".join(f"{name} = {value!r}\n" for name, value in {"algorithm": "td3", **train}.items())
    path.write_text(path.read_text("utf-8").replace("[train]\n", f"[train]\n{settings}"), encoding="utf-8")
    return main(["--config", str(path), "--logs", str(folder / "logs"), *arguments])


def numbers(path):
    document = load_document(path.read_bytes())
    critics = document["critics"]
    policy = {name: tensor.numpy().tobytes() for name, tensor in document["policy_state_dict"].items()}
    policy |= {name: critics[name]["vector"].numpy().tobytes() for name in ("critics", "targets")}
    return policy | {"moments": critics["critics_adam"]["exp_avg_sq"].numpy().tobytes()}


@pytest.mark.parametrize("env", ["Pendulum-v1", "CartPole-v1"])
def test_a_resumed_run_ends_in_the_same_bits_as_an_uninterrupted_one(tmp_path, env):
    torch.set_num_threads(1)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert run(whole, env=env) == 0
    assert run(cut, env=env, steps=2048) == 0
    assert run(cut, "--resume", env=env) == 0
    for name in ("model_step_0000002048.pt", "final_model.pt"):
        one, other = checkpoints(whole) / name, checkpoints(cut) / name
        assert numbers(one) == numbers(other)
    assert [path.name for path in checkpoints(cut).glob("replay_*")] == ["replay_step_0000003072.npz"]


def test_a_run_whose_experiences_are_lost_continues_with_new_ones_and_says_so(tmp_path, capsys):
    torch.set_num_threads(1)
    assert run(tmp_path, steps=1024) == 0
    next(checkpoints(tmp_path).glob("replay_*")).write_bytes(b"not an archive")
    assert run(tmp_path, "--resume", steps=2048) == 0
    assert "replay_step_0000001024.npz cannot be read: the run continues with new experiences only" in (
        capsys.readouterr().out
    )


def test_auto_takes_td3_for_continuous_actions_only(tmp_path, capsys):
    torch.set_num_threads(1)
    for env, is_td3 in (("Pendulum-v1", True), ("CartPole-v1", False)):
        assert run(tmp_path / env, env=env, steps=256, algorithm="auto") == 0
        assert ("td3: 0.5 gradient steps for each new step" in capsys.readouterr().out) == is_td3


def test_the_oldest_batches_are_forgotten_and_only_the_last_one_is_new(tmp_path):
    history = History(most=1000)
    for number in range(4):
        rollout = columns(400)
        history.append(by_agent(dataclasses.replace(rollout, rewards=np.full(400, number, np.float32))))
    kept = history.experiences()
    assert np.unique(kept.reward_B).tolist() == [2.0, 3.0]
    assert np.unique(kept.reward_B[kept.is_new_B]).tolist() == [3.0]
    history.save(tmp_path / "replay.npz")
    other = History(most=1000)
    assert other.load(tmp_path / "replay.npz")
    for field in dataclasses.fields(kept):
        np.testing.assert_array_equal(getattr(other.experiences(), field.name), getattr(kept, field.name))


def test_a_damaged_file_of_experiences_is_not_loaded(tmp_path):
    path = tmp_path / "replay.npz"
    history = History(most=1000)
    assert not history.load(path)
    for data in (b"", b"PK\x03\x04", np.random.default_rng(0).bytes(500)):
        path.write_bytes(data)
        assert not history.load(path)
    np.savez(path, batches=np.int64(1), observation_BO=np.zeros((3, 2)))
    assert not history.load(path)
