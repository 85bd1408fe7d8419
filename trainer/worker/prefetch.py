"""Read a warm trainer's parent and rollouts before its job arrives.

Results do not depend on it: inputs that were not prefetched are read when the job arrives.
"""

from __future__ import annotations

import contextlib

from schemas.errors import HotlapError, RolloutError
from schemas.job import Job
from trainer.checkpoints.parent import prefetch_parent
from trainer.common.prefetch_cache import PrefetchCache
from trainer.rollouts.attribution import prefetch_attribution
from trainer.rollouts.candidates import CandidateModels
from trainer.rollouts.loading import LoadedRollout, prefetch_rollout, rules_of


def prefetch(preview: Job, cache: PrefetchCache) -> None:
    """Read the inputs of a job that is similar to this preview. The job itself reports errors.

    A preview does not name the parent while another trainer trains it. Then only the rollouts are read.
    """
    try:
        if preview.parent is None:
            _prefetch_rollouts(preview, cache)
            return
        parent = prefetch_parent(preview, cache)
        candidates = CandidateModels(parent, preview, cache)
        rules = rules_of(preview)
        for entry in preview.rollouts:
            try:
                rollout = prefetch_rollout(entry, rules, cache)
            except RolloutError:
                continue
            prefetch_attribution(LoadedRollout(entry, rollout), parent, preview, candidates, cache)
        candidates.store_in_cache()
    except (HotlapError, OSError):
        return


def _prefetch_rollouts(preview: Job, cache: PrefetchCache) -> None:
    rules = rules_of(preview)
    for entry in preview.rollouts:
        with contextlib.suppress(RolloutError):
            prefetch_rollout(entry, rules, cache)
