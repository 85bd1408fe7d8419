"""An online run starts from a trained model and computes what it computes, or refuses it before it trains."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from schemas.contract import ContinuousActions, PolicyContract
from schemas.errors import HotlapError
from schemas.model import model_to_bytes
from tests.helpers import make_model
from tests.trainer.toy import STEER, Bandit, loop_for
from trainer import load_policy
from trainer.networks.network import run_stack
from trainer.online.cli import main
from trainer.online.config import OnlineSettings, TrainSettings
from trainer.online.learners.ppo import OnlineLearner
from trainer.online.start_from import start_from

SPACE = ContinuousActions.named(("steer", "throttle", "brake"))


def learner_for(contract: PolicyContract, sizes: tuple[int, ...]) -> OnlineLearner:
    return OnlineLearner(contract, OnlineSettings(train=TrainSettings(hidden_sizes=sizes)))


@torch.no_grad()
def mean_of(learner: OnlineLearner, x: np.ndarray) -> np.ndarray:
    return run_stack(learner.network.stacks().policy, learner.normalisers.observations(x)).tanh().numpy()


def test_a_run_starts_from_the_model_of_a_daemon_with_optimizer_and_normaliser(tmp_path):
    game = Bandit()
    loop = loop_for(game, tmp_path)
    loop.train(game.play(loop.start(), 64))
    x = np.random.default_rng(0).normal(size=(16, 4)).astype(np.float32)
    contract = PolicyContract(observation_size=4, action_space=STEER)
    for name in (loop.result.checkpoint, loop.result.model):
        learner = learner_for(contract, loop.result.hidden_sizes)
        lines = start_from(loop.output / name, learner)
        np.testing.assert_allclose(mean_of(learner, x), load_policy(loop.output / name).mean(x), atol=1e-5)
        assert learner.trained
        has_optimizer = name.endswith(".pt")
        assert bool(learner.moments) == has_optimizer
        assert (learner.normalisers.observations.count > 0) == has_optimizer
        assert any("the optimizer starts from scratch" in line for line in lines) != has_optimizer


def test_a_model_that_does_not_fit_is_refused_with_one_line(tmp_path):
    path = tmp_path / "model.json"
    path.write_bytes(model_to_bytes(make_model(hidden=8)))
    for contract, sizes, message in (
        (PolicyContract(observation_size=15, action_space=SPACE), (16, 16), r"set train.hidden_sizes = \[8, 8\]"),
        (PolicyContract(observation_size=9, action_space=SPACE), (8, 8), "15 observations instead of 9"),
    ):
        with pytest.raises(HotlapError, match=message):
            start_from(path, learner_for(contract, sizes))


def test_a_missing_file_is_refused_before_the_last_run_is_moved(tmp_path, capsys):
    arguments = ["--env", "racing", "--from", str(tmp_path / "none.json"), "--logs", str(tmp_path / "logs")]
    assert main(arguments) == 78
    assert "none.json is not a file" in capsys.readouterr().err
    assert not (tmp_path / "logs").exists()
