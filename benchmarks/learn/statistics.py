"""Interquartile means with stratified bootstrap intervals (Agarwal et al. 2021, arXiv:2108.13264), in numpy.

A score is one run's. A stratum is one environment: runs are drawn with replacement within each environment, so that an
interval describes other seeds in the same environments.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]
RESAMPLES = 5000
CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with the bounds of its 95 % interval."""

    value: float
    low: float
    high: float


def iqm(scores: Float64) -> Float64:
    """Return the mean of the middle half along the last axis: of n sorted scores, n // 4 at each end are left out.

    A score may be infinite; the mean is infinite if one is in the middle half.
    """
    cut = scores.shape[-1] // 4
    middle = np.sort(scores, axis=-1)[..., cut : scores.shape[-1] - cut]
    return np.asarray(middle.mean(axis=-1), np.float64)


def estimate(strata: Sequence[Sequence[float]], *, seed: int = 0) -> Estimate:
    """Return the interquartile mean over all strata's scores, with its interval. Raises ValueError without a score."""
    scores = [np.array(stratum, np.float64) for stratum in strata if len(stratum)]
    if not scores:
        raise ValueError("no score")
    draws = iqm(_resampled(scores, np.random.default_rng(seed)))
    return Estimate(float(iqm(np.concatenate(scores))), *_interval(draws))


def difference(strata: Sequence[Sequence[float]], others: Sequence[Sequence[float]], *, seed: int = 0) -> Estimate:
    """Return the difference of two interquartile means, with its interval: the first minus the second."""
    rng = np.random.default_rng(seed)
    first, second = ([np.array(s, np.float64) for s in group if len(s)] for group in (strata, others))
    if not first or not second:
        raise ValueError("no score")
    draws = iqm(_resampled(first, rng)) - iqm(_resampled(second, rng))
    return Estimate(float(iqm(np.concatenate(first)) - iqm(np.concatenate(second))), *_interval(draws))


def _resampled(strata: Sequence[Float64], rng: np.random.Generator) -> Float64:
    """Return draws [RESAMPLES, all scores]; each stratum is drawn from itself."""
    return np.concatenate([s[rng.integers(0, len(s), (RESAMPLES, len(s)))] for s in strata], axis=1)


def _interval(draws: Float64) -> tuple[float, float]:
    """Return the percentiles of the interval. The nearest draw is taken: infinite ones cannot be interpolated."""
    tail = 100.0 * (1.0 - CONFIDENCE) / 2.0
    low, high = np.percentile(draws, [tail, 100.0 - tail], method="nearest")
    return float(low), float(high)
