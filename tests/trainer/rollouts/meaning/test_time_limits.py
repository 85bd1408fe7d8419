"""Time limits that version 1 rollouts show by the lengths of their episodes."""

import dataclasses

import numpy as np
import pytest

from schemas.job import RolloutInput
from tests.trainer.toy import Bandit, columns, loop_for
from trainer.rollouts.experiences import by_agent, concatenate
from trainer.rollouts.loading import LoadedRollout
from trainer.rollouts.meaning.time_limits import continue_episodes, find_time_limit

AGENTS, TICKS = 4, 160


def done_ticks(lengths, *, first=0):
    """Return [TICKS * 3] flags: episodes of these lengths after each other; the first one began `first` steps ago."""
    ends = np.cumsum(lengths) - first - 1
    done = np.zeros(3 * TICKS, dtype=bool)
    done[ends[ends < len(done)]] = True
    return done


def files_of(flags, *, v2=False, reward=None, gap_before=None):
    """Return three rollouts of four agents with these ends, [agents][3 * TICKS], in a wrong order."""
    loaded = []
    for number in (10, 9, 11):
        ticks = slice((number - 9) * TICKS, (number - 8) * TICKS)
        n = AGENTS * TICKS
        terminated = np.stack([flag[ticks] for flag in flags], axis=1).reshape(-1)
        rewards = np.random.default_rng(number).normal(size=n).astype(np.float32)
        if reward is not None:
            rewards[terminated] = reward
        after_gap = np.zeros(n, dtype=bool)
        if gap_before == number:
            after_gap[:AGENTS] = True
        rollout = columns(
            n,
            terminated=terminated,
            rewards=rewards,
            agents=np.tile(np.arange(AGENTS, dtype=np.int32), TICKS),
            after_gap=after_gap,
            states_bounds=v2,
        )
        entry = RolloutInput(name=f"rollout_{number}_x.json", sha256="", source="", cache="", is_new=True)
        loaded.append(LoadedRollout(entry, rollout))
    return loaded, concatenate([by_agent(item.rollout) for item in loaded])


def limited(limit, *, crashes=0, seed=0):
    """Return the ends of four agents under a time limit; each crashes at a random step in some of its episodes."""
    rng = np.random.default_rng(seed)
    flags = []
    for agent in range(AGENTS):
        lengths = [int(rng.integers(5, limit // 2)) if i % 3 < crashes else limit for i in range(60)]
        flags.append(done_ticks(lengths, first=3 * agent))
    return flags


def test_a_limit_is_found_across_files_and_only_its_ends_count():
    """No file contains three whole episodes of an agent, the files are in a wrong order, and a third are crashes."""
    flags = limited(70, crashes=1)
    loaded, experiences = files_of(flags)
    limit = find_time_limit(loaded, experiences)
    assert limit is not None
    assert limit.steps == 70
    after = continue_episodes(experiences, limit.ended_B)
    assert limit.count == (experiences.terminated_B & ~after.terminated_B).sum() >= 8
    assert after.terminated_B.any()  # the crashes
    rows = np.flatnonzero(limit.ended_B)
    assert not after.can_bootstrap_B[rows].any()
    assert not after.trace_continues_B[rows - 1].any()
    before = rows[experiences.has_next_row_B[rows - 1]] - 1
    assert after.can_bootstrap_B[before].all()  # the last state is the bootstrap of the step before


def test_if_all_episodes_have_the_same_length_even_those_with_an_unknown_start_count():
    loaded, experiences = files_of(limited(100))
    limit = find_time_limit(loaded, experiences)
    assert limit is not None
    assert limit.count == experiences.terminated_B.sum()


def test_episodes_that_seem_longer_because_the_engine_started_again_hide_the_limit_in_that_cycle():
    flags = [np.concatenate([flag[:TICKS], done_ticks([80] * 9)[: 2 * TICKS]]) for flag in limited(80)]
    assert find_time_limit(*files_of(flags)) is None


def test_with_a_constant_reward_episodes_of_another_length_are_all_there_is_to_learn_from():
    """As in a game in which nearly all agents crash into the same first obstacle, and one gets past it."""
    flags = limited(70)
    loaded, experiences = files_of(flags)
    constant = dataclasses.replace(experiences, reward_B=np.ones_like(experiences.reward_B))
    assert find_time_limit(loaded, constant) is not None
    loaded, experiences = files_of(limited(70, crashes=1))
    constant = dataclasses.replace(experiences, reward_B=np.ones_like(experiences.reward_B))
    assert find_time_limit(loaded, constant) is None


@pytest.mark.parametrize(
    ("flags", "given"),
    [
        (limited(70), {"v2": True}),
        (limited(70), {"reward": 50.0}),
        (limited(8), {}),
        ([done_ticks(np.random.default_rng(a).integers(20, 90, 60)) for a in range(AGENTS)], {}),
        ([done_ticks(np.random.default_rng(a).integers(36, 40, 60)) for a in range(AGENTS)], {}),
        ([np.zeros(3 * TICKS, dtype=bool)] * AGENTS, {}),
    ],
    ids=["version 2 says it", "the end earns a reward", "short episodes", "crashes", "alike crashes", "no end"],
)
def test_other_ends_are_not_taken_for_a_limit(flags, given):
    assert find_time_limit(*files_of(flags, **given)) is None


def test_a_gap_makes_the_start_unknown_but_not_the_limit():
    loaded, experiences = files_of(limited(70), gap_before=10)
    limit = find_time_limit(loaded, experiences)
    assert limit is not None
    assert limit.steps == 70


def test_a_cycle_reports_the_limit_and_constant_rewards_are_then_no_signal(tmp_path):
    """Otherwise the ends would count as if they ended the rewards."""
    loop = loop_for(Bandit(), tmp_path)
    model = loop.start()
    rollout = Bandit().play(model, 3 * 40)
    done = np.arange(1, 121) % 40 == 0
    known = {"terminated": np.repeat(done, 8), "rewards": np.ones(rollout.size, np.float32), "states_bounds": False}
    after = loop.train(dataclasses.replace(rollout, **known))
    notices = {event.code: event.message for event in loop.reporter.events if hasattr(event, "code")}
    assert "24 episodes ended after exactly 40 steps" in notices["W_TIME_LIMIT"]
    assert "leaves the policy as it is" in notices["W_CONSTANT_REWARD"]
    np.testing.assert_array_equal(after.policy.head.weights, model.policy.head.weights)
