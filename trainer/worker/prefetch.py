"""Read a warm trainer's parent and rollouts before its job arrives.

Nothing depends on it: what was not prefetched is read when the job arrives, with the same results.
"""

from __future__ import annotations

from schemas.errors import HotlapError
from schemas.job import Job
from trainer.checkpoints.parent import prefetch_parent
from trainer.common.prefetch_cache import PrefetchCache
from trainer.rollouts.attribution import prefetch_attribution
from trainer.rollouts.candidates import CandidateModels
from trainer.rollouts.loading import LoadedRollout, prefetch_rollout


def prefetch(preview: Job, cache: PrefetchCache) -> None:
    """Read what a job like this preview needs. The job reports what cannot be read."""
    try:
        parent = prefetch_parent(preview, cache)
        candidates = CandidateModels(parent, preview, cache)
        for given in preview.rollouts:
            rollout = prefetch_rollout(given, cache)
            if not preview.contract.differences(rollout.contract):
                prefetch_attribution(LoadedRollout(given, rollout), parent, preview, candidates, cache)
        candidates.put_into_cache()
    except (HotlapError, OSError):
        return
