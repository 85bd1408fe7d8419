"""The score, with a table of examples; a broken checkpoint cannot be chosen."""

import math

import orjson
import pytest

from trainer.checkpoints.selection import CheckpointCandidate, analysis, choose, rank, score

NAN, INF = math.nan, math.inf

TABLE = {
    "one loss has no trend": ([0.5], 0.4 * 0.5 + 0.3 * 0.5),
    "two: windows of one, falling": ([1.0, 0.5], 0.4 * 0.5 + 0.3 * 0.5 - 0.03),
    "two: rising": ([0.5, 1.0], 0.4 * 1.0 + 0.3 * 0.5 + 0.03),
    "three: windows of one, the middle does not count": ([1.0, 9.0, 1.0], 0.4 * 1.0 + 0.3 * 1.0),
    "exactly 5 % less is not a trend": ([1.0, 0.95], 0.4 * 0.95 + 0.3 * 0.95),
    "just over 5 % is one": ([1.0, 0.949], 0.4 * 0.949 + 0.3 * 0.949 - 0.03),
    "nineteen: windows of nine": ([2.0] * 9 + [50.0] + [1.0] * 9, 0.4 + 0.3 - 0.03),
    "twenty: windows of ten": ([2.0] * 10 + [1.0] * 10, 0.4 + 0.3 - 0.03),
    "fifty: windows of ten, the values between do not count": ([1.0] * 10 + [9.0] * 30 + [1.0] * 10, 0.4 + 0.3),
    "all zero": ([0.0, 0.0], 0.0),
    "below zero, falling": ([-1.0, -2.0], 0.4 * -2.0 + 0.3 * -2.0 - 0.03),
}


@pytest.mark.parametrize(("losses", "expected"), TABLE.values(), ids=TABLE)
def test_score(losses, expected):
    assert score(losses).total == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("losses", [[], [NAN], [INF], [0.1, NAN], [NAN, 0.1], [-INF, 0.1]])
def test_without_finite_losses_there_is_not_a_score(losses):
    assert score(losses) is None


def candidate(epoch, *losses, finite=True, error=0.0):
    return CheckpointCandidate(epoch, f"model_epoch_{epoch}.pt", losses, finite, standard_error=error)


def test_of_equal_scores_the_earliest_is_first():
    assert [r.candidate.epoch for r in rank([candidate(3, 0.5), candidate(1, 0.5), candidate(2, 0.5)])] == [1, 2, 3]


def test_broken_checkpoints_come_last_with_the_reason():
    ranked = rank([candidate(1, 0.0, finite=False), candidate(2, NAN), candidate(3), candidate(4, 9.0)])
    assert [r.candidate.epoch for r in ranked] == [4, 1, 2, 3]
    reasons = [r.reason for r in ranked[1:]]
    assert reasons == [
        "a weight is not finite",
        "a value loss is not finite",
        "its history has no value loss",
    ]
    assert choose(ranked[1:], 0)[0] is None


def test_use_epoch_overrides_the_score_but_not_broken_weights():
    ranked = rank([candidate(1, 0.1), candidate(2, 0.9), candidate(3, 0.2, finite=False)])
    assert choose(ranked, 2)[0].candidate.epoch == 2
    chosen, why = choose(ranked, 3)
    assert (chosen.candidate.epoch, "not finite" in why) == (1, True)
    chosen, why = choose(ranked, 7)
    assert (chosen.candidate.epoch, "does not exist" in why) == (1, True)


def chosen(*candidates, use_epoch=0):
    one, why = choose(rank(candidates), use_epoch)
    return one.candidate.epoch, why


def test_of_scores_within_the_standard_error_of_the_best_the_latest_epoch_is_chosen():
    """The scores are 0.7 times these losses. Only the standard error of the best epoch counts."""
    losses = {1: 1.0, 2: 0.5, 3: 0.55, 4: 0.6, 5: 0.8}
    epochs = [candidate(k, loss, error=0.08 if k == 2 else 9.0) for k, loss in losses.items()]
    why = "the latest epoch whose score is within the standard error of the best, that of epoch 2"
    assert chosen(*epochs) == (4, why)
    assert chosen(*reversed(epochs)) == (4, why)
    assert chosen(*epochs, candidate(6, 0.5, finite=False), candidate(7, NAN)) == (4, why)
    assert [r.candidate.epoch for r in rank(epochs)] == [2, 3, 4, 5, 1]  # the ranking is by score alone
    document = orjson.loads(analysis(rank(epochs), choose(rank(epochs), 0)[0], why))
    assert (document["best_epoch"], document["chosen_epoch"], document["chosen_because"]) == (2, 4, why)


def test_if_the_best_epoch_is_the_latest_of_the_ties_the_reason_is_the_score():
    assert chosen(candidate(1, 0.6, error=0.1), candidate(2, 0.5, error=0.2)) == (2, "the best score")


@pytest.mark.parametrize("error", [0.0, NAN, INF, -1.0])
def test_without_a_standard_error_the_best_score_is_chosen_and_of_equal_ones_the_earliest(error):
    assert chosen(candidate(1, 0.6, error=error), candidate(2, 0.5, error=error), candidate(3, 0.5)) == (
        2,
        "the best score",
    )


def test_a_requested_epoch_overrides_ties():
    epochs = [candidate(1, 0.5, error=1.0), candidate(2, 0.6)]
    assert chosen(*epochs, use_epoch=1) == (1, "auto_load_model_epoch = 1")


def test_the_analysis_is_valid_json_for_losses_that_are_not_finite():
    ranked = rank([candidate(1, 0.3), candidate(2, INF), candidate(3, NAN)])
    document = orjson.loads(analysis(ranked, ranked[0], "the best score"))
    assert document["best_model"] == document["chosen_model"] == "model_epoch_1.pt"
    assert [line["score"] for line in document["ranking"]] == [pytest.approx(0.21), None, None]
    assert document["ranking"][1]["value_losses"] == [None]
