"""A quick test that most correct files pass: a row is closer to the next row than to any later one nearby."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from schemas.tracks.columns import Bools, Int64

LONGEST_LAG = 33
"""Rows of neighbouring agents are at most this far from each other again, with 32 agents in a fixed order."""
_PARTS, _SAMPLE = 4, 40
_MOST_COLUMNS = 10
_CLOSER, _CLOSER_IN_A_PART = 0.58, 0.55
_ENOUGH_COLUMNS = 0.6
_LAGS = np.arange(LONGEST_LAG + 1)


def is_continuous(observations: npt.NDArray[np.float32], ended: Bools, rows: Int64) -> bool:
    """Return whether these rows are certainly the steps of one agent. False means that it is not certain.

    In most columns, the next row must be closer than each of the later ones, in most of a sample of rows. If several
    agents take turns, the next row is of another agent, so that some later rows are as close or closer. Every part of
    the file must pass, because agents can come later.
    """
    starts = np.flatnonzero(~ended[rows[:-LONGEST_LAG]])
    if len(starts) < LONGEST_LAG:
        return False
    starts = starts[np.linspace(0, len(starts) - 1, _PARTS * _SAMPLE).astype(np.intp)]
    columns = slice(None, None, -(-observations.shape[1] // _MOST_COLUMNS))
    values = observations[:, columns][rows[starts[:, None] + _LAGS]]  # [starts, lags, columns]
    distance = np.abs(values[:, 1:] - values[:, :1])
    next_distance, later = distance[:, :1], distance[:, 1:]
    shape = _PARTS, _SAMPLE, *later.shape[1:]
    closer = (next_distance < later).reshape(shape).sum(axis=1)  # [parts, lags, columns]
    farther = (next_distance > later).reshape(shape).sum(axis=1)
    decides = (closer + farther).sum(axis=(0, 1)) > 0
    if not decides.any():
        return True
    share = closer.sum(axis=0) / np.maximum(1, (closer + farther).sum(axis=0))
    share_of_parts = closer.sum(axis=2) / np.maximum(1, (closer + farther).sum(axis=2))
    passed = (share >= _CLOSER).all(axis=0)[decides]
    return bool(passed.mean() >= _ENOUGH_COLUMNS and share_of_parts.min() >= _CLOSER_IN_A_PART)
