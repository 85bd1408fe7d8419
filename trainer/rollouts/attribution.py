"""One rollout's experiences with who played them, and what the network that training starts from says of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np

from schemas.job import Job
from schemas.rollout.rollout import Float32
from trainer.checkpoints.parent import Parent
from trainer.common.prefetch_cache import AHEAD
from trainer.networks.distributions import distribution_for
from trainer.rollouts.behaviour_policy import Attribution, CandidatePolicy, identify
from trainer.rollouts.candidates import candidates_of
from trainer.rollouts.evaluation import PolicyOutputs, evaluate_policy
from trainer.rollouts.experiences import Experiences, by_agent
from trainer.rollouts.loading import LoadedRollout


@dataclass(frozen=True, slots=True)
class AttributedRollout:
    """A rollout in agent-major order, and the players of its steps."""

    experiences: Experiences
    played: Attribution
    std_scale_B: Float32  #: the engine's factor on the standard deviation
    glance: (
        PolicyOutputs | None
    )  #: the parent's, in its own units; None where nothing is trained yet, and units will change


def attribute_rollout(
    item: LoadedRollout, parent: Parent, job: Job, known: dict[str, CandidatePolicy | None]
) -> AttributedRollout:
    """Find who played a rollout, unless it was found ahead. `known` keeps the models read for this job.

    The start's network must still see in the parent's units.
    """
    ahead = AHEAD.get(_key(item, parent))
    return cast("AttributedRollout", ahead) if ahead is not None else _find(item, parent, job, known)


def prefetch_attribution(
    item: LoadedRollout, parent: Parent, job: Job, known: dict[str, CandidatePolicy | None]
) -> None:
    """Find who played a rollout before its job has come."""
    found = _find(item, parent, job, known)
    if all(known[path] is not None for path in item.given.behaviours):
        AHEAD.put(_key(item, parent), found, size_bytes=2 * found.experiences.observation_BO.nbytes)


def _find(item: LoadedRollout, parent: Parent, job: Job, known: dict[str, CandidatePolicy | None]) -> AttributedRollout:
    part = by_agent(item.rollout, is_new=item.given.is_new)
    candidates = candidates_of(item.given.behaviours, parent, job, known)
    played = identify(part, candidates, item.rollout.noise_std, job.contract.action_space)
    std_scale_B = np.full(part.size, played.noise, dtype=np.float32)
    said = None
    if parent.trained:
        head = distribution_for(job.contract.action_space)
        said = evaluate_policy(parent.network, head, parent.normalisers.observations, part, std_scale_B)
    return AttributedRollout(part, played, std_scale_B, said)


def _key(item: LoadedRollout, parent: Parent) -> tuple[object, ...]:
    given = item.given
    return "played", given.sha256, given.is_new, given.behaviours, parent.checksum
