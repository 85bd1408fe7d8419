"""Transitions of any number of steps against a loop over episodes, and targets in normalised units."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.contract import PolicyContract
from tests.trainer.toy import CHOICE, STEER, columns
from trainer.networks.normaliser import Normalisers, ObservationNormaliser, ReturnNormaliser
from trainer.off_policy.replay import Replay, transitions_of
from trainer.rollouts.experiences import by_agent, concatenate

GAMMA = 0.9


@st.composite
def rollouts(draw):
    """Return files of interleaved agents; each observation and each reward occurs once."""
    files = []
    for index in range(draw(st.integers(1, 3))):
        n = draw(st.integers(1, 24))
        agents = np.array(draw(st.lists(st.integers(0, 2), min_size=n, max_size=n)), np.int32)
        flags = [np.array(draw(st.lists(rarely(), min_size=n, max_size=n))) for _ in range(3)]
        finals = np.array(sorted(draw(st.sets(st.integers(0, 2)))), np.int32)
        numbers = np.arange(n, dtype=np.float32)[:, None] + 100.0 * index
        final_numbers = finals[:, None].astype(np.float32) + 1000.0 * (index + 1)
        files.append(
            columns(
                n,
                observations=np.repeat(numbers, 4, axis=1),
                rewards=np.random.default_rng(index).normal(size=n).astype(np.float32),
                agents=agents,
                terminated=flags[0],
                truncated=flags[1],
                after_gap=flags[2],
                final_observations=np.repeat(final_numbers, 4, axis=1),
                final_agents=finals,
            )
        )
    return files


def rarely():
    return st.sampled_from([False] * 5 + [True])


def transitions_in(rollout, steps):
    """Yield (observation, reward, discount, next observation) of an episode's steps, one after the other."""
    finals = dict(zip(rollout.final_agents.tolist(), rollout.final_observations[:, 0].tolist(), strict=True))
    for agent in np.unique(rollout.agents).tolist():
        rows = np.flatnonzero(rollout.agents == agent).tolist()
        following = [after(rollout, rows, place, finals.get(agent)) for place in range(len(rows))]
        for place, row in enumerate(rows):
            if following[place] is not None:
                yield rollout.observations[row, 0], *walk(rollout, rows, following, place, steps)


def after(rollout, rows, place, final):
    """Return "end", an observation, or None if the next state is not known."""
    row, is_last = rows[place], place == len(rows) - 1
    if rollout.terminated[row]:
        return "end"
    if is_last:
        return final
    if rollout.truncated[row] or rollout.after_gap[rows[place + 1]]:
        return None
    return rollout.observations[rows[place + 1], 0]


def walk(rollout, rows, following, place, steps):
    reward, discount = 0.0, 1.0
    for _ in range(steps):
        reward += discount * float(rollout.rewards[rows[place]])
        discount *= GAMMA
        if following[place] == "end":
            return reward, 0.0, None
        place += 1
        if place == len(rows) or following[place] is None:
            break
    return reward, discount, following[place - 1]


@settings(max_examples=60, deadline=None)
@given(rollouts(), st.sampled_from([1, 2, 3, 7, 100]))
def test_transitions_are_those_of_a_loop_over_each_agents_steps(files, steps):
    experiences = concatenate([by_agent(rollout) for rollout in files])
    found = transitions_of(experiences, gamma=GAMMA, steps=steps)
    every = np.concatenate([experiences.observation_BO, experiences.final_observation_FO])[:, 0]
    usable = np.flatnonzero(found.is_usable_B)
    expected = [one for rollout in files for one in transitions_in(rollout, steps)]
    assert experiences.observation_BO[usable, 0].tolist() == [observation for observation, _, _, _ in expected]
    for row, (_, reward, discount, following) in zip(usable, expected, strict=True):
        assert found.reward_B[row] == pytest.approx(reward, abs=1e-12)
        assert found.discount_B[row] == pytest.approx(discount, abs=1e-15)
        if following is not None:
            assert every[found.next_row_B[row]] == following


