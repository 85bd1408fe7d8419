"""Interquartile means and their intervals agree with calculations by hand."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from scipy.stats import trim_mean

from benchmarks.learn.statistics import difference, estimate, iqm


def test_the_interquartile_mean_leaves_out_a_quarter_at_each_end():
    assert iqm(np.array([1.0, 2.0, 3.0, 4.0])) == 2.5
    assert iqm(np.array([100.0, 2.0, 4.0, -50.0])) == 3.0
    assert iqm(np.array([1.0, 2.0, 6.0])) == 3.0, "of three scores none is left out"
    assert iqm(np.array([0.0, 0.0, 1.0, 2.0, 3.0, 4.0, 9.0, 9.0])) == 2.5


@pytest.mark.parametrize("n", range(1, 30))
def test_it_is_the_mean_that_the_authors_use(n):
    scores = np.random.default_rng(n).normal(size=n)
    assert iqm(scores) == pytest.approx(trim_mean(scores, 0.25))


def test_an_infinite_score_counts_only_in_the_middle_half():
    assert iqm(np.array([0.1, 0.2, 0.3, math.inf])) == pytest.approx(0.25)
    assert iqm(np.array([0.1, 0.2, math.inf, math.inf])) == math.inf


def test_an_interval_has_the_percentiles_of_all_draws_that_are_possible():
    """Two environments with two scores each have 16 draws, of which all can be listed."""
    strata = [[0.0, 1.0], [10.0, 14.0]]
    draws = [iqm(np.array([*a, *b])) for a in product(strata[0], repeat=2) for b in product(strata[1], repeat=2)]
    low, high = np.percentile(draws, [2.5, 97.5], method="nearest")
    found = estimate(strata)
    assert found.value == iqm(np.array([0.0, 1.0, 10.0, 14.0])) == 5.5
    assert (found.low, found.high) == (low, high) == (min(draws), max(draws))


def test_runs_are_drawn_within_their_environment():
    """Between two environments far apart, draws across them would give a wide interval."""
    found = estimate([[0.0] * 5, [100.0] * 5])
    assert (found.value, found.low, found.high) == (50.0, 50.0, 50.0)


def test_a_difference_between_learners_is_found_or_not():
    rng = np.random.default_rng(0)
    one = [rng.normal(mean, 0.1, 5) for mean in (0.5, 0.8)]
    same = [rng.normal(mean, 0.1, 5) for mean in (0.5, 0.8)]
    better = [scores + 0.4 for scores in one]
    found = difference(better, same)
    assert found.low > 0.0
    unclear = difference(one, same)
    assert unclear.low < 0.0 < unclear.high
    assert difference(one, same) == unclear, "equal inputs give equal intervals"


def test_without_a_score_there_is_no_estimate():
    with pytest.raises(ValueError, match="no score"):
        estimate([[]])
