"""Critics that see more than the policy: what they learn from, what is stored, and what engines never get."""

from __future__ import annotations

import dataclasses

import numpy as np
import orjson
import pytest
import torch

from tests.trainer.toy import CHOICE, STEER, HiddenBandit, columns, loop_for
from trainer.checkpoints.checkpoint import document_bytes, load_document
from trainer.networks.critic_inputs import CriticInputs, critic_width_of
from trainer.networks.normaliser import Normalisers
from trainer.off_policy.critics import CriticPass
from trainer.off_policy.replay import Replay, transitions_of
from trainer.off_policy.state import CriticsState
from trainer.rollouts.experiences import by_agent, concatenate

FAST = {"algorithm": "td3", "epochs": 2, "critic_sizes": (32, 32), "updates_per_experience": 0.25}


def notice(loop, code):
    return next(e.message for e in loop.reporter.events if getattr(e, "code", "") == code)


def checkpoint_of(loop):
    return load_document((loop.output / loop.result.checkpoint).read_bytes())


def trained(folder, env, cycles=2, steps=64, **settings):
    """Return the loop and the last model after some cycles."""
    loop = loop_for(env, folder, **(FAST | settings))
    model = loop.start()
    for _ in range(cycles):
        model = loop.train(env.play(model, steps))
    return loop, model


@pytest.mark.parametrize("space", [STEER, CHOICE], ids=["continuous", "choices"])
def test_critics_predict_what_the_policy_cannot_see(tmp_path, space):
    losses = {}
    for writes in (True, False):
        env = HiddenBandit(space=space, writes=writes)
        losses[writes] = trained(tmp_path / str(writes), env, updates_per_experience=0.5)[0].result.losses["value_loss"]
    assert losses[True] < 0.3 * losses[False]


def test_the_model_of_an_engine_does_not_change(tmp_path):
    models = {}
    for writes in (True, False):
        loop, _ = trained(tmp_path / str(writes), HiddenBandit(writes=writes), cycles=1)
        models[writes] = orjson.loads((loop.output / loop.result.model).read_bytes())
    assert models[True].keys() == models[False].keys()
    assert models[True]["network_config"] == models[False]["network_config"]
    assert models[True]["contract"] == models[False]["contract"]
    assert b"critic" not in (tmp_path / "True" / "cycle_000001" / loop.result.model).read_bytes()
    assert len(models[True]["policy_layers"][0]["weights"]) == 4 * 16
    assert len(models[True]["value_layers"][0]["weights"]) == 4 * 16


def test_critics_and_the_statistics_of_their_observations_continue(tmp_path):
    env = HiddenBandit()
    loop, model = trained(tmp_path, env, cycles=1)
    first = checkpoint_of(loop)["critics"]
    loop.train(env.play(model, 64))
    second = checkpoint_of(loop)["critics"]
    assert loop.reporter.codes() == []
    assert (critic_width_of(first), critic_width_of(second)) == (1, 1)
    counts = [document["critic_observations"]["count"] for document in (first, second)]
    assert counts == [64 * 8, 2 * 64 * 8]
    assert float(second["critic_observations"]["mean"][0]) == pytest.approx(5.0, abs=10.0)
    assert second["critics"]["sizes"] == [4 + 2 + 2, 32, 32, 1]


def test_without_the_column_the_checkpoint_has_none(tmp_path):
    loop, _ = trained(tmp_path, HiddenBandit(writes=False), cycles=1)
    document = checkpoint_of(loop)["critics"]
    assert critic_width_of(document) == 0
    assert document["critics"]["sizes"] == [4 + 2, 32, 32, 1]


def test_critics_of_a_checkpoint_from_before_critic_observations_continue(tmp_path):
    env = HiddenBandit(writes=False)
    loop, model = trained(tmp_path, env, cycles=1)
    document = checkpoint_of(loop)
    del document["critics"]["critic_observations"]
    (loop.output / loop.result.checkpoint).write_bytes(document_bytes(document))
    loop.train(env.play(model, 64))
    assert loop.reporter.codes() == []


@pytest.mark.parametrize(
    "damage",
    [{"mean": torch.zeros(2)}, {"mean": None}, {"count": "many"}, {"var": torch.zeros(1, 1)}],
    ids=lambda damage: next(iter(damage)),
)
def test_damaged_statistics_cost_the_critics_only(tmp_path, damage):
    env = HiddenBandit()
    loop, model = trained(tmp_path, env, cycles=1)
    document = checkpoint_of(loop)
    document["critics"]["critic_observations"] |= damage
    (loop.output / loop.result.checkpoint).write_bytes(document_bytes(document))
    loop.train(env.play(model, 64))
    assert loop.reporter.codes() == ["W_OPTIMIZER"]


def test_the_first_rollouts_with_the_column_get_new_critics(tmp_path):
    env = HiddenBandit(writes=False)
    loop, model = trained(tmp_path, env, cycles=1)
    old = loop.given(env.play(model, 64), is_new=False, age=1)
    env.writes = True
    loop.train(old, env.play(model, 64))
    assert loop.reporter.codes() == ["W_OPTIMIZER"]
    assert "which have 1 critic observations instead of 0: new critics" in notice(loop, "W_OPTIMIZER")
    assert critic_width_of(checkpoint_of(loop)["critics"]) == 1


def test_critics_continue_if_the_engine_stops_writing_the_column(tmp_path):
    env = HiddenBandit()
    loop, model = trained(tmp_path, env, cycles=1)
    env.writes = False
    loop.train(env.play(model, 64), env.play(model, 64))
    assert loop.reporter.codes() == ["W_CRITIC_OBSERVATIONS"]
    assert "use 1 critic observations, but of 2 new rollouts 2 have none" in notice(loop, "W_CRITIC_OBSERVATIONS")
    assert critic_width_of(checkpoint_of(loop)["critics"]) == 1


