"""Held-out experiences: whole segments of episodes, about the requested fraction."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.rollouts.holdout import choose_held_out


def interleaved(segments: int, length: int) -> np.ndarray:
    """Return the segment of each step, with the segments' steps interleaved as in an engine's file."""
    return np.tile(np.arange(segments, dtype=np.int64), length)


@given(segments=st.integers(4, 40), length=st.integers(2, 30), fraction=st.floats(0.05, 0.5), seed=st.integers(0, 99))
def test_a_segment_is_held_out_whole_or_not_at_all(segments, length, fraction, seed):
    segment_B = interleaved(segments, length)
    held_B = choose_held_out(segment_B, fraction, np.random.default_rng(seed))
    parts = [held_B[segment_B == segment].mean() for segment in range(segments)]
    assert set(parts) == {0.0, 1.0}


@pytest.mark.parametrize("fraction", [0.1, 0.2, 0.5])
def test_about_the_requested_fraction_is_held_out(fraction):
    held_B = choose_held_out(interleaved(100, 20), fraction, np.random.default_rng(0))
    assert held_B.mean() == pytest.approx(fraction, abs=0.02)


def test_of_one_long_episode_the_end_is_held_out():
    held_B = choose_held_out(np.zeros(100, np.int64), 0.2, np.random.default_rng(0))
    assert held_B.tolist() == [False] * 80 + [True] * 20
