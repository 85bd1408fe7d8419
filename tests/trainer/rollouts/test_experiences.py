"""From interleaved files to agent-major columns: what follows each step, and which steps can be learned from."""

import dataclasses

import numpy as np

from tests.trainer.toy import columns
from trainer.rollouts.experiences import by_agent, choose_critic_width, concatenate, next_values

NO = np.zeros(6, dtype=bool)


def at(*rows, n=6):
    mask = np.zeros(n, dtype=bool)
    mask[list(rows)] = True
    return mask


def test_agents_are_separated_and_keep_their_order_in_time():
    rollout = columns(6, agents=np.array([1, 0, 1, 0, 1, 0], np.int32), rewards=np.arange(6, dtype=np.float32))
    e = by_agent(rollout)
    assert e.reward_B.tolist() == [1, 3, 5, 0, 2, 4]
    assert e.has_next_row_B.tolist() == [True, True, False, True, True, False]
    assert e.can_bootstrap_B.tolist() == [True, True, False, True, True, False]
    assert e.trace_continues_B.tolist() == [True, False, False, True, False, False]
    assert e.segment_B.tolist() == [0, 0, 0, 1, 1, 1]


def test_an_end_needs_no_next_state():
    e = by_agent(columns(6, terminated=at(2, 5)))
    assert e.can_bootstrap_B.all()
    assert e.has_next_row_B.tolist() == [True, True, False, True, True, False]
    assert e.trace_continues_B.tolist() == [True, True, False, True, True, False]
    values = np.arange(1.0, 7.0)
    assert next_values(e, values, np.zeros(0)).tolist() == [2, 3, 0, 5, 6, 0]


def test_a_truncated_step_is_only_a_bootstrap():
    """The row after it starts an episode and is not its next state; the row before it bootstraps from it."""
    e = by_agent(columns(6, truncated=at(2)))
    assert e.can_bootstrap_B.tolist() == [True, True, False, True, True, False]
    assert e.trace_continues_B.tolist() == [True, False, False, True, False, False]
    assert next_values(e, np.arange(1.0, 7.0), np.zeros(0))[:2].tolist() == [2, 3]


def test_with_a_final_observation_the_last_step_can_bootstrap():
    finals = np.full((1, 4), 9.0, np.float32)
    e = by_agent(columns(6, final_observations=finals, final_agents=np.zeros(1, np.int32), truncated=at(5)))
    assert e.can_bootstrap_B.all()
    assert e.final_B.tolist() == [-1, -1, -1, -1, -1, 0]
    assert next_values(e, np.arange(1.0, 7.0), np.array([42.0]))[-1] == 42.0
    assert not e.trace_continues_B[-1]


def test_after_an_end_the_final_observation_is_ignored():
    finals = np.full((1, 4), 9.0, np.float32)
    e = by_agent(columns(6, final_observations=finals, final_agents=np.zeros(1, np.int32), terminated=at(5)))
    assert e.final_B[-1] == -1
    assert next_values(e, np.arange(1.0, 7.0), np.array([42.0]))[-1] == 0.0


def test_the_row_after_a_gap_is_not_the_next_state():
    e = by_agent(columns(6, after_gap=at(3)))
    assert e.has_next_row_B.tolist() == [True, True, False, True, True, False]
    assert e.can_bootstrap_B.tolist() == [True, True, False, True, True, False]


def test_concatenating_keeps_rollouts_separate():
    finals = {"final_observations": np.ones((1, 4), np.float32), "final_agents": np.zeros(1, np.int32)}
    one, two = by_agent(columns(3, **finals)), by_agent(columns(3, seed=1, **finals), is_new=False)
    e = concatenate([one, two])
    assert e.segment_B.tolist() == [0, 0, 0, 1, 1, 1]
    assert e.final_B.tolist() == [-1, -1, 0, -1, -1, 1]
    assert e.is_new_B.tolist() == [True] * 3 + [False] * 3
    assert not e.has_next_row_B[2]


