"""The rule for one column of numbers: which of them are outliers, and what they count as.

A deviation is the distance from the column's median. The spread is the largest deviation if a hundredth of the rows are
not counted: a quantile, which numbers that few rows contain cannot change, however large they are (Huber and Ronchetti
2009, "Robust Statistics", on breakdown points). A number farther than FACTOR spreads from the median is an outlier. It
counts as a number at the edge of the usual range (winsorising, Tukey 1962, "The Future of Data Analysis").

Data without outliers lose nothing:
- A normal column has a spread of 2.6 deviations, so its limit is 77 deviations; heavy tails have a larger spread.
- If nearly all rows are equal (flags, sparse rewards, sensors that are mostly 0), the spread is that of the others.
- One or two events in a column that was constant are outliers only beyond LARGEST_EVENT; so are rare rewards.
- A reward counts in full up to USUAL_REWARD, and up to RECURRING spreads if it recurs.
- An observation that lasts for some steps counts up to LASTING spreads; the usual range grows with it.
- What a tenth of the rows contain is never an outlier. So a game may change its units.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from schemas.rollout.rollout import Bools
from trainer.common.shapes import Float64, Int64

FACTOR = 30.0
SHARE = 0.01
"""Rows that do not count for the spread."""
LARGEST_SHARE = 0.1
"""The most rows that do not count, however many rows came before."""
MOST_BEFORE = 1e5
"""Earlier rows that count at most."""
FEW_ROWS = 24
"""With fewer rows and enough earlier ones, the earlier ones decide alone."""
ENOUGH_BEFORE = 100
EQUAL = 1e-6
"""Numbers that differ by this, or by this part of the median, are equal."""
FEW_EVENTS = 3
LARGEST_EVENT = 1e4
"""In units of the column: 1, or a hundredth of the median if that is larger."""
USUAL_REWARD = 100.0
"""Rewards up to this size are what users are asked for: they are never outliers."""
RECURRING = 1e4
LASTING = 100.0
LASTING_STEPS = 3

LongRuns = Callable[[Bools], Bools]
"""Of a mask of rows, those that belong to at least LASTING_STEPS consecutive steps of one agent."""


class Before(NamedTuple):
    """What is known of a column from earlier rows."""

    rows: float = 0.0
    center: float = 0.0
    spread: float = 0.0  #: 0 = not known


NOTHING_BEFORE = Before()


@dataclass(frozen=True, slots=True)
class ColumnOutliers:
    """The outliers of a column."""

    rows: Int64
    values: Float64  #: what the rows count as
    low: float  #: the usual range
    high: float
    largest: float  #: the outlier that is farthest away


def find_outliers(
    column_B: Float64, before: Before = NOTHING_BEFORE, *, recurs: bool = False, long_runs: LongRuns | None = None
) -> ColumnOutliers | None:
    """Return the outliers of a column, or None if it has none.

    `recurs` is for columns of rewards: a number counts in full if it recurs. With `long_runs`, it counts if it lasts.
    """
    is_judged_before = len(column_B) < FEW_ROWS and before.rows >= ENOUGH_BEFORE and before.spread > 0.0
    center = before.center if is_judged_before else float(np.median(column_B))
    deviation_B = np.abs(column_B - center)
    equal = EQUAL * (1.0 + abs(center))
    varying = deviation_B[deviation_B > equal]
    if not len(varying):
        return None
    unit, spread = max(1.0, abs(center) / 100.0), before.spread
    has_reference = spread > equal or len(varying) >= FEW_EVENTS
    if has_reference and not is_judged_before:
        spread = max(spread, _spread(varying, len(column_B), before))
        is_rare = recurs and before.spread <= equal and len(varying) <= rows_left_out(len(column_B), 0.0)
        has_reference = not (is_rare and spread > LARGEST_EVENT * unit)
    limit = FACTOR * spread
    if not has_reference:
        limit = LARGEST_EVENT * unit
    is_far_B = deviation_B > limit
    if recurs:
        is_far_B &= np.abs(column_B) > USUAL_REWARD
    if not is_far_B.any():
        return None
    counts_as = None
    if recurs and has_reference:
        again = np.sort(deviation_B[is_far_B & (deviation_B <= RECURRING * spread)])
        if len(again) >= FEW_EVENTS:
            counts_as = float(again[-FEW_EVENTS])
            is_far_B &= deviation_B > counts_as
    elif long_runs is not None and has_reference:
        lasting = deviation_B[long_runs(is_far_B)]
        if len(lasting):
            counts_as = min(LASTING * spread, float(lasting.max()))
            is_far_B &= deviation_B > counts_as
    return _outliers(column_B, center, is_far_B, counts_as) if is_far_B.any() else None


def _spread(varying: Float64, rows: int, before: Before) -> float:
    """Return the largest deviation that is left if the largest few are not counted. The others are equal to the median.

    Without earlier rows, at least half of those that vary are counted.
    """
    left_out = rows_left_out(rows, before.rows if before.spread > 0.0 else 0.0)
    if before.spread <= 0.0:
        left_out = min(left_out, len(varying) // 2)
    if left_out >= len(varying):
        return 0.0
    place = len(varying) - 1 - left_out
    return float(np.partition(varying, place)[place])


def rows_left_out(rows: int, rows_before: float) -> int:
    """Return how many of the rows do not count for the spread."""
    few = min(FEW_EVENTS, rows // 8)
    share = int(SHARE * (rows + min(rows_before, MOST_BEFORE)))
    return max(few, min(share, int(LARGEST_SHARE * rows)))


def _outliers(column_B: Float64, center: float, is_far_B: Bools, counts_as: float | None) -> ColumnOutliers:
    """Return the outliers with the deviation that they count as; by default that of the largest other number."""
    usual, rows = column_B[~is_far_B], np.flatnonzero(is_far_B)
    if counts_as is None:
        counts_as = float(np.abs(usual - center).max(initial=0.0))
    values = center + np.sign(column_B[rows] - center) * counts_as
    low, high = (float(usual.min()), float(usual.max())) if len(usual) else (center, center)
    largest = column_B[rows[np.argmax(np.abs(column_B[rows] - center))]]
    return ColumnOutliers(rows, np.asarray(values, dtype=np.float64), low, high, float(largest))


def columns_to_check(values_BX: npt.NDArray[Any], spread_X: Float64, rows_before: float) -> Int64:
    """Return the columns that may contain outliers, without sorting; `find_outliers` finds none in the others.

    If s is the share of the rows that do not count, B the spread and D the largest deviation, then the variance v is
    at most B^2 + s D^2. So D is at most FACTOR B if D^2 <= v / (s + 1 / FACTOR^2). The median is within one standard
    deviation of the mean.
    """
    rows = len(values_BX)
    if not rows:
        return np.zeros(0, dtype=np.int64)
    mean_X, std_X = values_BX.mean(axis=0, dtype=np.float64), values_BX.std(axis=0, dtype=np.float64)
    reach_X = np.maximum(values_BX.max(axis=0) - mean_X, mean_X - values_BX.min(axis=0))
    share = rows_left_out(rows, rows_before) / rows
    largest = 1.0 / np.sqrt(share + 1.0 / FACTOR**2) - 1.0
    is_constant_X = reach_X <= EQUAL * (1.0 + np.abs(mean_X)) / 4.0
    if rows < FEW_ROWS:
        return np.flatnonzero(~is_constant_X)
    return np.flatnonzero(~is_constant_X & (reach_X > largest * std_X) & (2.0 * reach_X > FACTOR * spread_X))
