"""One cycle's training: from a job to checkpoints and the chosen epoch's model JSON."""

from __future__ import annotations

import logging
import time
from typing import Any

import numpy as np

from schemas.job import Job, Result, RolloutInput
from trainer.checkpoints.output import select_and_export
from trainer.checkpoints.parent import Parent, open_parent
from trainer.common import device as devices
from trainer.common import threads
from trainer.common.prefetch_cache import PrefetchCache
from trainer.common.reporting.reporter import Notices, Reporter
from trainer.networks.distributions import distribution_for
from trainer.networks.network import load_symbol
from trainer.off_policy.algorithm import algorithm_for
from trainer.off_policy.learner import OffPolicyLearner
from trainer.ppo.loss import Loss, ppo_loss
from trainer.rollouts.action_units import in_policy_units
from trainer.rollouts.attribution import attribute_rollouts
from trainer.rollouts.candidates import CandidateModels
from trainer.rollouts.loading import (
    LoadedRollout,
    choose_rollouts,
    load_replay,
    load_rollouts,
    quality_of,
    rules_of,
)
from trainer.rollouts.outliers.rollouts import limit_outliers, recovered_parent
from trainer.rollouts.outliers.search import Usual
from trainer.rollouts.quality import check_critic_observations, check_rollouts
from trainer.rollouts.symmetry.check import mirror_of, usable_mirror
from trainer.rollouts.training_set import rescale_and_build
from trainer.worker.epochs import Epochs, Learner
from trainer.worker.ppo_learner import PpoLearner
from trainer.worker.value_critic import ValueCritic

_log = logging.getLogger(__name__)


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
    algorithm = algorithm_for(job, parent)
    _log.info("algorithm: %s", algorithm.in_words())
    threads.set_thread_count(settings.threads or 1)
    threads.leave_cores(job.busy_cores)
    threads.limit_numpy_to_one_thread()
    reporter.report_activity("reading rollouts", 0.01)
    rules = rules_of(job)
    if algorithm.name == "td3":
        loaded = load_replay(job.rollouts, settings.replay_experiences, rules, notices, cache)
    else:
        loaded = load_rollouts(_choose(job), rules, notices, cache)
    space, usual = job.contract.action_space, Usual.of(parent.normalisers, settings.gamma)
    loaded = limit_outliers(loaded, space, usual, notices)
    parent = recovered_parent(parent, loaded, settings.gamma, notices)
    new = [item for item in loaded if item.entry.is_new] or loaded
    check_rollouts([quality_of(item, rules, cache) for item in new], job.contract, notices)
    reporter.report_activity("preparing the training set", 0.05)
    loaded, policy_job = in_policy_units(loaded, job, CandidateModels(parent, job, cache))
    learner: Learner
    if algorithm.name == "td3":
        recent = [item for item in loaded if item.entry.is_new]
        attribute_rollouts(recent, parent, policy_job, notices, cache, is_off_policy=True)
        learner = OffPolicyLearner(loaded, parent, policy_job, notices)
    else:
        learner = _ppo(loaded, parent, policy_job, loss, notices, cache)
    epochs = Epochs(job, learner, reporter)
    candidates = epochs.run()
    times = "first gradient step %.3f s after the job arrived, at %.3f; training %.3f s"
    _log.info(times, epochs.first_step_s - start_s, epochs.first_step_at, time.monotonic() - epochs.first_step_s)
    result = select_and_export(job, candidates, epochs.output, reporter)
    extras: dict[str, Any] = {
        "experiences": learner.experiences,
        "reward_mean": _reward_mean(new),
        "device": learner.device.type,
        "algorithm": algorithm.in_words(),
        "seconds": time.monotonic() - start_s,
    }
    return result.model_copy(update=extras)


def _choose(job: Job) -> list[RolloutInput]:
    settings = job.settings
    return choose_rollouts(
        job.rollouts, history_ratio=settings.history_ratio, seed=settings.seed, cycle=job.policy_version
    )


def _ppo(
    loaded: list[LoadedRollout], parent: Parent, job: Job, loss: Loss, notices: Notices, cache: PrefetchCache
) -> PpoLearner:
    distribution = distribution_for(job.contract.action_space)
    attributed = attribute_rollouts(loaded, parent, job, notices, cache)
    new_rollouts = [item.rollout for item in loaded if item.entry.is_new]
    critic_width = attributed.experiences.critic_width
    check_critic_observations(new_rollouts, critic_width, notices)
    critic = ValueCritic(parent, critic_width, job, notices) if critic_width else None
    mirror = usable_mirror(attributed.experiences, job, notices)
    training_set = rescale_and_build(attributed, parent, distribution, job, notices, critic, mirror)
    return PpoLearner(job, training_set, distribution, loss, parent, notices, critic)


def _reward_mean(loaded: list[LoadedRollout]) -> float:
    return float(np.concatenate([item.rollout.rewards for item in loaded]).astype(np.float64).mean())