def replay_of(rollout, normalisers, *, steps=1, held_out=()):
    experiences = by_agent(rollout)
    held_B = np.isin(np.arange(experiences.size), held_out)
    contract = PolicyContract(observation_size=4, action_space=rollout.contract.action_space)
    transitions = transitions_of(experiences, gamma=GAMMA, steps=steps)
    return Replay.of(experiences, [transitions], held_B, normalisers, contract), transitions


@pytest.mark.parametrize("returns", [(0.0, 1.0), (-3.0, 0.5), (1e8, 2e7), (5.0, 1e-4)])
def test_a_target_in_normalised_units_is_the_target_in_reward_units(returns):
    """With v the normalised next value: reward + discount v = (r + gamma^n V - mean) / std, and V = std v + mean."""
    normaliser = ReturnNormaliser(*returns, True)
    rollout = columns(60, terminated=np.arange(60) % 13 == 12)
    rollout = dataclasses.replace(rollout, rewards=rollout.rewards * np.float32(returns[1]) + np.float32(returns[0]))
    replay, transitions = replay_of(rollout, Normalisers(ObservationNormaliser.identity(4), normaliser), steps=3)
    rows = np.flatnonzero(transitions.is_usable_B)
    value_N = np.random.default_rng(1).normal(size=len(rows))
    computed = replay.reward_N.numpy() + replay.discount_N.numpy() * value_N
    in_reward_units = transitions.reward_B[rows] + transitions.discount_B[rows] * normaliser.restored(value_N)
    np.testing.assert_allclose(computed, normaliser.normalised(in_reward_units), rtol=1e-5, atol=1e-5)


def test_a_batch_has_normalised_observations_and_actions_within_their_bounds():
    finals = {"final_observations": np.full((1, 4), 7.0, np.float32), "final_agents": np.zeros(1, np.int32)}
    rollout = columns(30, **finals)
    rollout = dataclasses.replace(rollout, actions=rollout.actions * np.float32(5.0))
    observations = ObservationNormaliser.identity(4).updated(rollout.observations * 3.0 + 2.0)
    replay, _ = replay_of(rollout, Normalisers(observations, ReturnNormaliser()), held_out=[3, 4])
    batch = replay.batch(torch.arange(30))
    normal = (np.concatenate([rollout.observations, finals["final_observations"]]) - observations.mean_O.numpy()) / (
        observations.scale_O.numpy()
    )
    np.testing.assert_allclose(batch.input_BI[:, :4], normal[:30], rtol=1e-5)
    np.testing.assert_allclose(batch.next_input_BI[:, :4], normal[1:], rtol=1e-5)
    np.testing.assert_array_equal(batch.input_BI[:, 4:], np.clip(rollout.actions, STEER.low, STEER.high))
    assert replay.is_held_out_N.nonzero()[:, 0].tolist() == [3, 4]
    batch.next_input_BI.zero_()
    assert replay.batch(torch.arange(30)).next_input_BI.any()  # a batch is a copy


def test_choices_are_whole_numbers_beside_the_observations():
    rollout = columns(20, space=CHOICE)
    replay, _ = replay_of(rollout, Normalisers.identity(4))
    batch = replay.batch(torch.arange(19))
    assert batch.input_BI.shape == (19, 4)
    assert batch.choice_B.tolist() == rollout.actions[:19, 0].astype(int).tolist()


def test_kinds_of_transitions_follow_each_other_and_share_the_held_out_steps():
    experiences = by_agent(columns(40, terminated=np.arange(40) % 9 == 8))
    held_B = np.arange(40) < 9
    contract = PolicyContract(observation_size=4, action_space=STEER)
    kinds = [transitions_of(experiences, gamma=GAMMA, steps=steps) for steps in (1, 3)]
    parts = [Replay.of(experiences, [kind], held_B, Normalisers.identity(4), contract) for kind in kinds]
    both = Replay.of(experiences, kinds, held_B, Normalisers.identity(4), contract)
    for name in ("row_N", "next_row_N", "reward_N", "discount_N", "is_held_out_N"):
        assert torch.equal(getattr(both, name), torch.cat([getattr(part, name) for part in parts]))
    assert not torch.equal(parts[0].reward_N, parts[1].reward_N)
