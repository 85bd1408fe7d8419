"""Assign the rows of each tick to the agents of the tick before, and find out how certain that is."""

from __future__ import annotations

import math

import numpy as np

from schemas.tracks.columns import Float64, Int64
from schemas.tracks.step_model import Links

_DEGREES = 4.0
"""Degrees of freedom of the errors' distribution: low, because a few steps are much larger than the others."""
_USUAL_QUANTILE, _OTHERS_QUANTILE = 0.99, 0.02
_MARGIN = 1.5
"""A pair that is less probable than a new track may still be linked if nothing else is near, up to this factor."""
_UNLIKELY = 4.0
_LARGEST_EXPONENT = 700.0


def assigned(costs: Float64, starts: Int64, known: Links) -> tuple[Links, Float64]:
    """Return the links between the rows of each tick and of the next one, and the probability of each link.

    `costs` is a band as in `StepModel.costs`, `starts` the first row of each tick. The `known` links show which costs
    are usual.
    """
    from scipy.optimize import linear_sum_assignment  # takes time and memory, and few files need it

    usual = costs[known.gaps - 1, known.before]
    scale = max(float(np.median(usual)), 1e-9) if len(usual) else 1.0
    improbability = 0.5 * (_DEGREES + 1.0) * scale * np.log1p(costs / (scale * _DEGREES))
    limit = 0.5 * (_DEGREES + 1.0) * scale * math.log1p(_farthest(usual, costs, starts) / (scale * _DEGREES))
    before, after, probability = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], [np.zeros(0)]
    for begin, middle, end in zip(starts[:-2], starts[1:-1], starts[2:], strict=True):
        pairs = _pairs(improbability, begin, middle, end)
        rows, successors = linear_sum_assignment(np.minimum(pairs, _UNLIKELY * limit))
        near = pairs[rows, successors] < _MARGIN * limit
        rows, successors = rows[near], successors[near]
        before.append(begin + rows)
        after.append(middle + successors)
        probability.append(_probability(pairs, limit)[rows, successors])
    return Links(np.concatenate(before), np.concatenate(after)), np.concatenate(probability)


def _farthest(usual: Float64, costs: Float64, starts: Int64) -> float:
    """Return the cost at which a pair is as likely to be a new track as the next step of an old one.

    It is between the costs of steps and those of rows in the same tick, which are certainly of different agents.
    """
    if not len(usual):
        return 1.0
    sizes = np.diff(starts)
    place = np.arange(starts[-1]) - np.repeat(starts[:-1], sizes)
    others = costs[0][place + 1 < np.repeat(sizes, sizes)]
    others = others[np.isfinite(others)]
    high = float(np.quantile(usual, _USUAL_QUANTILE))
    if not len(others):
        return 4.0 * high
    return math.sqrt(high * max(high, float(np.quantile(others, _OTHERS_QUANTILE))))


def _pairs(improbability: Float64, begin: int, middle: int, end: int) -> Float64:
    """Return the improbability of each pair of a row of a tick and a row of the next tick."""
    rows, successors = np.arange(begin, middle)[:, None], np.arange(middle, end)[None, :]
    lag = successors - rows - 1
    return np.where(lag < len(improbability), improbability[np.minimum(lag, len(improbability) - 1), rows], np.inf)


def _probability(pairs: Float64, limit: float) -> Float64:
    """Return the probability of each pair, given the alternatives for its row, for its successor, and a new track."""
    smallest = min(float(pairs.min()), limit)
    density = np.exp(-np.minimum(pairs - smallest, _LARGEST_EXPONENT))
    new_track = math.exp(-min(limit - smallest, _LARGEST_EXPONENT))
    of_rows = density / (density.sum(axis=1, keepdims=True) + new_track)
    of_successors = density / (density.sum(axis=0, keepdims=True) + new_track)
    return np.asarray(np.minimum(of_rows, of_successors), dtype=np.float64)