def test_the_order_of_the_agents_in_the_file_does_not_matter():
    agents = np.arange(60, dtype=np.int32) % 3
    mixed = columns(60, agents=agents, terminated=np.random.default_rng(3).random(60) < 0.1)
    order = np.argsort(agents, kind="stable")
    rows = {f.name: getattr(mixed, f.name) for f in dataclasses.fields(mixed)}
    sorted_ = dataclasses.replace(
        mixed,
        **{k: v[order] for k, v in rows.items() if isinstance(v, np.ndarray) and len(v) == 60},
    )
    one, two = by_agent(mixed), by_agent(sorted_)
    for field in dataclasses.fields(one):
        np.testing.assert_array_equal(getattr(one, field.name), getattr(two, field.name))


def with_critics(width, n=6, seed=0, **replaced):
    critic = np.arange(n * width, dtype=np.float32).reshape(n, width)
    return columns(n, seed=seed, critic_observations=critic, **replaced)


def test_critic_observations_follow_their_steps():
    agents = np.array([1, 0, 1, 0, 1, 0], np.int32)
    finals = {"final_observations": np.ones((2, 4), np.float32), "final_agents": np.array([0, 1], np.int32)}
    final_critic = np.array([[7.0, 8.0], [np.nan, np.nan]], np.float32)
    e = by_agent(with_critics(2, agents=agents, final_critic_observations=final_critic, **finals))
    assert e.critic_observation_BP[:, 0].tolist() == [2, 6, 10, 0, 4, 8]
    np.testing.assert_array_equal(e.final_critic_observation_FP, final_critic)
    kept = e.at(at(1, 3))
    assert kept.critic_observation_BP[:, 0].tolist() == [6, 0]
    assert kept.final_critic_observation_FP.shape == (2, 2)


def test_final_critic_observations_that_were_not_written_are_not_known():
    finals = {"final_observations": np.ones((1, 4), np.float32), "final_agents": np.zeros(1, np.int32)}
    e = by_agent(with_critics(2, **finals))
    assert e.can_bootstrap_B.all()
    assert np.isnan(e.final_critic_observation_FP).all()
    assert by_agent(columns(6, **finals)).final_critic_observation_FP.shape == (1, 0)


def test_rollouts_with_other_critic_observations_are_used_without():
    parts = [by_agent(with_critics(2)), by_agent(columns(3)), by_agent(with_critics(3, n=4))]
    e = concatenate(parts)
    assert e.critic_observation_BP.shape == (13, 2)
    assert np.isnan(e.critic_observation_BP).any(axis=1).tolist() == [False] * 6 + [True] * 7
    assert concatenate(parts, critic_width=0).critic_observation_BP.shape == (13, 0)
    assert concatenate([by_agent(columns(3))]).critic_width == 0
    forgotten = e.without_critic_observations()
    assert forgotten.critic_observation_BP.shape == (13, 2)
    assert np.isnan(forgotten.critic_observation_BP).all()


def test_critics_keep_their_number_of_observations_as_long_as_a_new_rollout_has_it():
    def choose(*new, old=(), parent=0):
        parts = [by_agent(with_critics(w, n=n)) if w else by_agent(columns(n)) for w, n in new]
        parts += [by_agent(with_critics(w, n=n), is_new=False) for w, n in old]
        return choose_critic_width(parts, parent=parent)

    assert choose((0, 6)) == 0
    assert choose((0, 6), (2, 3)) == 2  # one rollout without them does not count
    assert choose((2, 3), (3, 6)) == 3  # most experiences
    assert choose((2, 3), (3, 6), parent=2) == 2  # one new rollout has it
    assert choose((3, 6), old=[(2, 9)], parent=2) == 3  # no new rollout has it
    assert choose((0, 6), old=[(3, 9)], parent=2) == 2  # the new ones have none
    assert choose((0, 6), old=[(3, 9)]) == 0
