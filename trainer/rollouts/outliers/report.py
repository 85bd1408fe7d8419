"""What is said about outliers: one line with the rollout, the column, how many steps, and the largest number."""

from __future__ import annotations

from collections.abc import Sequence

from trainer.rollouts.experiences import Experiences
from trainer.rollouts.outliers.limits import ColumnOutliers
from trainer.rollouts.outliers.search import Found

_NAMED = 3


def in_words(found: Found, count: int, largest: float, steps: int) -> str:
    """Return one column's outliers in words. `steps` is the number of steps that `count` is a part of."""
    return f"{found.name} is {largest:.3g} in {count:,} of {steps:,} steps, {_usual(found.outliers)}"


def _usual(outliers: ColumnOutliers) -> str:
    if outliers.low == outliers.high:
        return f"otherwise {outliers.low:.3g}"
    return f"otherwise {outliers.low:.3g} to {outliers.high:.3g}"


def message(parts: Sequence[str]) -> str:
    """Return the text of a notice about outliers that are described in words, the most important first."""
    more = len(parts) - _NAMED
    text = "; ".join(parts[:_NAMED]) + (f"; and {more} more" if more > 0 else "")
    return (
        f"{text}: such numbers count as the edge of the usual range while training. Correct what writes them; "
        "see `hotlap docs outliers`"
    )


class ReportedColumns:
    """The columns whose outliers were reported in a run of online training: each is reported once."""

    def __init__(self) -> None:
        self._names: set[str] = set()

    def new_in_words(self, found: Sequence[Found], experiences: Experiences) -> list[str]:
        """Return a text about the outliers in columns without a report, or nothing if there are none."""
        new = [one for one in found if one.name not in self._names]
        self._names |= {one.name for one in new}
        new.sort(key=lambda one: -len(one.outliers.rows))
        parts = [in_words(one, len(one.outliers.rows), one.outliers.largest, experiences.size) for one in new]
        return [message(parts)] if parts else []
