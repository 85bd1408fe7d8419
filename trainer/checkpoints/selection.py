"""Choose the best epoch: a score over value losses, a ranking, and the reason for each place."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from schemas.job import RankedEpoch, finite_or_none

WINDOW = 10
TREND_MARGIN = 0.05
RULE = "lower is better: 0.4 * final + 0.3 * min + 0.3 * trend, over the value losses up to that epoch"


@dataclass(frozen=True, slots=True)
class ScoreTerms:
    """The terms of a score, which is 0.4 * final + 0.3 * min + 0.3 * trend."""

    final: float
    min: float
    trend: float  #: -0.1 falling, +0.1 rising, else 0
    total: float


@dataclass(frozen=True, slots=True)
class CheckpointCandidate:
    """One checkpoint that may be chosen."""

    epoch: int
    name: str  #: file name
    losses: tuple[float, ...]  #: value losses up to this epoch
    finite: bool = True  #: whether all its weights are finite
    policy_loss: float | None = None  #: of this epoch
    standard_error: float = 0.0  #: of the last value loss; scores this close are ties


@dataclass(frozen=True, slots=True)
class RankedCheckpoint:
    """One checkpoint with its score and the reason for its place."""

    candidate: CheckpointCandidate
    terms: ScoreTerms | None  #: None if it cannot be chosen
    reason: str

    def summary(self) -> RankedEpoch:
        """Return the entry for the job's result."""
        score = None if self.terms is None else self.terms.total
        last = finite_or_none(self.candidate.losses[-1]) if self.candidate.losses else None
        policy_loss = None if self.candidate.policy_loss is None else finite_or_none(self.candidate.policy_loss)
        return RankedEpoch(
            epoch=self.candidate.epoch, score=score, value_loss=last, policy_loss=policy_loss, reason=self.reason
        )


def score(losses: Sequence[float]) -> ScoreTerms | None:
    """Return the score of an epoch from the value losses up to it; None without losses or if one is not finite.

    With fewer than 20 losses a window is half of them: 1 for two or three losses. A single loss has no trend.
    """
    if not losses or not all(map(math.isfinite, losses)):
        return None
    window = WINDOW if len(losses) >= 2 * WINDOW else len(losses) // 2
    trend = _trend(losses[:window], losses[-window:]) if window else 0.0
    final, lowest = losses[-1], min(losses)
    return ScoreTerms(final, lowest, trend, 0.4 * final + 0.3 * lowest + 0.3 * trend)


def _trend(first: Sequence[float], last: Sequence[float]) -> float:
    before, after = math.fsum(first) / len(first), math.fsum(last) / len(last)
    margin = TREND_MARGIN * abs(before)
    if after < before - margin:
        return -0.1
    return 0.1 if after > before + margin else 0.0


def rank(candidates: Sequence[CheckpointCandidate]) -> list[RankedCheckpoint]:
    """Return the checkpoints in order: by score, then by epoch; those that cannot be chosen come last."""
    ranked = [_score_candidate(candidate) for candidate in candidates]
    return sorted(ranked, key=lambda r: (r.terms is None, r.terms.total if r.terms else 0.0, r.candidate.epoch))


def _score_candidate(candidate: CheckpointCandidate) -> RankedCheckpoint:
    terms = score(candidate.losses)
    if not candidate.finite:
        return RankedCheckpoint(candidate, None, "a weight is not finite")
    if not candidate.losses:
        return RankedCheckpoint(candidate, None, "its history has no value loss")
    if terms is None:
        return RankedCheckpoint(candidate, None, "a value loss is not finite")
    trend = {-0.1: "falling", 0.0: "level", 0.1: "rising"}[terms.trend]
    return RankedCheckpoint(candidate, terms, f"final {terms.final:.4g}, min {terms.min:.4g}, trend {trend}")


def choose(ranked: Sequence[RankedCheckpoint], use_epoch: int) -> tuple[RankedCheckpoint | None, str]:
    """Return the checkpoint to publish and the reason; `use_epoch` 0 = the best one. None if none can be published."""
    best = next((r for r in ranked if r.terms is not None), None)
    if not use_epoch:
        return _latest_of_ties(ranked, best)
    requested = next((r for r in ranked if r.candidate.epoch == use_epoch), None)
    if requested is not None and requested.candidate.finite:
        return requested, f"auto_load_model_epoch = {use_epoch}"
    missing = "does not exist" if requested is None else "contains weights that are not finite"
    return best, f"the best score, because epoch {use_epoch} {missing}"


def _latest_of_ties(
    ranked: Sequence[RankedCheckpoint], best: RankedCheckpoint | None
) -> tuple[RankedCheckpoint | None, str]:
    """Return the latest epoch whose score is within the standard error of the best one: it has learned most.

    Without a standard error it is the best one.
    """
    if best is None or best.terms is None or not 0.0 < best.candidate.standard_error < math.inf:
        return best, "the best score"
    limit = best.terms.total + best.candidate.standard_error
    ties = [r for r in ranked if r.terms is not None and r.terms.total <= limit]
    latest = max(ties, key=lambda r: r.candidate.epoch)
    if latest is best:
        return best, "the best score"
    return (
        latest,
        f"the latest epoch whose score is within the standard error of the best, that of epoch {best.candidate.epoch}",
    )


def analysis(ranked: Sequence[RankedCheckpoint], chosen: RankedCheckpoint | None, reason: str) -> bytes:
    """Return the content of model_analysis.json."""
    best = next((r for r in ranked if r.terms is not None), None)
    document: dict[str, Any] = {
        "schema": "hotlap.analysis/1",
        "rule": RULE,
        "best_epoch": best.candidate.epoch if best else None,
        "best_model": best.candidate.name if best else None,
        "chosen_epoch": chosen.candidate.epoch if chosen else None,
        "chosen_model": chosen.candidate.name if chosen else None,
        "chosen_because": reason,
        "ranking": [_line(place, r) for place, r in enumerate(ranked, start=1)],
    }
    return orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def _line(place: int, ranked: RankedCheckpoint) -> dict[str, Any]:
    terms = ranked.terms
    numbers: dict[str, float | None] = {"score": None, "final": None, "min": None, "trend": None}
    if terms is not None:
        numbers = {"score": terms.total, "final": terms.final, "min": terms.min, "trend": terms.trend}
    losses = [finite_or_none(loss) for loss in ranked.candidate.losses]
    place_and_name = {"rank": place, "epoch": ranked.candidate.epoch, "model": ranked.candidate.name}
    return place_and_name | numbers | {"reason": ranked.reason, "value_losses": losses}
