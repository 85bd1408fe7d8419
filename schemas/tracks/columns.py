"""The columns of a rollout that tell rows of one agent from rows of another, in comparable units."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Columns = npt.NDArray[np.floating]

MAX_COLUMNS = 48
"""Wider observations are projected to this many columns at random: distances between rows stay about the same."""
_SAMPLED_ROWS = 512
_LARGEST = 8.0
"""Values are clipped to this many deviations, so that a few outliers do not hide the others."""
_SIGMAS_5_TO_95 = 3.29


def scaled_observations(observations: npt.NDArray[np.float32]) -> Float64:
    """Return the observations that vary, centred, in units of their robust deviation: [n, at most MAX_COLUMNS]."""
    values = observations.astype(np.float64)
    sample = values[:: max(1, len(values) // _SAMPLED_ROWS)]
    low, middle, high = np.percentile(sample, [5.0, 50.0, 95.0], axis=0)
    deviation = values.std(axis=0)
    unit = (high - low) / _SIGMAS_5_TO_95
    unit = np.where(unit > 1e-3 * deviation, unit, deviation)
    varies = unit > 1e-9 * (np.abs(values).max(axis=0) + 1e-30)
    scaled = np.clip((values[:, varies] - middle[varies]) / unit[varies], -_LARGEST, _LARGEST)
    return _projected(scaled) if scaled.shape[1] > MAX_COLUMNS else scaled


def scaled_actions(actions: npt.NDArray[np.float32]) -> Float64:
    """Return the action columns that vary, centred, in units of their deviation; at most MAX_COLUMNS."""
    values = actions[:, :MAX_COLUMNS].astype(np.float64)
    deviation = values.std(axis=0)
    varies = deviation > 1e-9
    return np.asarray((values[:, varies] - values[:, varies].mean(axis=0)) / deviation[varies], dtype=np.float64)


def _projected(scaled: Float64) -> Float64:
    rng = np.random.default_rng(0)
    mixed = scaled @ rng.normal(size=(scaled.shape[1], MAX_COLUMNS))
    return np.asarray(mixed / (mixed.std(axis=0) + 1e-12), dtype=np.float64)
