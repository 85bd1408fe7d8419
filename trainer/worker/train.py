"""One cycle's training, from a job to checkpoints and a published model's JSON."""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from schemas.job import EpochDone, Job, Result, finite_or_none
from schemas.settings.models import TrainerSettings
from trainer.checkpoints.checkpoint import make_checkpoint
from trainer.checkpoints.output import Output, select_and_export
from trainer.checkpoints.parent import Parent, open_parent
from trainer.checkpoints.selection import CheckpointCandidate, score
from trainer.checkpoints.tensor_copy import copy_tensors
from trainer.common import device as devices
from trainer.common import threads
from trainer.common.reporting import Notices, Reporter
from trainer.networks.distributions import ActionDistribution, distribution_for
from trainer.networks.network import Network, load_symbol
from trainer.ppo.loss import Loss, LossConfig, ppo_loss
from trainer.ppo.make_updater import has_analytic_gradient, make_updater
from trainer.ppo.update import UpdateConfig, Updater, run_epochs
from trainer.rollouts.batch import Batch
from trainer.rollouts.loading import LoadedRollout, choose_rollouts, load_rollouts, quality_of
from trainer.rollouts.quality import check_rollouts
from trainer.rollouts.training_set import TrainingSet, attribute_rollouts, rescale_and_build

_log = logging.getLogger(__name__)
_DEVICE_TRIAL = 20
"""Minibatches after which the fastest device is known."""


def train(job: Job, reporter: Reporter) -> Result:
    """Learn from the job's rollouts; leave checkpoints, the chosen epoch's JSON and the analysis."""
    begin = time.monotonic()
    notices = Notices(reporter)
    devices.candidates(job.settings)  # a mistake in the settings is told before anything is read
    loss: Loss = load_symbol(job.settings.loss, "loss") if job.settings.loss else ppo_loss
    reporter.doing("loading the last model", 0.0)
    start = open_parent(job, notices)
    devices.prepare(torch.device("cpu"), job.settings.threads or 1)
    threads.keep_numpy_to_one()
    reporter.doing("reading rollouts", 0.01)
    settings = job.settings
    drawn = choose_rollouts(
        job.rollouts, history_ratio=settings.history_ratio, seed=settings.seed, cycle=job.policy_version
    )
    loaded = load_rollouts(drawn, job.contract, notices)
    new = [item for item in loaded if item.given.is_new] or loaded
    check_rollouts([quality_of(item) for item in new], job.contract, notices)
    reporter.doing("computing advantages", 0.05)
    head = distribution_for(job.contract.action_space)
    prepared = rescale_and_build(attribute_rollouts(loaded, start, job, notices), start, head, job, notices)
    training = Training(job, start, prepared, head, loss, reporter)
    entries = training.run()
    told = "first gradient step %.3f s after the job came, at %.3f; training %.3f s"
    _log.info(told, training.began - begin, training.first_step_at, time.monotonic() - training.began)
    result = select_and_export(job, entries, training.output, reporter)
    experiences = prepared.train.size + prepared.held.size
    extras: dict[str, Any] = {
        "experiences": experiences,
        "reward_mean": _reward_mean(new),
        "device": training.device.type,
        "seconds": time.monotonic() - begin,
    }
    return result.model_copy(update=extras)


