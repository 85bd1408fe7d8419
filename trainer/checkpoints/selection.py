"""Which epoch is best (Contract 6): a pure score over value losses, a ranking, and the reasons in words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from schemas.job import RankedEpoch, finite_or_none

WINDOW = 10
TREND_MATTERS = 0.05
RULE = "lower is better: 0.4 * final + 0.3 * min + 0.3 * trend, over the value losses up to that epoch"


@dataclass(frozen=True, slots=True)
class ScoreTerms:
    """What a score is made of."""

    final: float
    least: float
    trend: float  #: -0.1 falling, +0.1 rising, else 0
    total: float


@dataclass(frozen=True, slots=True)
class CheckpointCandidate:
    """One checkpoint as the ranking sees it."""

    epoch: int
    name: str  #: file name
    losses: tuple[float, ...]  #: value losses up to this epoch
    finite: bool = True  #: whether all its weights are


@dataclass(frozen=True, slots=True)
class RankedCheckpoint:
    """One checkpoint with its place."""

    candidate: CheckpointCandidate
    parts: ScoreTerms | None  #: None where it can never win
    reason: str

    def brief(self) -> RankedEpoch:
        """Return what the daemon is told."""
        score = None if self.parts is None else self.parts.total
        last = finite_or_none(self.candidate.losses[-1]) if self.candidate.losses else None
        return RankedEpoch(epoch=self.candidate.epoch, score=score, value_loss=last, reason=self.reason)


def score(losses: Sequence[float]) -> ScoreTerms | None:
    """Return Contract 6's score; None where there is no loss or one of them is not finite.

    With fewer than 20 losses the windows are half of them: 1 for two or three losses, and a single loss has no trend.
    """
    if not losses or not all(map(math.isfinite, losses)):
        return None
    window = WINDOW if len(losses) >= 2 * WINDOW else len(losses) // 2
    trend = _trend(losses[:window], losses[-window:]) if window else 0.0
    final, least = losses[-1], min(losses)
    return ScoreTerms(final, least, trend, 0.4 * final + 0.3 * least + 0.3 * trend)


def _trend(first: Sequence[float], last: Sequence[float]) -> float:
    before, after = math.fsum(first) / len(first), math.fsum(last) / len(last)
    margin = TREND_MATTERS * abs(before)
    if after < before - margin:
        return -0.1
    return 0.1 if after > before + margin else 0.0


def rank(entries: Sequence[CheckpointCandidate]) -> list[RankedCheckpoint]:
    """Order checkpoints, the best first; equal scores by epoch, the earliest first; the unusable ones last."""
    ranked = [_judged(entry) for entry in entries]
    return sorted(ranked, key=lambda r: (r.parts is None, r.parts.total if r.parts else 0.0, r.candidate.epoch))


def _judged(candidate: CheckpointCandidate) -> RankedCheckpoint:
    parts = score(candidate.losses)
    if not candidate.finite:
        return RankedCheckpoint(candidate, None, "cannot win: a weight is not finite")
    if not candidate.losses:
        return RankedCheckpoint(candidate, None, "cannot win: its history has no value loss")
    if parts is None:
        return RankedCheckpoint(candidate, None, "cannot win: a value loss is not finite")
    course = {-0.1: "falling", 0.0: "level", 0.1: "rising"}[parts.trend]
    return RankedCheckpoint(candidate, parts, f"final {parts.final:.4g}, least {parts.least:.4g}, {course}")


def choose(ranked: Sequence[RankedCheckpoint], use_epoch: int) -> tuple[RankedCheckpoint | None, str]:
    """Return the checkpoint to publish and why; `use_epoch` 0 = the best. None where none can be."""
    best = next((r for r in ranked if r.parts is not None), None)
    if not use_epoch:
        return best, "the best score"
    wanted = next((r for r in ranked if r.candidate.epoch == use_epoch), None)
    if wanted is not None and wanted.candidate.finite:
        return wanted, f"auto_load_model_epoch = {use_epoch}"
    missing = "is not there" if wanted is None else "holds weights that are not finite"
    return best, f"the best score, since epoch {use_epoch} {missing}"


def analysis(ranked: Sequence[RankedCheckpoint], chosen: RankedCheckpoint | None, why: str) -> bytes:
    """Return model_analysis.json."""
    best = next((r for r in ranked if r.parts is not None), None)
    document: dict[str, Any] = {
        "schema": "hotlap.analysis/1",
        "rule": RULE,
        "best_epoch": best.candidate.epoch if best else None,
        "best_model": best.candidate.name if best else None,
        "chosen_epoch": chosen.candidate.epoch if chosen else None,
        "chosen_model": chosen.candidate.name if chosen else None,
        "chosen_because": why,
        "ranking": [_line(place, r) for place, r in enumerate(ranked, start=1)],
    }
    return orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def _line(place: int, ranked: RankedCheckpoint) -> dict[str, Any]:
    parts = ranked.parts
    numbers: dict[str, float | None] = {"score": None, "final": None, "min": None, "trend": None}
    if parts is not None:
        numbers = {"score": parts.total, "final": parts.final, "min": parts.least, "trend": parts.trend}
    losses = [finite_or_none(loss) for loss in ranked.candidate.losses]
    head = {"rank": place, "epoch": ranked.candidate.epoch, "model": ranked.candidate.name}
    return head | numbers | {"reason": ranked.reason, "value_losses": losses}
