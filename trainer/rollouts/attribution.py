"""Attribute rollouts to behaviour policies, and evaluate the parent policy on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from schemas.job import Job
from trainer.checkpoints.parent import Parent
from trainer.common.prefetch_cache import PrefetchCache
from trainer.common.reporting.reporter import Notices
from trainer.networks.critic_inputs import critic_width_of
from trainer.networks.distributions import distribution_for
from trainer.rollouts.behaviour_policy import AttributedRollouts, find_behaviour_policy
from trainer.rollouts.candidates import CandidateModels
from trainer.rollouts.evaluation import concatenate_outputs, evaluate_policy
from trainer.rollouts.experiences import by_agent, choose_critic_width, concatenate
from trainer.rollouts.loading import LoadedRollout, rules_of
from trainer.rollouts.meaning.time_limits import continue_episodes, find_time_limit, report_time_limit
from trainer.rollouts.quality import check_policy_sources, check_staleness


def attribute_rollouts(
    loaded: Sequence[LoadedRollout],
    parent: Parent,
    job: Job,
    notices: Notices,
    cache: PrefetchCache,
    *,
    is_off_policy: bool = False,
) -> AttributedRollouts:
    """Put the rollouts into agent-major order and find the behaviour policy of each step.

    If learning `is_off_policy`, the policies do not matter, and the notices say so. Call it before the parent's network
    is rescaled: it is evaluated with the parent's own normalisers.
    """
    candidates = CandidateModels(parent, job, cache)
    parts = []
    for item in loaded:
        prefetched: AttributedRollouts | None = None if item.is_limited else cache.get(_key(item, parent, job))
        parts.append(prefetched or _attribute(item, parent, job, candidates))
    attributed = _concatenate(parts, critic_width_of(parent.critics_state))
    limit = find_time_limit(loaded, attributed.experiences)
    if limit is not None:
        report_time_limit(limit, notices)
        attributed = replace(attributed, experiences=continue_episodes(attributed.experiences, limit.ended_B))
    is_new_B = attributed.experiences.is_new_B
    checked_B = is_new_B if is_new_B.any() else np.ones_like(is_new_B)
    is_early_B = np.concatenate([np.full(item.rollout.size, item.entry.is_older_than_models) for item in loaded])
    check_policy_sources(
        attributed.policy_source_B[checked_B],
        is_early_B[checked_B],
        anything_trained=parent.trained,
        is_off_policy=is_off_policy,
        notices=notices,
    )
    check_staleness(attributed.is_stale_B[is_new_B], notices)
    return attributed


def prefetch_attribution(
    item: LoadedRollout, parent: Parent, job: Job, candidates: CandidateModels, cache: PrefetchCache
) -> None:
    """Attribute a rollout before its job arrives, if the candidates that this needs can be read."""
    attributed = _attribute(item, parent, job, candidates)
    if candidates.could_be_read(item.entry):
        cache.put(_key(item, parent, job), attributed, size_bytes=2 * attributed.experiences.observation_BO.nbytes)


def _attribute(item: LoadedRollout, parent: Parent, job: Job, candidates: CandidateModels) -> AttributedRollouts:
    experiences = by_agent(item.rollout, is_new=item.entry.is_new)
    space = job.contract.action_space
    attributed = find_behaviour_policy(experiences, candidates.of(item.entry), item.rollout.noise_std, space)
    if not parent.trained:
        return attributed
    outputs = evaluate_policy(
        parent.network, distribution_for(space), parent.normalisers.observations, experiences, attributed.std_scale_B
    )
    return replace(attributed, parent_outputs=outputs)


def _concatenate(parts: Sequence[AttributedRollouts], parent_width: int) -> AttributedRollouts:
    experiences = [part.experiences for part in parts]
    width = choose_critic_width(experiences, parent=parent_width)
    outputs = [part.parent_outputs for part in parts if part.parent_outputs is not None]
    return AttributedRollouts(
        experiences=concatenate(experiences, critic_width=width),
        policy_source_B=np.concatenate([part.policy_source_B for part in parts]),
        behaviour_logp_B=np.concatenate([part.behaviour_logp_B for part in parts]),
        std_scale_B=np.concatenate([part.std_scale_B for part in parts]),
        is_stale_B=np.concatenate([part.is_stale_B for part in parts]),
        parent_outputs=concatenate_outputs(outputs) if outputs else None,
    )


def _key(item: LoadedRollout, parent: Parent, job: Job) -> tuple[object, ...]:
    entry = item.entry
    return "attributed", entry.sha256, rules_of(job), entry.is_new, entry.behaviours, entry.outdated, parent.checksum
