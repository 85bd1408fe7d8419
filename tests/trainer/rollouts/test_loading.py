"""Which old rollouts a cycle uses, what happens to those that cannot be read, and what is held out."""

import numpy as np
import pytest

from schemas.job import RolloutInput
from trainer.rollouts.holdout import held_out
from trainer.rollouts.loading import choose_rollouts


def rollouts(new, old):
    fresh = [RolloutInput(name=f"n{i}", sha256="", source="", cache="", is_new=True) for i in range(new)]
    used = [RolloutInput(name=f"o{i}", sha256="", source="", cache="", is_new=False, age=i // 10) for i in range(old)]
    return [*fresh, *used]


def names(chosen):
    return [r.name for r in chosen]


def test_all_new_rollouts_and_a_bounded_share_of_the_old_ones_are_chosen():
    chosen = choose_rollouts(rollouts(10, 1000), history_ratio=0.25, seed=0, cycle=3)
    assert names(chosen)[:10] == [f"n{i}" for i in range(10)]
    assert len(chosen) == 13
    assert len(set(names(chosen))) == 13


def test_the_same_seed_chooses_the_same_and_another_cycle_others():
    given = rollouts(10, 1000)
    assert choose_rollouts(given, history_ratio=1, seed=0, cycle=1) == choose_rollouts(
        given, history_ratio=1, seed=0, cycle=1
    )
    assert choose_rollouts(given, history_ratio=1, seed=0, cycle=1) != choose_rollouts(
        given, history_ratio=1, seed=0, cycle=2
    )


def test_younger_rollouts_are_likelier():
    ages = [
        r.age
        for c in range(200)
        for r in choose_rollouts(rollouts(4, 100), history_ratio=0.5, seed=0, cycle=c)
        if not r.is_new
    ]
    assert 1.5 < np.mean(ages) < 3.6  # 4.5 if all were equally likely


@pytest.mark.parametrize(
    ("new", "old", "ratio", "expected"), [(3, 0, 1.0, 3), (3, 5, 0.0, 3), (3, 1, 5.0, 4), (0, 50, 0.25, 10)]
)
def test_how_many_are_chosen(new, old, ratio, expected):
    assert len(choose_rollouts(rollouts(new, old), history_ratio=ratio, seed=0, cycle=1)) == expected


def test_without_new_rollouts_the_youngest_are_chosen():
    assert {r.age for r in choose_rollouts(rollouts(0, 50), history_ratio=0.25, seed=0, cycle=1)} == {0}


@pytest.mark.parametrize("fraction", [0.01, 0.1, 0.5, 0.89])
@pytest.mark.parametrize("sizes", [[7] * 40, [200, 1, 1, 1], [100], [1, 1], [2], [30, 500, 2, 90, 4]], ids=str)
def test_whole_segments_are_held_out_and_some_are_left(sizes, fraction):
    segment_B = np.repeat(np.arange(len(sizes)), sizes)
    held = held_out(segment_B, fraction, np.random.default_rng(0))
    assert 0 < held.sum() < len(segment_B)
    touched = [held[segment_B == s].mean() for s in range(len(sizes))]
    assert sum(0 < t < 1 for t in touched) <= 1  # only if no whole segment can be held out


def test_about_the_fraction_asked_for_is_held_out():
    segment_B = np.repeat(np.arange(200), 50)
    assert held_out(segment_B, 0.1, np.random.default_rng(1)).mean() == pytest.approx(0.1, abs=0.03)
