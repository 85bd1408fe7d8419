"""The learner that a config asks for."""

from __future__ import annotations

from typing import Literal

from schemas.contract import ContinuousActions, PolicyContract
from trainer.online.config import OnlineSettings
from trainer.online.learners.ppo import OnlineLearner
from trainer.online.learners.replay import ReplayLearner


def make_learner(contract: PolicyContract, settings: OnlineSettings) -> OnlineLearner:
    """Return a new learner for agents of this contract."""
    kind = ReplayLearner if algorithm_for(contract, settings) == "td3" else OnlineLearner
    return kind(contract, settings)


def algorithm_for(contract: PolicyContract, settings: OnlineSettings) -> Literal["ppo", "td3"]:
    """Return the algorithm for agents of this contract."""
    if settings.train.algorithm != "auto":
        return settings.train.algorithm
    return "td3" if isinstance(contract.action_space, ContinuousActions) else "ppo"
