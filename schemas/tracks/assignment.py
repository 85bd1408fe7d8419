"""Assign the rows of each tick to the agents of the tick before, and find out how certain that is."""

from __future__ import annotations

import numpy as np

from schemas.tracks.columns import Float64, Int64
from schemas.tracks.step_model import Links

_DEGREES = 4.0
"""Degrees of freedom of the errors' distribution: low, because a few steps are much larger than the others."""
_USUAL_QUANTILE, _OTHERS_QUANTILE = 0.99, 0.02


def assigned(costs: Float64, starts: Int64, links: Links) -> tuple[Links, Float64]:
    """Return one link for each row that has a successor in the next tick, and the probability of each link.

    `costs` is a band as in `StepModel.costs`.
    """
    from scipy.optimize import linear_sum_assignment

    known = costs[links.gaps - 1, links.before]
    usual_cost = float(np.median(known))
    weights = _improbability(costs, usual_cost)
    others = _costs_of_others(costs, starts)
    bounds = np.quantile(known, _USUAL_QUANTILE), np.quantile(others, _OTHERS_QUANTILE) if len(others) else np.inf
    limit = float(_improbability(np.sqrt(bounds[0] * max(bounds)), usual_cost)) if np.isfinite(bounds[1]) else float(_improbability(4 * bounds[0], usual_cost))
    before, after, probability = [], [], []
    for begin, middle, end in zip(starts[:-2], starts[1:-1], starts[2:], strict=True):
        rows, successors = np.arange(begin, middle), np.arange(middle, end)
        lags = successors[None, :] - rows[:, None] - 1
        inside = lags < len(weights)
        pairs = np.where(inside, weights[np.minimum(lags, len(weights) - 1), rows[:, None]], np.inf)
        chosen_rows, chosen = linear_sum_assignment(np.minimum(pairs, 4.0 * limit))
        is_good = pairs[chosen_rows, chosen] < 1.5 * limit
        chosen_rows, chosen = chosen_rows[is_good], chosen[is_good]
        before.append(rows[chosen_rows])
        after.append(successors[chosen])
        probability.append(_probability(pairs, limit)[chosen_rows, chosen])
    if not before:
        return Links(np.zeros(0, np.int64), np.zeros(0, np.int64)), np.zeros(0)
    return Links(np.concatenate(before), np.concatenate(after)), np.concatenate(probability)


def _costs_of_others(costs: Float64, starts: Int64) -> Float64:
    """Return costs of pairs of rows in the same tick, which are certainly of different agents."""
    sizes = np.repeat(np.diff(starts), np.diff(starts))
    place = np.arange(starts[-1]) - np.repeat(starts[:-1], np.diff(starts))
    found = costs[0][place + 1 < sizes]
    return np.asarray(found[np.isfinite(found)], dtype=np.float64)


def _improbability(costs: Float64, usual_cost: float) -> Float64:
    """Return minus the logarithm of the density of errors, up to a constant: Student's, so that outliers count less."""
    return np.asarray(0.5 * (_DEGREES + 1.0) * usual_cost * np.log1p(costs / (usual_cost * _DEGREES)), dtype=np.float64)


def _probability(pairs: Float64, limit: float) -> Float64:
    """Return the probability of each pair, given the alternatives for its row, for its successor, and a new track."""
    density = np.exp(-np.minimum(pairs - min(float(pairs.min()), limit), 700.0))
    none = np.exp(-min(limit - min(float(pairs.min()), limit), 700.0))
    of_rows = density / (density.sum(axis=1, keepdims=True) + none)
    of_successors = density / (density.sum(axis=0, keepdims=True) + none)
    return np.asarray(np.minimum(of_rows, of_successors), dtype=np.float64)
