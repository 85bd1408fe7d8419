"""One cycle's training: from a job to checkpoints and the chosen epoch's model JSON."""

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
from trainer.checkpoints.checkpoint import Checkpoint, lineage_of
from trainer.checkpoints.output import Output, select_and_export
from trainer.checkpoints.parent import open_parent
from trainer.checkpoints.selection import CheckpointCandidate, score
from trainer.common import device as devices
from trainer.common import threads
from trainer.common.prefetch_cache import PrefetchCache
from trainer.common.reporting.reporter import Notices, Reporter
from trainer.common.schedule import linear_schedule
from trainer.networks.distributions import ActionDistribution, distribution_for
from trainer.networks.network import Network, load_symbol
from trainer.ppo.loss import Loss, LossConfig, ppo_loss
from trainer.ppo.make_updater import make_updater
from trainer.ppo.update import UpdateConfig, Updater, run_epochs
from trainer.rollouts.action_units import in_policy_units
from trainer.rollouts.attribution import attribute_rollouts
from trainer.rollouts.batch import Batch
from trainer.rollouts.candidates import CandidateModels
from trainer.rollouts.loading import LoadedRollout, choose_rollouts, load_rollouts, quality_of, rules_of
from trainer.rollouts.quality import check_rollouts
from trainer.rollouts.symmetry.check import mirror_of, usable_mirror
from trainer.rollouts.training_set import TrainingSet, rescale_and_build

_log = logging.getLogger(__name__)
_DEVICE_TRIAL = 20
"""Minibatches on which the devices are compared."""


def train(job: Job, reporter: Reporter, cache: PrefetchCache) -> Result:
    """Train on the job's rollouts; write checkpoints, the chosen epoch's JSON and the analysis to its folder."""
    start_s = time.monotonic()
    notices = Notices(reporter)
    settings = job.settings
    devices.candidates(settings)  # raises ConfigError for a wrong setting before anything is read
    mirror_of(job)  # likewise
    loss: Loss = load_symbol(settings.loss, "loss") if settings.loss else ppo_loss
    reporter.report_activity("loading the parent model", 0.0)
    parent = open_parent(job, notices, cache)
    threads.set_thread_count(settings.threads or 1)
    threads.limit_numpy_to_one_thread()
    reporter.report_activity("reading rollouts", 0.01)
    chosen = choose_rollouts(
        job.rollouts, history_ratio=settings.history_ratio, seed=settings.seed, cycle=job.policy_version
    )
    rules = rules_of(job)
    loaded = load_rollouts(chosen, rules, notices, cache)
    new = [item for item in loaded if item.entry.is_new] or loaded
    check_rollouts([quality_of(item, rules, cache) for item in new], job.contract, notices)
    reporter.report_activity("computing advantages", 0.05)
    loaded, policy_job = in_policy_units(loaded, job, CandidateModels(parent, job, cache))
    distribution = distribution_for(policy_job.contract.action_space)
    attributed = attribute_rollouts(loaded, parent, policy_job, notices, cache)
    mirror = usable_mirror(attributed.experiences, policy_job, notices)
    training_set = rescale_and_build(attributed, parent, distribution, policy_job, notices, mirror)
    training = Training(job, training_set, distribution, loss, parent.optimizer_state, reporter)
    candidates = training.run()
    times = "first gradient step %.3f s after the job arrived, at %.3f; training %.3f s"
    _log.info(times, training.first_step_s - start_s, training.first_step_at, time.monotonic() - training.first_step_s)
    result = select_and_export(job, candidates, training.output, reporter)
    extras: dict[str, Any] = {
        "experiences": training_set.size,
        "reward_mean": _reward_mean(new),
        "device": training.device.type,
        "seconds": time.monotonic() - start_s,
    }
    return result.model_copy(update=extras)


