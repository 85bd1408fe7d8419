"""Choose the experiences that are held out from training, so that an epoch's score measures generalisation."""

from __future__ import annotations

import numpy as np

from schemas.rollout.rollout import Bools
from trainer.common.shapes import Int64

_LARGEST_SEGMENT = 0.5
"""A segment that contains more than this share of all steps is not held out as a whole."""


def choose_held_out(segment_B: Int64, fraction: float, rng: np.random.Generator) -> Bools:
    """Choose whole episode segments with about `fraction` of the steps; true = held out.

    `segment_B` identifies each step's segment. With two or more steps, at least one is held out and at least one is
    not. If no whole segment can be held out (one long episode), the end of the longest segment is held out.
    """
    n = len(segment_B)
    names, index_B, sizes = np.unique(segment_B, return_inverse=True, return_counts=True)
    target_count = max(1, round(fraction * n))
    is_chosen = np.zeros(len(names), dtype=bool)
    count = 0
    for segment in rng.permutation(len(names)):
        size = int(sizes[segment])
        fits = count + size <= 1.5 * target_count or (count == 0 and size <= _LARGEST_SEGMENT * n)
        if count < target_count and fits and count + size < n:
            is_chosen[segment] = True
            count += size
    if count:
        return np.asarray(is_chosen[index_B], dtype=bool)
    end_B = np.zeros(n, dtype=bool)
    rows = np.flatnonzero(index_B == sizes.argmax())
    end_B[rows[max(1, len(rows) - target_count) :]] = True
    return end_B
