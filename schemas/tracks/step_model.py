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
_SMALLEST_ERROR = 0.02
"""An error of a prediction that counts as none, in deviations of the observation: sensors and float32 are coarse."""


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
    return StepModel(coefficients, np.linalg.inv(np.linalg.cholesky(covariance)).T)


def learned(observations: Float64, actions: Float64, ended: Bools, window: int) -> tuple[StepModel, Links] | None:
    """Return a model and the links that it finds; None if the rows have too few pairs that are each other's nearest."""
    links = mutual_links(_band_of_differences(observations, ended, window))
    model = None
    for _ in range(_FITS):
        if len(links) < _ENOUGH_PAIRS:
            return None
        model = fitted(observations, actions, links)
        links = mutual_links(model.costs(observations, actions, ended, window))
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
    n = len(arrived)
    costs = np.full((window, n), np.inf)
    for lag in range(1, min(window, n - 1) + 1):
        error = arrived[lag:] - predicted[:-lag]
        costs[lag - 1, : n - lag] = np.einsum("ij,ij->i", error, error)
    costs[:, ended] = np.inf
    return costs


def _band_of_differences(observations: Float64, ended: Bools, window: int) -> Float64:
    """Return costs without a model: the mean difference of the columns, each up to one deviation."""
    n = len(observations)
    costs = np.full((window, n), np.inf)
    for lag in range(1, min(window, n - 1) + 1):
        costs[lag - 1, : n - lag] = np.minimum(np.abs(observations[lag:] - observations[:-lag]), 1.0).mean(axis=1)
    costs[:, ended] = np.inf
    return costs