class Training:
    """The epochs of one cycle."""

    def __init__(
        self,
        job: Job,
        training_set: TrainingSet,
        distribution: ActionDistribution,
        loss: Loss,
        optimizer_state: dict[str, Any],
        reporter: Reporter,
    ) -> None:
        self.job, self.reporter, self.output = job, reporter, Output(Path(job.output))
        self._notices = Notices(reporter)
        self._training_set, self._distribution, self._loss = training_set, distribution, loss
        self._optimizer_state = optimizer_state
        self.device = self._choose_device()
        self.config = update_config_for(job, self.device, training_set)
        self.first_step_at = 0.0  #: seconds since 1970
        self.first_step_s = 0.0  #: the same moment on the monotonic clock

    def _choose_device(self) -> torch.device:
        candidates = devices.candidates(self.job.settings)
        if len(candidates) == 1:
            return candidates[0]
        few = self._training_set.train.first(_DEVICE_TRIAL * self.job.settings.batch_size)

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
            update_config_for(self.job, device, self._training_set),
            batch,
            optimizer_state=self._optimizer_state,
            device=device,
            notify=self._notices.send,
        )

    def run(self) -> list[CheckpointCandidate]:
        """Train epoch by epoch and queue a checkpoint after each. Return the candidates for the ranking."""
        updater = self._make_updater(self._training_set.network, self._training_set.train, self.device)
        held = to_device(self._training_set.held_out, self.device)
        history: dict[str, list[float]] = {}
        candidates: list[CheckpointCandidate] = []
        self.first_step_at, self.first_step_s = time.time(), time.monotonic()
        since = self.first_step_s
        self._report_progress(0)
        try:
            for epoch, losses in run_epochs(updater, held):
                for name, value in losses.items():
                    history.setdefault(name, []).append(value)
                candidates.append(self._queue_checkpoint(epoch, updater, history))
                self.reporter.send(self._epoch_done(candidates[-1], losses, seconds=time.monotonic() - since))
                since = time.monotonic()
                self._report_progress(epoch)
        finally:
            self.output.wait()
        return candidates

    def _epoch_done(self, candidate: CheckpointCandidate, losses: dict[str, float], *, seconds: float) -> EpochDone:
        terms = score(candidate.losses) if candidate.finite else None
        return EpochDone(
            epoch=candidate.epoch,
            epochs=self.config.epochs,
            losses={name: finite_or_none(value) for name, value in losses.items()},
            score=terms.total if terms else None,
            seconds=seconds,
        )

    def _report_progress(self, done: int) -> None:
        epochs = self.config.epochs
        self.reporter.report_activity(f"epoch {min(done + 1, epochs)} of {epochs}", 0.1 + 0.85 * done / epochs)

    def _queue_checkpoint(self, epoch: int, updater: Updater, history: dict[str, list[float]]) -> CheckpointCandidate:
        checkpoint = Checkpoint.of(
            updater.network,
            normalisers=self._training_set.normalisers,
            contract=self.job.contract,
            hidden_sizes=self.job.hidden_sizes,
            lineage=lineage_of(self.job, epoch),
            policy_trained=not self._training_set.values_only,
            optimizer_state=updater.optimizer_state(),
            history=history,
            network_class=self.job.settings.network,
            probe_observations=self._training_set.probe,
        )
        name = f"model_epoch_{epoch}.pt"
        policy_loss = history["policy_loss"][-1] if "policy_loss" in history else None
        candidate = CheckpointCandidate(epoch, name, tuple(history["value_loss"]), checkpoint.is_finite(), policy_loss)
        self.output.queue_checkpoint(name, checkpoint)
        return candidate


def update_config_for(job: Job, device: torch.device, training_set: TrainingSet) -> UpdateConfig:
    """Return the update's settings for this cycle; schedules run over cycles."""
    s = job.settings
    entropy_coef = scheduled(s.entropy_coef, s.entropy_coef_end, job.policy_version, s)
    loss = LossConfig(
        clip_range=s.clip_range,
        value_clip_range=s.value_clip_range,
        value_coef=s.value_coef,
        entropy_coef=0.0 if training_set.values_only else entropy_coef,
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
    progress = (cycle - 1) / max(1, settings.schedule_cycles - 1)
    return first if last is None else linear_schedule(first, last, progress)


def to_device(batch: Batch, device: torch.device) -> Batch:
    """Copy a batch to a device."""
    return Batch(**{name: getattr(batch, name).to(device) for name in Batch.__slots__})


def _reward_mean(loaded: list[LoadedRollout]) -> float:
    return float(np.concatenate([item.rollout.rewards for item in loaded]).astype(np.float64).mean())
