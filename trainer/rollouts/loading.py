"""From a job's list of rollouts to rollouts in memory: which old ones are drawn, and what cannot be read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np

from schemas.contract import PolicyContract
from schemas.errors import HotlapError, RolloutError
from schemas.job import RolloutInput
from schemas.rollout.cache import load_rollout
from schemas.rollout.reader import read_rollout
from schemas.rollout.rollout import MAX_ROLLOUT_BYTES, Rollout
from schemas.storage.files import read_regular, sha256_of
from trainer.common.prefetch_cache import AHEAD
from trainer.common.reporting import Notices
from trainer.common.rng import numpy_rng_for
from trainer.rollouts.quality import RolloutQuality, measure_quality

WITHOUT_NEW_ONES = 10
"""How many old rollouts are drawn where none is new."""


@dataclass(frozen=True, slots=True)
class LoadedRollout:
    """A rollout with what the job says of it."""

    given: RolloutInput
    rollout: Rollout


def choose_rollouts(
    rollouts: Sequence[RolloutInput], *, history_ratio: float, seed: int, cycle: int
) -> list[RolloutInput]:
    """Return all new rollouts, and some old ones for each: without replacement, with odds 1 / (1 + age).

    So a cycle's time and memory depend on what is new, not on how much history there is. Without new ones the
    youngest old ones are taken.
    """
    new = [r for r in rollouts if r.is_new]
    old = [r for r in rollouts if not r.is_new]
    if not new:
        return sorted(old, key=lambda r: r.age)[:WITHOUT_NEW_ONES]
    wanted = min(len(old), math.ceil(history_ratio * len(new)))
    if not wanted:
        return new
    odds = np.array([1.0 / (1.0 + r.age) for r in old])
    rng = numpy_rng_for(seed, "history", cycle)
    chosen = rng.choice(len(old), size=wanted, replace=False, p=odds / odds.sum())
    return [*new, *(old[i] for i in sorted(chosen))]


def load_rollouts(drawn: Sequence[RolloutInput], contract: PolicyContract, notices: Notices) -> list[LoadedRollout]:
    """Read what can be read; a rollout that is gone, broken or of another contract is told and left out.

    Raises RolloutError where none is left.
    """
    if not drawn:
        raise RolloutError(
            "there is no rollout to train on", hint="let the engine write rollouts", code="E_NO_ROLLOUTS"
        )
    loaded, left_out = [], []
    for given in drawn:
        try:
            rollout = _read(given)
            difference = contract.differences(rollout.contract)
            if difference:
                raise RolloutError(f"it has {' and '.join(difference)}", hint="another game's?", code="E_CONTRACT")
            loaded.append(LoadedRollout(given, rollout))
        except (HotlapError, OSError) as error:
            left_out.append(given.name)
            problem = str(error)
    if left_out:
        names = ", ".join(left_out[:3]) + (" ..." if len(left_out) > 3 else "")
        notices.say("W_ROLLOUT_SKIPPED", f"{len(left_out)} of {len(drawn)} rollouts left out ({names}): {problem}")
    if not loaded:
        raise RolloutError(f"no rollout can be used: {problem or 'none was given'}", hint="see docs/formats.md")
    return loaded


def _read(given: RolloutInput) -> Rollout:
    ahead = AHEAD.get(("rollout", given.sha256)) if given.sha256 else None
    if ahead is not None:
        return cast("Rollout", ahead)
    cached = load_rollout(Path(given.cache)) if given.cache else None
    if cached is not None:
        return cached
    data = read_regular(Path(given.source), limit=MAX_ROLLOUT_BYTES)
    if sha256_of(data) != given.sha256:
        raise RolloutError("its file holds something else by now", hint="it counts as a new rollout", code="E_REPLACED")
    return read_rollout(data)


def prefetch_rollout(given: RolloutInput) -> Rollout:
    """Read a rollout before its job has come. Raises HotlapError or OSError."""
    rollout = _read(given)
    AHEAD.put(("rollout", given.sha256), rollout, size_bytes=2 * rollout.observations.nbytes)
    AHEAD.put(("facts", given.sha256), measure_quality(rollout))
    return rollout


def quality_of(item: LoadedRollout) -> RolloutQuality:
    """Return what a rollout tells of its exporter, unless it was found out ahead."""
    ahead = AHEAD.get(("facts", item.given.sha256)) if item.given.sha256 else None
    return cast("RolloutQuality", ahead) if ahead is not None else measure_quality(item.rollout)
