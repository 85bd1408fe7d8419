"""The learner that a config asks for."""

from __future__ import annotations

from typing import Literal

from schemas.contract import ContinuousActions, PolicyContract
from schemas.errors import ConfigError
from trainer.envs.gymnasium_env import GymnasiumVecEnv
from trainer.envs.vec_env import VecEnv
from trainer.networks.image_network import ImageShape
from trainer.online.config import OnlineSettings
from trainer.online.learners.images import ImageLearner
from trainer.online.learners.ppo import OnlineLearner
from trainer.online.learners.replay import ReplayLearner


def make_learner(contract: PolicyContract, settings: OnlineSettings, image: ImageShape | None = None) -> OnlineLearner:
    """Return a new learner for agents of this contract, which may observe images. Raises ConfigError."""
    is_td3 = algorithm_for(contract, settings, image) == "td3"
    if image is not None and is_td3:
        raise ConfigError(
            f"train.algorithm is td3, but the observations of {settings.env.id} are images, which only ppo learns from",
            hint='set train.algorithm = "ppo", or use a wrapper that returns a vector',
        )
    if image is not None:
        return ImageLearner(contract, settings, image)
    return ReplayLearner(contract, settings) if is_td3 else OnlineLearner(contract, settings)


def image_of(env: VecEnv) -> ImageShape | None:
    """Return the shape of the images that an environment's agents observe; None if they observe vectors."""
    spec = env.image if isinstance(env, GymnasiumVecEnv) else None
    if spec is None:
        return None
    height, width, channels = spec.shape
    return ImageShape(height, width, channels, spec.image_max)


def algorithm_for(
    contract: PolicyContract, settings: OnlineSettings, image: ImageShape | None = None
) -> Literal["ppo", "td3"]:
    """Return the algorithm for agents of this contract."""
    if settings.train.algorithm != "auto":
        return settings.train.algorithm
    return "td3" if isinstance(contract.action_space, ContinuousActions) and image is None else "ppo"
