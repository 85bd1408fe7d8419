"""A quick test that most correct files pass: each row is closer to the row before it than to all others nearby."""

from __future__ import annotations

import numpy as np

from schemas.tracks.columns import Bools, Float64

LONGEST_LAG = 33
"""Two rows of neighbouring agents are at most this far from each other again, with 32 agents in a fixed order."""
_BLOCKS, _BLOCK_ROWS = 4, 160
_CLOSER = 0.93
_ENOUGH_COLUMNS = 0.7
_FARTHEST = 1.0
"""Differences count up to this many deviations, so that jumps do not hide the continuity of all other steps."""


def is_continuous(observations: Float64, ended: Bools) -> bool:
    """Return whether the rows are certainly the steps of one agent.

    In most columns, the difference to the row before must be smaller than to all rows 2 to LONGEST_LAG before. If
    several agents take turns, the row before is of another agent, so that other lags are as close or closer. Several
    parts of the file are tested, because agents can come later.
    """
    blocks = _blocks(len(observations))
    return all(
        continuous_share(observations[block].astype(np.float32), ended[block]) >= _ENOUGH_COLUMNS for block in blocks
    )


def continuous_share(rows: np.ndarray, ended: Bools) -> float:
    """Return the share of the columns that vary in which a row is closest to the row before it."""
    goes_on = ~ended
    lags = range(1, min(LONGEST_LAG, len(rows) // 2) + 1)
    differences = np.array([_mean_difference(rows, goes_on, lag) for lag in lags])
    nearest = differences[1:].min(axis=0)
    varies = differences.max(axis=0) > 1e-6
    return float((varies & (differences[0] < _CLOSER * nearest)).sum() / varies.sum()) if varies.any() else 1.0


def _mean_difference(rows: np.ndarray, goes_on: Bools, lag: int) -> np.ndarray:
    """Return each column's mean difference over `lag` rows, after rows that did not end an episode."""
    difference = np.abs(rows[lag:] - rows[:-lag])
    np.minimum(difference, _FARTHEST, out=difference)
    return np.asarray(goes_on[:-lag].astype(np.float32) @ difference / max(1, int(goes_on[:-lag].sum())))


def _blocks(n: int) -> list[slice]:
    """Return parts of the rows: halves of short files, blocks evenly spread over long ones."""
    if n <= _BLOCK_ROWS:
        return [slice(0, n)]
    if n <= _BLOCKS * _BLOCK_ROWS:
        return [slice(0, n // 2), slice(n // 2, n)]
    return [slice(start, start + _BLOCK_ROWS) for start in np.linspace(0, n - _BLOCK_ROWS, _BLOCKS).astype(int)]
