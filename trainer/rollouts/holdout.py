"""Which experiences are kept from training, so that an epoch's score measures generalisation and not memory."""

from __future__ import annotations

import numpy as np

from schemas.rollout.rollout import Bools
from trainer.common.shapes import Int64

_LARGEST_PIECE = 0.5
"""A piece that holds more than this part of all steps is not given away whole."""


def held_out(segment_B: Int64, fraction: float, rng: np.random.Generator) -> Bools:
    """Choose whole pieces of episodes with about `fraction` of the steps; true = kept from training.

    `segment_B` names each step's piece. At least one step is held out and at least one left, wherever there are two;
    where no whole piece can be spared (one long episode), the end of the longest goes.
    """
    n = len(segment_B)
    names, index_B, sizes = np.unique(segment_B, return_inverse=True, return_counts=True)
    wanted = max(1, round(fraction * n))
    chosen = np.zeros(len(names), dtype=bool)
    taken = 0
    for piece in rng.permutation(len(names)):
        size = int(sizes[piece])
        about_right = taken + size <= 1.5 * wanted or (taken == 0 and size <= _LARGEST_PIECE * n)
        if taken < wanted and about_right and taken + size < n:
            chosen[piece] = True
            taken += size
    if taken:
        return np.asarray(chosen[index_B], dtype=bool)
    tail = np.zeros(n, dtype=bool)
    rows = np.flatnonzero(index_B == sizes.argmax())
    tail[rows[max(1, len(rows) - wanted) :]] = True
    return tail
