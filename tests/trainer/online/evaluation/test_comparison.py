"""A policy is compared with the reference in episodes from the same seeds, with the stated error rates."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from trainer.online.actor import Actor
from trainer.online.evaluation.best_model import Evaluated, EvaluationStoppedError, judge
from trainer.online.evaluation.comparison import chance_of, compare
from trainer.online.evaluation.episodes import ReturnStatistics


def blocks_of(values, size=16):
    """Return a function of the number of blocks, and the largest number that it was asked for."""
    asked = [0]

    def returns(count):
        asked[0] = max(asked[0], count)
        return np.asarray(values[: size * count], float)

    return returns, asked


def wins(places, total=64):
    values = np.zeros(total)
    values[list(places)] = 1.0
    return values


def test_two_wins_of_sixteen_are_not_worse_than_none_and_none_is_called_worse_only_with_more_episodes():
    none, two = wins([]), wins([3, 9])
    assert compare(blocks_of(two)[0], blocks_of(none)[0], confidence=0.95).result == "tie"
    many = wins(range(0, 64, 6))
    new, asked = blocks_of(none)
    verdict = compare(new, blocks_of(many)[0], confidence=0.95)
    assert (verdict.result, asked[0]) == ("worse", verdict.blocks)
    assert verdict.blocks > 1, "three of 16 can be chance, so more episodes were run"


def test_a_clear_difference_is_decided_by_the_first_block():
    rng = np.random.default_rng(0)
    weak, strong = rng.normal(0, 1, 64), rng.normal(5, 1, 64)
    for new, reference, result in ((strong, weak, "better"), (weak, strong, "worse")):
        asked_new = blocks_of(new)
        verdict = compare(asked_new[0], blocks_of(reference)[0], confidence=0.95)
        assert (verdict.result, asked_new[1][0]) == (result, 1)


@pytest.mark.parametrize("draw", [lambda rng: rng.normal(size=64), lambda rng: (rng.random(64) < 0.2).astype(float)])
def test_equal_policies_are_called_worse_or_better_as_rarely_as_stated(draw):
    rng = np.random.default_rng(1)
    results = [compare(blocks_of(draw(rng))[0], blocks_of(draw(rng))[0], confidence=0.9).result for _ in range(200)]
    # A probability of 0.1 leads to at most 33 of 200 with a probability of 0.998.
    assert results.count("worse") <= 33
    assert results.count("better") <= 33


def test_the_chance_of_a_difference_equals_a_count_of_all_signs():
    rng = np.random.default_rng(2)
    for size in (1, 4, 9):
        difference = np.round(rng.normal(0.5, 1, size), 1)
        sums = [np.dot(signs, np.abs(difference)) for signs in product((-1, 1), repeat=size)]
        expected = np.mean([value >= difference.sum() - 1e-9 for value in sums])
        assert chance_of(difference) == pytest.approx(expected)
    assert chance_of(np.zeros(5)) == 1.0


def evaluated(steps, stage=0):
    return Evaluated(Actor.__new__(Actor), steps, stage)


def test_small_losses_do_not_add_up_over_many_ties():
    """Each policy is a little worse than the one before. The reference stays, so one of them is called worse."""
    rng = np.random.default_rng(3)
    luck = {block: rng.normal(0, 1, 16) for block in range(4)}

    def evaluate_at(policy):
        def evaluate(actor, block):
            returns = luck[block] - 0.1 * level[actor] + np.random.default_rng([policy, block]).normal(0, 0.3, 16)
            return ReturnStatistics(returns=tuple(returns), steps=16, parts={})

        return evaluate

    level, reference, results = {}, None, []
    for policy in range(30):
        new = evaluated(policy)
        new.actor = policy
        level[policy] = policy
        verdict = judge(new, reference, evaluate_at(policy), confidence=0.95, most_episodes=64)
        results.append(verdict.result)
        reference = new if verdict.result == "better" else reference
    assert results[0] == "better"
    assert results[1] == "tie"
    assert set(results[12:]) == {"worse"}


def test_a_new_stage_has_a_new_reference_and_a_stopped_evaluation_has_no_verdict():
    block = ReturnStatistics(returns=(0.0,) * 16, steps=16, parts={})
    old = evaluated(1)
    old.blocks = [ReturnStatistics(returns=(9.0,) * 16, steps=16, parts={})]
    assert judge(evaluated(2, stage=1), old, lambda *_: block, confidence=0.95, most_episodes=64).result == "better"
    with pytest.raises(EvaluationStoppedError):
        judge(evaluated(2), old, lambda *_: None, confidence=0.95, most_episodes=64)
