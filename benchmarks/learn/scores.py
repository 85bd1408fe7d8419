"""Normalised scores of runs: 0 is the untrained policy, 1 the final reward of Stable-Baselines3's PPO."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.learn.environments.catalogue import ENVIRONMENTS
from benchmarks.learn.runs import FLOOR, REFERENCE
from benchmarks.learn.store import Record

LAST = 3  #: cycles whose mean is a run's final score
SMALLEST_UNIT = 0.2
"""If PPO's final is nearer to the untrained policy than this part of the way to a good policy, this part is the unit.
Otherwise a PPO that learns nothing would make every other score infinite or negative."""


@dataclass(frozen=True, slots=True)
class Scale:
    """The two scores that are 0 and 1 in one environment."""

    floor: float
    unit: float
    is_reference_learning: bool  #: false: PPO has not come far enough, so that 1 is not its final score

    def __call__(self, score: float) -> float:
        """Return the normalised score."""
        return (score - self.floor) / self.unit


@dataclass(frozen=True, slots=True)
class RunScores:
    """The normalised scores of one run."""

    area: float  #: mean of the curve, with exploration noise
    final: float  #: mean of the last cycles, with exploration noise
    final_without_noise: float  #: of the last evaluations of the mean policy
    steps_to_reference: float  #: first cycle whose score is 1, as part of all cycles; infinite if there is none


def filled(curve: Sequence[float | None], first: float) -> list[float]:
    """Return a curve without gaps: a cycle in which no episode ended has the score before it, at the start `first`."""
    found, last = [], first
    for score in curve:
        last = last if score is None else score
        found.append(last)
    return found


def final(curve: Sequence[float]) -> float:
    """Return the mean of the last cycles."""
    return float(np.mean(curve[-LAST:]))


def floors(records: Iterable[Record]) -> dict[str, float]:
    """Return the untrained policy's score in each environment in which it was measured."""
    scores: dict[str, list[float]] = defaultdict(list)
    for record in records:
        if record.run.contender == FLOOR:
            scores[record.run.environment] += [score for score in record.curve if score is not None]
    return {name: float(np.mean(found)) for name, found in scores.items() if found}


def scales(records: Sequence[Record]) -> dict[str, Scale]:
    """Return the scale of each environment in which the untrained policy and PPO were measured."""
    floor_of, finals = floors(records), defaultdict[str, list[float]](list)
    for record in records:
        name = record.run.environment
        if record.run.contender == REFERENCE and name in floor_of:
            finals[name].append(final(filled(record.curve, floor_of[name])))
    return {name: scale(floor_of[name], float(np.mean(found)), name) for name, found in finals.items()}


def scale(floor: float, reference: float, environment: str) -> Scale:
    """Return an environment's scale from the scores of the untrained policy and of PPO."""
    smallest = SMALLEST_UNIT * (ENVIRONMENTS[environment].good - floor)
    return Scale(floor, max(reference - floor, smallest), reference - floor >= smallest)


def run_scores(record: Record, scale: Scale) -> RunScores:
    """Return the normalised scores of a run."""
    curve = [scale(score) for score in filled(record.curve, scale.floor)]
    mean_scores = [scale(score) for _, score in record.evaluation]
    reached = next((k for k, score in enumerate(curve, start=1) if score >= 1.0), None)
    return RunScores(
        area=float(np.mean(curve)),
        final=final(curve),
        final_without_noise=final(mean_scores) if mean_scores else math.nan,
        steps_to_reference=math.inf if reached is None else reached / len(curve),
    )
