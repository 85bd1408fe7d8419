"""PPO as the learner of one cycle: device, settings of the update, epochs."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import torch

from schemas.job import Job
from schemas.settings.models import TrainerSettings
from trainer.checkpoints.parent import Parent
from trainer.common import device as devices
from trainer.common.reporting.reporter import Notices
from trainer.common.schedule import scheduled
from trainer.networks.distributions import ActionDistribution
from trainer.networks.network import Network
from trainer.networks.normaliser import Normalisers
from trainer.ppo.loss import Loss, LossConfig
from trainer.ppo.make_updater import make_updater
from trainer.ppo.update import UpdateConfig, Updater, run_epochs
from trainer.rollouts.batch import Batch
from trainer.rollouts.training_set import TrainingSet
from trainer.worker.value_critic import ValueCritic

_DEVICE_TRIAL = 20
"""Minibatches on which the devices are compared."""


class PpoLearner:
    """The epochs of PPO on one training set; see `trainer.worker.epochs.Learner`."""

    def __init__(
        self,
        job: Job,
        training_set: TrainingSet,
        distribution: ActionDistribution,
        loss: Loss,
        parent: Parent,
        notices: Notices,
        critic: ValueCritic | None = None,
    ) -> None:
        self._job, self._training_set, self._distribution, self._loss = job, training_set, distribution, loss
        self._optimizer_state, self._notices = parent.optimizer_state, notices
        self.device = self._choose_device()
        self.experiences, self.epochs = training_set.size, job.settings.epochs
        self._updater = self._make_updater(training_set.network, training_set.train, self.device)
        self._critic = critic
        if critic is not None:
            critic.start(training_set)

    @property
    def network(self) -> Network:
        """Return the network as it is now."""
        return self._updater.network

    @property
    def normalisers(self) -> Normalisers:
        """Return the normalisers of the network."""
        return self._training_set.normalisers

    @property
    def probe(self) -> torch.Tensor:
        """Return raw observations for the model's probe, float32 [p, O]."""
        return self._training_set.probe

    @property
    def policy_trained(self) -> bool:
        """Return whether this cycle or an earlier one has trained the policy."""
        return self._training_set.policy_trained

    def optimizer_state(self) -> dict[str, Any]:
        """Return Adam's state dict; the next epoch changes its tensors."""
        return self._updater.optimizer_state()

    def critics_state(self) -> dict[str, Any]:
        """Return the value critic, if rollouts have critic observations; the next epoch changes the tensors."""
        return {} if self._critic is None else self._critic.document()

    def run(self) -> Iterator[tuple[int, dict[str, float]]]:
        """Yield (epoch, losses by name) after each epoch, from 1.

        With a value critic, `value_loss` is its own; that of the network is then `plain_value_loss`.
        """
        for epoch, losses in run_epochs(self._updater, to_device(self._training_set.held_out, self.device)):
            of_critic: dict[str, float] = {}
            if self._critic is not None:
                of_critic = {"plain_value_loss": losses["value_loss"]} | self._critic.epoch(epoch)
            yield epoch, losses | of_critic

    def _choose_device(self) -> torch.device:
        candidates = devices.candidates(self._job.settings)
        if len(candidates) == 1:
            return candidates[0]
        few = self._training_set.train.first(_DEVICE_TRIAL * self._job.settings.batch_size)

        def steps_on(device: torch.device) -> Callable[[], None]:
            updater = self._make_updater(copy.deepcopy(self._training_set.network), few, device)

            def steps() -> None:
                updater.epoch(0)

            return steps

        return devices.fastest(candidates, steps_on)

    def _make_updater(self, network: Network, batch: Batch, device: torch.device) -> Updater:
        return make_updater(
            network,
            self._distribution,
            self._loss,
            update_config_for(self._job, device, self._training_set),
            batch,
            optimizer_state=self._optimizer_state,
            device=device,
            notify=self._notices.send,
        )


def update_config_for(job: Job, device: torch.device, training_set: TrainingSet) -> UpdateConfig:
    """Return the update's settings for this cycle; schedules run over cycles."""
    s = job.settings
    entropy_coef = _in_cycle(s.entropy_coef, s.entropy_coef_end, job, s)
    loss = LossConfig(
        clip_range=s.clip_range,
        value_clip_range=s.value_clip_range,
        value_coef=s.value_coef,
        entropy_coef=entropy_coef if training_set.trains_policy else 0.0,
    )
    return UpdateConfig(
        epochs=s.epochs,
        batch_size=s.batch_size,
        learning_rate=_in_cycle(s.learning_rate, s.learning_rate_end, job, s),
        max_grad_norm=s.max_grad_norm,
        target_kl=s.target_kl,
        loss=loss,
        seed=s.seed,
        cycle=job.policy_version,
        bfloat16=devices.use_bfloat16(s, device, job.hidden_sizes),
        threads=s.threads,
        trains_policy=training_set.trains_policy,
    )


def _in_cycle(first: float, last: float | None, job: Job, settings: TrainerSettings) -> float:
    return scheduled(first, last, job.policy_version, settings.schedule_cycles)


def to_device(batch: Batch, device: torch.device) -> Batch:
    """Copy a batch to a device."""
    return Batch(**{name: getattr(batch, name).to(device) for name in Batch.__slots__})