def wider(rollout):
    """Return a rollout of another build of the game, with one more critic observation."""
    more = np.append(rollout.critic_observations, rollout.rewards[:, None], axis=1)
    return dataclasses.replace(rollout, critic_observations=more)


def test_a_client_of_another_build_does_not_end_the_critics(tmp_path):
    env = HiddenBandit()
    loop, model = trained(tmp_path, env, cycles=1)
    model = loop.train(env.play(model, 64), wider(env.play(model, 64)), wider(env.play(model, 64)))
    assert loop.reporter.codes() == ["W_CRITIC_OBSERVATIONS"]
    assert "of 3 new rollouts 2 have 2" in notice(loop, "W_CRITIC_OBSERVATIONS")
    loop.train(wider(env.play(model, 64)))
    assert loop.reporter.codes() == ["W_OPTIMIZER"]
    assert "2 critic observations instead of 1" in notice(loop, "W_OPTIMIZER")


def test_constant_critic_observations_are_reported(tmp_path):
    env = HiddenBandit()
    loop, model = trained(tmp_path, env, cycles=1)
    rollout = env.play(model, 64)
    more = np.append(rollout.critic_observations, np.zeros((rollout.size, 2), np.float32), axis=1)
    more[::9, 2] = 1e7
    loop.train(dataclasses.replace(rollout, critic_observations=more))
    assert "1 of 3 critic observations never change (index 1" in notice(loop, "W_DEAD_OBSERVATION")
    assert "critic observation 2 reaches 1e+07" in notice(loop, "W_OBSERVATION_RANGE")
    assert "agent.observation_limit" not in notice(loop, "W_OBSERVATION_RANGE")


def test_new_statistics_change_no_value_of_rows_with_and_without_critic_observations():
    rng = np.random.default_rng(0)
    state = CriticsState.initial((4 + 3 + 1, 16, 1), seed=0, critic_width=2)
    state = state.with_critic_observations(rng.normal(3.0, 2.0, size=(100, 2)).astype(np.float32), 4)
    state.critics.vector.add_(torch.randn(state.critics.vector.shape, generator=torch.Generator().manual_seed(1)))
    state = dataclasses.replace(state, is_new=False)
    critic_BP = rng.normal(3.0, 2.0, size=(20, 2)).astype(np.float32)
    critic_BP[::2] = np.nan
    plain = torch.randn(20, 5, generator=torch.Generator().manual_seed(2))

    def values(state):
        inputs = torch.cat([plain[:, :4], state.inputs(critic_BP), plain[:, 4:]], dim=1)
        return CriticPass(state.critics).forward(inputs).clone()

    before = values(state)
    after = state.with_critic_observations(rng.normal(-10.0, 9.0, size=(500, 2)).astype(np.float32), 4)
    assert not torch.allclose(state.inputs(critic_BP), after.inputs(critic_BP))
    torch.testing.assert_close(values(after), before, rtol=1e-4, atol=1e-4)


def test_a_row_without_them_is_average_and_marked():
    known = np.array([[1.0, 10.0], [3.0, 30.0]], np.float32)
    inputs = CriticInputs.identity(2).updated(np.append(known, [[np.nan, np.nan]], axis=0).astype(np.float32))
    assert inputs.normaliser.mean_O.tolist() == [2.0, 20.0]
    rows = inputs(np.array([[1.0, 10.0], [np.nan, np.nan]], np.float32))
    assert rows.tolist() == [[-1.0, -1.0, 1.0], [0.0, 0.0, 0.0]]


def test_replay_data_have_them_between_observations_and_actions():
    critic = np.arange(6, dtype=np.float32)[:, None]
    finals = {"final_observations": np.full((1, 4), 9.0, np.float32), "final_agents": np.zeros(1, np.int32)}
    rollout = columns(
        6, critic_observations=critic, final_critic_observations=np.full((1, 1), 7.0, np.float32), **finals
    )
    other = columns(3, seed=1, **finals)
    experiences = concatenate([by_agent(rollout), by_agent(other)])
    transitions = transitions_of(experiences, gamma=0.9, steps=1)
    inputs = CriticInputs.identity(1)
    held_B = np.zeros(9, bool)
    replay = Replay.of(experiences, [transitions], held_B, Normalisers.identity(4), rollout.contract, inputs)
    expected = [[k, 1.0] for k in range(6)] + [[0.0, 0.0]] * 3 + [[7.0, 1.0], [0.0, 0.0]]
    assert replay.packed_PI[:, 4:6].tolist() == expected
    np.testing.assert_array_equal(replay.packed_PI[:9, :4].numpy(), experiences.observation_BO)
    batch = replay.batch(torch.tensor([5]))
    assert batch.next_input_BI[0, 4:6].tolist() == [7.0, 1.0]


def test_units_of_critic_observations_do_not_matter(tmp_path):
    losses = []
    for scale, shift in ((1.0, 0.0), (1e4, -1e5)):
        env = HiddenBandit()
        loop = loop_for(env, tmp_path / str(scale), **FAST)
        model = loop.start()
        rollout = env.play(model, 64)
        critic = rollout.critic_observations * np.float32(scale) + np.float32(shift)
        loop.train(dataclasses.replace(rollout, critic_observations=critic))
        losses.append(loop.result.losses["value_loss"])
    assert losses[0] == pytest.approx(losses[1], rel=0.02)
