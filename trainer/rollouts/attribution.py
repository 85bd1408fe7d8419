"""One rollout's experiences with who played them, and what the network that training starts from says of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np

from schemas.job import Job
from schemas.rollout.rollout import Float32
from trainer.checkpoints.parent import Start, candidates_of
from trainer.common.prefetch_cache import AHEAD
from trainer.networks.distributions import head_for
from trainer.rollouts.behaviour_policy import Candidate, Played, identify
from trainer.rollouts.evaluation import Glance, glance
from trainer.rollouts.experiences import Experiences, by_agent
from trainer.rollouts.loading import Loaded


@dataclass(frozen=True, slots=True)
class Attributed:
    """A rollout in agent-major order, and the players of its steps."""

    experiences: Experiences
    played: Played
    noise_B: Float32  #: the engine's factor on the standard deviation
    glance: Glance | None  #: the parent's, in its own units; None where nothing is trained yet, and units will change


def attributed(item: Loaded, start: Start, job: Job, known: dict[str, Candidate | None]) -> Attributed:
    """Find who played a rollout, unless it was found ahead. `known` keeps the models read for this job.

    The start's network must still see in the parent's units.
    """
    ahead = AHEAD.get(_key(item, start))
    return cast("Attributed", ahead) if ahead is not None else _find(item, start, job, known)


def attribute_ahead(item: Loaded, start: Start, job: Job, known: dict[str, Candidate | None]) -> None:
    """Find who played a rollout before its job has come."""
    found = _find(item, start, job, known)
    if all(known[path] is not None for path in item.given.behaviours):
        AHEAD.put(_key(item, start), found, size_bytes=2 * found.experiences.observation_BO.nbytes)


def _find(item: Loaded, start: Start, job: Job, known: dict[str, Candidate | None]) -> Attributed:
    part = by_agent(item.rollout, is_new=item.given.is_new)
    candidates = candidates_of(item.given.behaviours, start, job, known)
    played = identify(part, candidates, item.rollout.noise_std, job.contract.action_space)
    noise_B = np.full(part.size, played.noise, dtype=np.float32)
    said = None
    if start.trained:
        head = head_for(job.contract.action_space)
        said = glance(start.network, head, start.normalisers.observations, part, noise_B)
    return Attributed(part, played, noise_B, said)


def _key(item: Loaded, start: Start) -> tuple[object, ...]:
    given = item.given
    return "played", given.sha256, given.is_new, given.behaviours, start.checksum
