"""Which rewards carry information about actions."""

import numpy as np
import pytest

from trainer.common.reporting.reporter import MemoryReporter, Notices
from trainer.rollouts.meaning.reward_signal import RewardSignal, is_rounding, report

N = 1000


def signal_of(reward=0.0, *, better=(), worse=(), ends=()):
    reward_B = np.full(N, reward, np.float32)
    reward_B[list(better)] += 1.0
    reward_B[list(worse)] -= 1.0
    terminated_B = np.zeros(N, dtype=bool)
    terminated_B[list(ends)] = True
    return RewardSignal.of(reward_B, terminated_B)


@pytest.mark.parametrize("given", [{}, {"ends": (5, 700)}, {"reward": 1.0}, {"reward": -3.0}, {"reward": 1e8}], ids=str)
def test_a_constant_reward_that_no_end_cuts_short_is_no_signal(given):
    """Nor is 0 with ends: an end then takes nothing away."""
    assert signal_of(**given).is_missing


def test_rounding_errors_are_no_signal():
    reward_B = np.float32(1000.0) + np.float32(6e-5) * (np.arange(N, dtype=np.float32) % 3)
    assert len(np.unique(reward_B)) > 1
    assert RewardSignal.of(reward_B, np.zeros(N, dtype=bool)).is_missing


@pytest.mark.parametrize(
    "given",
    [{"reward": 1.0, "ends": (5,)}, {"reward": -1.0, "ends": (5,)}, {"better": (9,)}, {"worse": (9,)}],
    ids=["episodes should last", "episodes should end", "one step is better", "one step is worse"],
)
def test_everything_else_is_a_signal(given):
    assert not signal_of(**given).is_missing


@pytest.mark.parametrize(
    ("given", "is_sparse"),
    [
        ({"better": range(9)}, True),
        ({"better": range(11)}, False),
        ({"reward": -1.0, "ends": (5,)}, True),  # a goal that ends the episode
        ({"reward": 1.0, "ends": (5,)}, False),  # episodes that end too soon: rare if the policy is good
        ({"worse": (5,)}, False),
        ({"better": (3,), "worse": range(100, 300)}, False),
    ],
    ids=str,
)
def test_rewards_are_sparse_if_something_better_than_usual_is_rare(given, is_sparse):
    assert signal_of(**given).is_sparse == is_sparse


def test_advantages_are_rounding_errors_beside_large_values():
    rng = np.random.default_rng(0)
    value_B, reward_B = np.full(N, 5e6), np.full(N, 5e4, np.float32)
    assert is_rounding(rng.normal(0.0, 1.0, N), value_B, reward_B)
    assert not is_rounding(rng.normal(0.0, 100.0, N), value_B, reward_B)


@pytest.mark.parametrize(
    ("given", "keeps_policy", "message"),
    [
        ({}, True, "W_CONSTANT_REWARD every reward is 0, so no action is better than another: this cycle leaves"),
        ({"better": (1,)}, True, "W_CONSTANT_REWARD all advantages are rounding errors"),
        (
            {"reward": -1.0, "ends": (1,)},
            False,
            "W_CONSTANT_REWARD every reward is -1: the policy can only learn to make",
        ),
        ({"better": (1, 2)}, False, "W_SPARSE_REWARD only 2 of 1,000 steps earned more than 0: what helps is a reward"),
        ({"better": range(500)}, False, ""),
    ],
)
def test_what_users_read(given, keeps_policy, message):
    reporter = MemoryReporter()
    report(signal_of(**given), steps=N, keeps_policy=keeps_policy, notices=Notices(reporter))
    said = [f"{event.code} {event.message}" for event in reporter.events]
    assert len(said) == bool(message)
    assert all(one.startswith(message) for one in said)
