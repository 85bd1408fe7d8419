"""PPO's value critic: it values what the policy cannot see, continues from cycle to cycle, and engines never get it."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import numpy as np
import orjson
import pytest
import torch

from schemas.contract import PolicyContract
from schemas.job import Job
from schemas.settings.models import TrainerSettings
from tests.trainer.toy import CHOICE, HIDDEN, STEER, HiddenBandit, columns, loop_for
from trainer.checkpoints.checkpoint import document_bytes, load_document
from trainer.common.reporting.reporter import MemoryReporter, Notices
from trainer.networks.critic_inputs import critic_width_of
from trainer.networks.normaliser import Normalisers, ObservationNormaliser, ReturnNormaliser
from trainer.off_policy.algorithm import algorithm_for
from trainer.rollouts.evaluation import PolicyOutputs
from trainer.rollouts.experiences import by_agent
from trainer.rollouts.training_set import ValueTargets
from trainer.worker.value_critic import ValueCritic

FAST = {"epochs": 2, "critic_sizes": (32, 32)}


def notice(loop, code):
    return next(e.message for e in loop.reporter.events if getattr(e, "code", "") == code)


def checkpoint_of(loop):
    return load_document((loop.output / loop.result.checkpoint).read_bytes())


def trained(folder, env, cycles=1, **settings):
    loop = loop_for(env, folder, **(FAST | settings))
    model = loop.start()
    for _ in range(cycles):
        model = loop.train(env.play(model, 64))
    return loop, model


def test_values_and_the_policy_learn_more_with_it(tmp_path):
    skills, losses = {}, {}
    for writes in (True, False):
        env = HiddenBandit(writes=writes)
        loop, model = trained(tmp_path / str(writes), env, cycles=5, epochs=8)
        losses[writes], skills[writes] = loop.result.losses, env.skill(model)
    assert losses[True]["value_loss"] < 0.6 * losses[True]["plain_value_loss"]
    assert losses[True]["value_loss"] < 0.6 * losses[False]["value_loss"]
    assert "plain_value_loss" not in losses[False]
    assert skills[True] > skills[False]


def test_the_model_of_an_engine_does_not_change(tmp_path):
    models = {}
    for writes in (True, False):
        loop, _ = trained(tmp_path / str(writes), HiddenBandit(writes=writes))
        models[writes] = orjson.loads((loop.output / loop.result.model).read_bytes())
    assert models[True].keys() == models[False].keys()
    for key in ("network_config", "contract", "action_space"):
        assert models[True][key] == models[False][key]
    for stack in ("policy_layers", "value_layers"):
        sizes = [[len(layer["weights"]) for layer in models[writes][stack]] for writes in (True, False)]
        assert sizes[0] == sizes[1]
    assert "critics" not in models[True]


def test_it_continues_with_its_optimizer_and_its_statistics(tmp_path):
    env = HiddenBandit()
    loop, model = trained(tmp_path, env)
    first = checkpoint_of(loop)["critics"]
    loop.train(env.play(model, 64))
    second = checkpoint_of(loop)["critics"]
    assert loop.reporter.codes() == []
    assert second["value_adam"]["step"] > first["value_adam"]["step"] > 0
    assert [d["critic_observations"]["count"] for d in (first, second)] == [64 * 8, 2 * 64 * 8]
    assert second["value"]["sizes"] == [4 + 2, 32, 32, 1]


def test_without_the_column_nothing_is_stored(tmp_path):
    loop, _ = trained(tmp_path, HiddenBandit(writes=False))
    assert checkpoint_of(loop)["critics"] == {}


@pytest.mark.parametrize("part", ["value", "value_adam", "critic_observations"])
def test_a_damaged_one_is_replaced(tmp_path, part):
    env = HiddenBandit()
    loop, model = trained(tmp_path, env)
    document = checkpoint_of(loop)
    document["critics"][part] = {"exp_avg": torch.zeros(3), "mean": 1.0}
    (loop.output / loop.result.checkpoint).write_bytes(document_bytes(document))
    loop.train(env.play(model, 64))
    assert loop.reporter.codes() == ["W_OPTIMIZER"]
    assert "value critic" in notice(loop, "W_OPTIMIZER")


def test_another_number_of_critic_observations_needs_a_new_one(tmp_path):
    env = HiddenBandit()
    loop, model = trained(tmp_path, env)
    rollout = env.play(model, 64)
    more = np.append(rollout.critic_observations, rollout.rewards[:, None], axis=1)
    loop.train(dataclasses.replace(rollout, critic_observations=more))
    assert loop.reporter.codes() == ["W_OPTIMIZER"]
    assert "which have 2 critic observations instead of 1: a new one" in notice(loop, "W_OPTIMIZER")


def test_it_continues_without_the_column(tmp_path):
    env = HiddenBandit()
    loop, model = trained(tmp_path, env)
    env.writes = False
    loop.train(env.play(model, 64))
    assert loop.reporter.codes() == ["W_CRITIC_OBSERVATIONS"]
    assert critic_width_of(checkpoint_of(loop)["critics"]) == 1


@pytest.mark.parametrize(("first", "second"), [("ppo", "td3"), ("td3", "ppo")])
def test_the_other_algorithm_trains_its_own_critics(tmp_path, first, second):
    env = HiddenBandit()
    loop, model = trained(tmp_path, env, algorithm=first)
    loop.settings = loop.settings.model_copy(update={"algorithm": second})
    loop.train(env.play(model, 64))
    assert "W_OPTIMIZER" not in [code for code in loop.reporter.codes() if "critic" in notice(loop, code)]
    assert ("value" in checkpoint_of(loop)["critics"]) == (second == "ppo")


def test_it_does_not_make_auto_take_td3():
    job = SimpleNamespace(settings=TrainerSettings(algorithm="auto"), contract=SimpleNamespace(action_space=CHOICE))
    assert algorithm_for(job, SimpleNamespace(critics_state={"value": {}})).name == "ppo"
    assert algorithm_for(job, SimpleNamespace(critics_state={"critics": {}})).name == "td3"


def test_new_statistics_do_not_change_its_values(tmp_path):
    """Values in reward units are those that the stored critic computed with the parent's normalisers."""
    rng = np.random.default_rng(0)
    finals = {"final_observations": np.ones((1, 4), np.float32), "final_agents": np.zeros(1, np.int32)}
    rollout = columns(40, critic_observations=rng.normal(9.0, 3.0, (40, 2)).astype(np.float32), **finals)
    experiences = by_agent(rollout)
    outputs = PolicyOutputs(*(torch.zeros(40, 2), torch.zeros(40), torch.zeros(40), torch.zeros(40), torch.zeros(1)))
    job = Job(
        kind="train",
        policy_version=2,
        output=str(tmp_path),
        contract=PolicyContract(observation_size=4, action_space=STEER),
        hidden_sizes=HIDDEN,
        settings=TrainerSettings(critic_sizes=(16,), learning_rate=0.01),
    )
    statistics = ObservationNormaliser.identity(4).updated(rollout.observations)
    before = Normalisers(statistics, ReturnNormaliser(2.0, 3.0, True))
    notices = Notices(MemoryReporter())
    new = ValueCritic(SimpleNamespace(critics_state={}, normalisers=Normalisers.identity(4)), 2, job, notices)
    assert new.applied_to(outputs, experiences, before) is outputs
    is_train = np.arange(40) < 30
    targets = ValueTargets.of(torch.from_numpy(rng.normal(size=40)).float(), is_train, ~is_train)
    new.start(SimpleNamespace(normalisers=before, value_targets=targets))
    for epoch in range(30):
        new.epoch(epoch)
    parent = SimpleNamespace(critics_state=new.document(), normalisers=before)
    same = ValueCritic(parent, 2, job, notices).applied_to(outputs, experiences.at(np.ones(40, bool)), before)
    moved = Normalisers(statistics.updated(rollout.observations * 5 + 3), ReturnNormaliser(-1.0, 7.0, True))
    critic = ValueCritic(parent, 2, job, notices)
    other = critic.applied_to(outputs, experiences, moved)
    torch.testing.assert_close(other.value_B, same.value_B, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(other.final_value_F, same.final_value_F, rtol=1e-3, atol=1e-3)
    assert float(same.value_B.std()) > 0.05
    critic.start(SimpleNamespace(normalisers=moved, value_targets=targets))
    parent = SimpleNamespace(critics_state=critic.document(), normalisers=moved)
    later = ValueCritic(parent, 2, job, notices).applied_to(outputs, experiences, moved)
    torch.testing.assert_close(later.value_B * 7.0 - 1.0, same.value_B * 3.0 + 2.0, rtol=1e-3, atol=1e-3)
