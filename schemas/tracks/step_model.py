"""A model of what one step of an agent can change, learned from the rows themselves.

The next observation is predicted from the observation and the action, linearly. The model starts with pairs of rows
that are each other's nearest, and is fitted again with the pairs that it finds itself. Costs are squared distances in
units of the prediction's errors, with their correlations.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from schemas.tracks.columns import Bools, Columns, Float64, Int64

_FITS = 3
_KEPT = 0.85
"""The share of the pairs that a fit uses: a few wrong pairs must not spoil it."""
_ENOUGH_PAIRS = 12
_SMALLEST_ERROR = 0.0005
"""An error of a prediction that counts as none, in deviations of the observation: sensors and float32 are coarse."""
WINDOWS = (3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)
_TRIAL_ROWS = 1024
_BLOCK_ROWS = 128
_LINKED = 0.7
"""A model must link this share of the rows that the model with the most links does."""


@dataclass(frozen=True, slots=True)
class Links:
    """Pairs of rows: `after` is the successor of `before` in the same track."""

    before: Int64
    after: Int64

    @property
    def gaps(self) -> Int64:
        """Return how many rows each pair is apart."""
        return self.after - self.before

    def __len__(self) -> int:
        return len(self.before)


@dataclass(frozen=True, slots=True)
class StepModel:
    """A linear prediction of the next observation, and the whitening of its errors."""

    coefficients: Float64  #: [features, d]
    whitening: Float64  #: [d, d]

    @property
    def log_error(self) -> float:
        """Return the logarithm of the errors' size, per column."""
        return float(-np.linalg.slogdet(self.whitening)[1] / len(self.whitening))

    def predicted(self, observations: Float64, actions: Float64) -> Float64:
        """Return the whitened prediction of what follows each row."""
        following = observations + _features(observations, actions) @ self.coefficients
        return np.asarray(following @ self.whitening, dtype=np.float64)

    def costs(self, observations: Float64, actions: Float64, ended: Bools, window: int) -> Float64:
        """Return [window, n]: the cost of row i + lag as the successor of row i at [lag - 1, i]; inf if impossible."""
        return _band(observations @ self.whitening, self.predicted(observations, actions), ended, window)


def fitted(observations: Float64, actions: Float64, links: Links) -> StepModel:
    """Return the model that fits the links, without the worst of them."""
    features = _features(observations, actions)[links.before]
    change = observations[links.after] - observations[links.before]
    kept = np.ones(len(links), dtype=bool)
    for _ in range(2):
        square = features[kept].T @ features[kept]
        square[np.diag_indices_from(square)] += max(1.0, kept.sum() / 256)
        coefficients = np.linalg.solve(square, features[kept].T @ change[kept])
        errors = change - features @ coefficients
        size = (np.abs(errors) / (np.median(np.abs(errors), axis=0) + 1e-3)).mean(axis=1)
        kept = size <= np.quantile(size, _KEPT)
    covariance = errors[kept].T @ errors[kept] / max(1, int(kept.sum()))
    covariance += 0.1 * np.diag(np.diag(covariance)) + _SMALLEST_ERROR**2 * np.eye(len(covariance))
    whitening = np.linalg.inv(np.linalg.cholesky(covariance)).T
    return StepModel(np.asarray(coefficients, dtype=np.float64), np.asarray(whitening, dtype=np.float64))


def best_model(
    observations: Float64, actions: Float64, ended: Bools, windows: tuple[int, ...] = WINDOWS
) -> StepModel | None:
    """Return the model with the smallest errors of those that are learned with different windows; None without one.

    A window that is too long can lead to a model of two steps, which is less exact than that of one; one that is too
    short leads to a model of coincidences. Only the middle of a long file is used.
    """
    begin = max(0, (len(ended) - _TRIAL_ROWS) // 2)
    middle = slice(begin, begin + _TRIAL_ROWS)
    rows = observations[middle], actions[middle], ended[middle]
    fitting = [window for window in windows if window < len(rows[0]) // 2]
    if not fitting:
        return None
    first_costs = _band_of_differences(rows[0], rows[2], max(fitting))
    trials = [_learned(*rows, first_costs[:window]) for window in fitting]
    found = [trial for trial in trials if trial is not None]
    if not found:
        return None
    most = max(len(links) for _, links in found)
    return min((trial for trial in found if len(trial[1]) >= _LINKED * most), key=lambda trial: trial[0].log_error)[0]


def _learned(
    observations: Float64, actions: Float64, ended: Bools, first_costs: Float64
) -> tuple[StepModel, Links] | None:
    """Return a model and the links that it finds; None if the rows have too few pairs that are each other's nearest."""
    links, model = mutual_links(first_costs), None
    for _ in range(_FITS):
        if len(links) < _ENOUGH_PAIRS:
            return None
        model = fitted(observations, actions, links)
        links = mutual_links(model.costs(observations, actions, ended, len(first_costs)))
    return None if model is None else (model, links)


def mutual_links(costs: Columns) -> Links:
    """Return the pairs of rows that are each other's best successor and predecessor within the window."""
    window, n = costs.shape
    forward = costs.argmin(axis=0) + 1
    before = np.flatnonzero(np.isfinite(costs[forward - 1, np.arange(n)]))
    arriving = np.full_like(costs, np.inf)
    for lag in range(1, min(window, n - 1) + 1):
        arriving[lag - 1, lag:] = costs[lag - 1, : n - lag]
    backward = arriving.argmin(axis=0) + 1
    after = before + forward[before]
    is_mutual = backward[after] == forward[before]
    return Links(before[is_mutual], after[is_mutual])


def _features(observations: Float64, actions: Float64) -> Float64:
    return np.concatenate([observations, actions, np.ones((len(observations), 1))], axis=1)


def _band(arrived: Float64, predicted: Float64, ended: Bools, window: int) -> Float64:
    """Return [window, n]: the squared distance from the prediction of row i to row i + lag at [lag - 1, i]."""
    n, width = arrived.shape
    padded = np.concatenate([arrived, np.zeros((window + _BLOCK_ROWS, width))])
    arrived_square, predicted_square = np.square(padded).sum(axis=1), np.square(predicted).sum(axis=1)
    costs = np.empty((window, n))
    for begin in range(0, n, _BLOCK_ROWS):
        rows, others = slice(begin, begin + _BLOCK_ROWS), slice(begin + 1, begin + _BLOCK_ROWS + window)
        square = predicted_square[rows, None] + arrived_square[None, others] - 2.0 * predicted[rows] @ padded[others].T
        lags = (np.arange(len(square))[:, None] + np.arange(window)[None, :]).ravel()
        costs[:, rows] = square[np.repeat(np.arange(len(square)), window), lags].reshape(-1, window).T
    np.maximum(costs, 0.0, out=costs)
    lag, row = np.ogrid[1 : window + 1, :n]
    costs[(row + lag >= n) | ended[None, :]] = np.inf
    return costs


def _band_of_differences(observations: Float64, ended: Bools, window: int) -> Float64:
    """Return costs without a model: the mean difference of the columns, each up to one deviation."""
    n, values = len(observations), observations.astype(np.float32)
    costs = np.full((window, n), np.inf)
    for lag in range(1, min(window, n - 1) + 1):
        costs[lag - 1, : n - lag] = np.minimum(np.abs(values[lag:] - values[:-lag]), np.float32(1.0)).mean(axis=1)
    costs[:, ended] = np.inf
    return costs
