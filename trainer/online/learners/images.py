"""PPO for images of bytes: a CNN instead of normalised vectors."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from schemas.contract import PolicyContract
from schemas.errors import ConfigError, ModelError
from trainer.checkpoints.image_checkpoint import image_policy_state, is_image_document
from trainer.common import threads
from trainer.common.shapes import Float64
from trainer.envs.vec_env import Observations
from trainer.networks.image_network import ImageActorCritic, ImageShape
from trainer.networks.network import Network, Shape
from trainer.networks.normaliser import Normalisers
from trainer.online.config import OnlineSettings
from trainer.online.learners.ppo import OnlineLearner, ScheduledValues
from trainer.ppo.update import UpdateConfig
from trainer.rollouts.evaluation import PolicyOutputs
from trainer.rollouts.experiences import Experiences
from trainer.rollouts.training_set import first_return_normaliser

_MOST_THREADS = 8


class ImageLearner(OnlineLearner):
    """A CNN and its optimizer. Observations have no normaliser: the network divides bytes by the largest one."""

    def __init__(self, contract: PolicyContract, settings: OnlineSettings, image: ImageShape) -> None:
        """Raise ConfigError if the settings ask for what images do not have."""
        if settings.train.mirror:
            raise ConfigError(
                "train.mirror is true, but the observations are images, which have no [mirror]",
                hint="set train.mirror = false, or mirror the images in the environment",
            )
        self.image = image
        super().__init__(contract, settings)
        self.normalisers = Normalisers.identity(1)
        # From the start, also for acting: a resumed run must compute with as many threads.
        self._threads = settings.run.threads or min(os.cpu_count() or 1, _MOST_THREADS)
        threads.set_thread_count(self._threads)

    def _new_network(self, shape: Shape) -> Network:
        return ImageActorCritic(shape, self.image, seed=self.settings.run.seed)

    def _update_config(self, iteration: int, scheduled: ScheduledValues) -> UpdateConfig:
        return replace(super()._update_config(iteration, scheduled), threads=self._threads)

    def _normalise_observations(self, experiences: Experiences) -> tuple[PolicyOutputs, Float64]:
        """Return the network's outputs, and the log_probs when it collected [B]."""
        outputs = self._evaluate_policy(experiences)
        gamma = self.settings.train.gamma
        if self.trained:
            returns = self.normalisers.returns.reaching(experiences.reward_B, gamma)
        else:
            returns = first_return_normaliser(experiences, gamma)
        self.normalisers = Normalisers(self.normalisers.observations, returns)
        return outputs, outputs.logp_B.double().numpy()

    def _limit_outliers(self, experiences: Experiences) -> Experiences:
        """Return a batch with limited rewards; bytes have no outliers."""
        images, finals = experiences.observation_BO, experiences.final_observation_FO
        blank, blank_finals = (np.zeros((len(array), 1), np.float32) for array in (images, finals))
        limited = super()._limit_outliers(replace(experiences, observation_BO=blank, final_observation_FO=blank_finals))
        return replace(limited, observation_BO=images, final_observation_FO=finals)

    def _restart_from(self, normalisers: Normalisers) -> None:
        self.normalisers, self.moments = Normalisers(self.normalisers.observations, normalisers.returns), {}

    def _inputs(self, observation_BO: Observations) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(observation_BO))


def restore_images(document: Mapping[str, Any], name: str, learner: ImageLearner) -> None:
    """Load a checkpoint of an online run, or of DAgger, into a new learner. Raises ModelError (E_CONTRACT)."""
    if not is_image_document(document):
        raise ModelError(
            f"{name} is a policy for vectors, but the environment has images",
            hint="use a checkpoint (.pt, .pth) of a policy for the same images",
            code="E_CONTRACT",
        )
    state = image_policy_state(
        document,
        name,
        image=learner.image,
        hidden=learner.settings.train.hidden_sizes[0],
        space=learner.contract.action_space,
    )
    try:
        learner.network.load_state_dict(learner.network.state_dict() | state)  # DAgger's has no value head
        if "normalisers" in document:
            learner.normalisers = Normalisers.from_state_dict(document["normalisers"])
            learner.trained = bool(document["policy_trained"])
            learner.moments = dict(document["optimizer_state_dict"].get("state", {}))
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        cause = f"{type(error).__name__}: {error}"
        raise ModelError(f"{name} is incomplete: {cause}", hint="train again", code="E_CHECKPOINT") from None
