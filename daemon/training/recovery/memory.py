"""Finds the rollout because of which memory ran out."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from daemon.ledger.records import UsedRollout
from schemas.job import Suspect

_TIMES_THE_USUAL = 4.0


def giant_rollout(rollouts: Sequence[UsedRollout]) -> Suspect | None:
    """Return the rollout that is larger than all others together, and four times as large as usual; None if none is."""
    if len(rollouts) < 2:
        return None
    largest = max(rollouts, key=lambda used: used.row.experiences)
    others = [used.row.experiences for used in rollouts if used is not largest]
    size = largest.row.experiences
    if size <= sum(others) or size < _TIMES_THE_USUAL * statistics.median(others):
        return None
    reason = f"memory ran out: it has {size:,} experiences, all other rollouts together {sum(others):,}"
    return Suspect(sha256=largest.row.sha256, name=largest.row.name, reason=reason)