class Training:
    """The epochs of one cycle."""

    def __init__(
        self,
        job: Job,
        parent: Parent,
        prepared: TrainingSet,
        distribution: ActionDistribution,
        loss: Loss,
        reporter: Reporter,
    ) -> None:
        self.job, self.reporter, self.output = job, reporter, Output(Path(job.output))
        self._prepared, self._distribution, self._parent, self._loss = prepared, distribution, parent, loss
        self.device = self._choose_device()
        self.plan = update_config_for(job, self.device, prepared)
        self.first_step_at = 0.0  #: seconds since 1970
        self.began = 0.0  #: the same moment on the monotonic clock

    def _choose_device(self) -> torch.device:
        devices_there = devices.candidates(self.job.settings)
        if len(devices_there) == 1:
            return devices_there[0]
        few = self._prepared.train.first(_DEVICE_TRIAL * self.job.settings.batch_size)

        def steps_on(device: torch.device) -> Callable[[], None]:
            updater = self._updater(copy.deepcopy(self._parent.network), few, device)

            def steps() -> None:
                updater.epoch(0)

            return steps

        return devices.fastest(devices_there, steps_on)

    def _updater(self, network: Network, batch: Batch, device: torch.device) -> Updater:
        plan = update_config_for(self.job, device, self._prepared)
        if not has_analytic_gradient(network, self._loss, plan, device):
            parameters = sum(p.numel() for p in network.parameters())
            devices.prepare(device, plan.threads or threads.by_rule(plan.batch_size, parameters))
        moments = self._parent.optimizer_state
        return make_updater(
            network, self._distribution, self._loss, plan, batch, optimizer_state=moments, device=device
        )

    def run(self) -> list[CheckpointCandidate]:
        """Train epoch by epoch, with a checkpoint after each; give what the ranking needs."""
        updater = self._updater(self._parent.network, self._prepared.train, self.device)
        held = to_device(self._prepared.held, self.device)
        history: dict[str, list[float]] = {}
        entries: list[CheckpointCandidate] = []
        self.first_step_at, self.began = time.time(), time.monotonic()
        since = self.began
        self._say(0)
        try:
            for epoch, losses in run_epochs(updater, held):
                for name, value in losses.items():
                    history.setdefault(name, []).append(value)
                entries.append(self._keep(epoch, updater, history))
                self.reporter.send(self._done(entries[-1], losses, seconds=time.monotonic() - since))
                since = time.monotonic()
                self._say(epoch)
        finally:
            self.output.wait()
        return entries

    def _done(self, candidate: CheckpointCandidate, losses: dict[str, float], *, seconds: float) -> EpochDone:
        parts = score(candidate.losses) if candidate.finite else None
        return EpochDone(
            epoch=candidate.epoch,
            epochs=self.plan.epochs,
            losses={name: finite_or_none(value) for name, value in losses.items()},
            score=parts.total if parts else None,
            seconds=seconds,
        )

    def _say(self, done: int) -> None:
        self.reporter.doing(
            f"epoch {min(done + 1, self.plan.epochs)} of {self.plan.epochs}", 0.1 + 0.85 * done / self.plan.epochs
        )

    def _keep(self, epoch: int, updater: Updater, history: dict[str, list[float]]) -> CheckpointCandidate:
        checkpoint = make_checkpoint(
            updater.network,
            self._prepared.normalisers,
            self.job,
            epoch=epoch,
            optimizer_state=copy_tensors(updater.optimizer_state()),
            history=history,
            probe=self._prepared.probe,
            policy_trained=not self._prepared.values_only,
        )
        name = f"model_epoch_{epoch}.pt"
        entry = CheckpointCandidate(epoch, name, tuple(history["value_loss"]), checkpoint.is_finite())
        self.output.queue(name, checkpoint)
        return entry


def update_config_for(job: Job, device: torch.device, prepared: TrainingSet) -> UpdateConfig:
    """Turn the settings into this cycle's numbers; schedules run over cycles."""
    s = job.settings
    entropy_coef = scheduled(s.entropy_coef, s.entropy_coef_end, job.policy_version, s)
    loss = LossConfig(
        clip_range=s.clip_range,
        value_clip_range=s.value_clip_range,
        value_coef=s.value_coef,
        entropy_coef=0.0 if prepared.values_only else entropy_coef,
    )
    return UpdateConfig(
        epochs=s.epochs,
        batch_size=s.batch_size,
        learning_rate=scheduled(s.learning_rate, s.learning_rate_end, job.policy_version, s),
        max_grad_norm=s.max_grad_norm,
        target_kl=s.target_kl,
        loss=loss,
        seed=s.seed,
        cycle=job.policy_version,
        bfloat16=devices.use_bfloat16(s, device, job.hidden_sizes),
        threads=s.threads,
    )


def scheduled(first: float, last: float | None, cycle: int, settings: TrainerSettings) -> float:
    """Return the value of a linear schedule in a cycle: `first` in cycle 1, `last` from cycle `schedule_cycles` on."""
    if last is None:
        return first
    done = min(1.0, max(0, cycle - 1) / max(1, settings.schedule_cycles - 1))
    return first + (last - first) * done


def to_device(batch: Batch, device: torch.device) -> Batch:
    """Copy a batch to a device."""
    return Batch(**{name: getattr(batch, name).to(device) for name in Batch.__slots__})


def _reward_mean(loaded: list[LoadedRollout]) -> float:
    return float(np.concatenate([item.rollout.rewards for item in loaded]).astype(np.float64).mean())
