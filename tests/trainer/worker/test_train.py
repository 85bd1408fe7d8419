"""Whole cycles in one process: what is learned, kept and reported, and the checks of the first minibatch."""

import dataclasses
import time

import numpy as np
import pytest
import torch

from schemas.errors import ContractError, HotlapError, RolloutError
from schemas.job import EpochDone, Selecting
from schemas.model import Dense, check_probe, read_model
from tests.trainer.toy import CHOICE, STEER, Bandit, columns, loop_for
from trainer.checkpoints.checkpoint import checkpoint_from, load_document
from trainer.checkpoints.policy import load_policy
from trainer.networks.distributions import distribution_for
from trainer.ppo.autograd import evaluate
from trainer.rollouts.attribution import attribute_rollouts
from trainer.rollouts.training_set import rescale_and_build


def reward_of(env, model, steps=60):
    return float(env.play(model, steps).rewards.mean())


@pytest.mark.parametrize("space", [STEER, CHOICE], ids=["continuous", "discrete"])
@pytest.mark.parametrize(("scale", "shift"), [(1.0, 0.0), (30.0, 100.0)])
def test_the_policy_learns_a_known_answer(tmp_path, space, scale, shift):
    """Continuous: at std 0.5 the best reward is about 0.55. Choices: a random policy gets 1/3, the best one 1."""
    env = Bandit(space=space, scale=scale, shift=shift, agents=16)
    loop = loop_for(env, tmp_path, gamma=0.5, entropy_coef=0.0, learning_rate=2e-3)
    model = loop.start()
    before = reward_of(env, model)
    for _ in range(7):
        model = loop.train(env.play(model, 64))
    after = reward_of(env, model)
    assert before < 0.4
    assert after > (0.85 if space == CHOICE else 0.42)


@pytest.mark.parametrize("space", [STEER, CHOICE], ids=["continuous", "discrete"])
def test_the_policy_learns_from_another_policy_that_never_changes(tmp_path, space):
    """The engine ignores every model, but its rollouts still show which actions are better."""
    env = Bandit(space=space, agents=16)
    loop = loop_for(env, tmp_path, gamma=0.5, entropy_coef=0.0, learning_rate=2e-3)
    other = with_strong_head(loop_for(env, tmp_path / "other", seed=99).start())
    model = loop.start()
    before = reward_of(env, model)
    for _ in range(5):
        model = loop.train(env.play(other, 96))
    assert reward_of(env, model) > before + 0.15


def test_values_are_in_the_games_reward_units(tmp_path):
    """Reward 50 forever at gamma 0.9 has the value 500, also in the JSON."""
    env = Bandit()
    loop = loop_for(env, tmp_path, gamma=0.9, learning_rate=3e-3)
    model = loop.start()
    for _ in range(4):
        rollout = env.play(model, 64)
        n = rollout.size
        forever = {"rewards": np.full(n, 50.0, np.float32), "terminated": np.zeros(n, bool)}
        model = loop.train(dataclasses.replace(rollout, **forever))
    assert model.value(rollout.observations).mean() == pytest.approx(500, rel=0.05)


@pytest.mark.parametrize(("scale", "shift"), [(1.0, 0.0), (30.0, 100.0)])
@pytest.mark.parametrize("space", [STEER, CHOICE], ids=["continuous", "discrete"])
def test_json_and_checkpoint_compute_the_same(tmp_path, space, scale, shift):
    env = Bandit(space=space, scale=scale, shift=shift)
    loop = loop_for(env, tmp_path)
    model = loop.start()
    for _ in range(3):
        model = loop.train(env.play(model, 40))
    checkpoint = load_policy(loop.output / loop.result.checkpoint)
    exported = load_policy(loop.output / loop.result.model)
    x = (np.random.default_rng(0).normal(size=(10_000, 4)) * scale + shift).astype(np.float32)
    for name in ("mean", "value"):
        computed, expected = getattr(checkpoint, name)(x), getattr(exported, name)(x)
        assert computed.dtype == expected.dtype == np.float32
        assert np.abs(computed - expected).max() <= 1e-5 * np.abs(computed).max()
    assert check_probe(model) < 1e-5


@pytest.mark.parametrize("space", [STEER, CHOICE], ids=["continuous", "discrete"])
def test_at_the_first_minibatch_every_ratio_is_1(tmp_path, space):
    """Also in the second cycle, after the normalisers changed. Steps of the parent have weight 1 exactly."""
    env = Bandit(space=space, scale=30.0, shift=100.0)
    loop = loop_for(env, tmp_path)
    model = loop.train(env.play(loop.start(), 40))
    env.scale = 60.0
    entry = loop.given(env.play(model, 40))
    captured = {}

    def spy(attributed, parent, distribution, job, *others):
        prepared = rescale_and_build(attributed, parent, distribution, job, *others)
        with torch.no_grad():
            new = evaluate(prepared.network, distribution_for(job.contract.action_space), prepared.train)
        captured["ratio"] = (new.logp_B - prepared.train.logp_B).exp()
        captured["weight"] = prepared.train.importance_weight_B
        return prepared

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("trainer.worker.train.rescale_and_build", spy)
        loop.train(entry)
    torch.testing.assert_close(captured["ratio"], torch.ones_like(captured["ratio"]), atol=1e-5, rtol=0)
    assert (captured["weight"] == 1.0).all()
    assert loop.reporter.codes() == []


def test_a_rescaling_that_changes_the_policy_is_reported(tmp_path, monkeypatch):
    """The check needs the rescaled network: the parent's outputs were computed before."""
    env = Bandit(scale=30.0, shift=100.0)
    loop = loop_for(env, tmp_path)
    model = loop.start()
    for _ in range(4):
        model = loop.train(env.play(model, 40))
    assert loop.reporter.codes() == []
    env.scale = 300.0
    monkeypatch.setattr("trainer.rollouts.training_set.rescale_inputs", lambda stacks, before, after: None)
    loop.train(env.play(model, 40))
    assert "W_CANARY" in loop.reporter.codes()


def test_training_starts_from_the_published_policy(tmp_path):
    """With a learning rate near 0, after the normalisers changed, the same functions are published."""
    env = Bandit(scale=30.0, shift=100.0)
    loop = loop_for(env, tmp_path)
    model = loop.train(env.play(loop.start(), 40))
    env.scale = 90.0
    rollout = env.play(model, 40)
    frozen = loop.settings.model_copy(update={"learning_rate": 1e-12})
    same = loop.train(rollout, settings=frozen)
    for name in ("mean", "value"):
        expected = getattr(model, name)(rollout.observations)
        assert np.abs(getattr(same, name)(rollout.observations) - expected).max() <= 2e-5 * np.abs(expected).max()
    assert not np.array_equal(same.value_function.head.weights, model.value_function.head.weights)


def weights(loop):
    return (loop.output / loop.result.model).read_bytes(), (loop.output / loop.result.checkpoint).read_bytes()


def two_cycles(folder, seed=0, env_seed=0):
    env = Bandit(seed=env_seed)
    loop = loop_for(env, folder, seed=seed)
    first = loop.start()
    model = loop.train(env.play(first, 40), env.play(first, 40))
    loop.train(env.play(model, 40))
    return weights(loop)


def _model(loop):
    return read_model((loop.output / loop.result.model).read_bytes())


def test_only_the_same_seed_leads_to_the_same_bytes(tmp_path):
    one, two, other = (two_cycles(tmp_path / str(i), seed=i // 2) for i in range(3))
    assert one == two
    assert one[0] != other[0]


def test_the_order_of_agents_in_the_file_changes_no_weight(tmp_path):
    """The same experiences, once as engines write them and once agent after agent, lead to the same weights."""
    env = Bandit(agents=4)
    results = []
    for name in ("mixed", "sorted"):
        loop = loop_for(env, tmp_path / name)
        model = loop.start()
        if not results:
            mixed = env.play(model, 40)
        order = np.argsort(mixed.agents, kind="stable") if name == "sorted" else np.arange(mixed.size)
        rows = {f.name: getattr(mixed, f.name) for f in dataclasses.fields(mixed)}
        columns_in_order = {k: v[order] for k, v in rows.items() if isinstance(v, np.ndarray) and len(v) == mixed.size}
        model = loop.train(loop.given(dataclasses.replace(mixed, **columns_in_order), sha256="same"))
        results.append((model.policy.head.weights, model.value_function.head.weights))
    np.testing.assert_array_equal(results[0][0], results[1][0])
    np.testing.assert_array_equal(results[0][1], results[1][1])


def test_the_next_cycle_continues_with_optimizer_and_normaliser(tmp_path):
    env = Bandit()
    loop = loop_for(env, tmp_path)
    model = loop.train(env.play(loop.start(), 40), use_epoch=4)
    first = checkpoint_from(load_document((loop.output / loop.result.checkpoint).read_bytes()))
    loop.train(env.play(model, 40), use_epoch=1)
    second = checkpoint_from(load_document((loop.output / loop.result.checkpoint).read_bytes()))
    steps = [c.optimizer_state_dict["state"][0]["step"].item() for c in (first, second)]
    assert steps[1] == steps[0] * 5 / 4  # four epochs, and one more
    counts = [c.normalisers.observations.count for c in (first, second)]
    assert counts == [320, 640]
    assert second.lineage.parent == f"cycle_000001/model_epoch_{first.lineage.epoch}.json"


def test_old_rollouts_are_not_counted_twice_by_the_normaliser(tmp_path):
    env = Bandit()
    loop = loop_for(env, tmp_path, history_ratio=1.0)
    old = loop.given(env.play(loop.start(), 40))
    model = loop.train(old)
    loop.train(env.play(model, 40), old.model_copy(update={"is_new": False, "age": 1}))
    second = checkpoint_from(load_document((loop.output / loop.result.checkpoint).read_bytes()))
    assert second.normalisers.observations.count == 640
    assert loop.result.experiences == 640


def test_old_rollouts_train_the_value_function_and_never_the_policy(tmp_path):
    """With the sign of the old rewards reversed, the policy is the same and the values differ."""
    ends = []
    for sign in (1.0, -1.0):
        env = Bandit()
        loop = loop_for(env, tmp_path / str(sign), history_ratio=1.0, max_grad_norm=1e9, entropy_coef=0.0)
        model = loop.train(env.play(loop.start(), 40))
        old, new = env.play(model, 40), env.play(model, 40)
        old = dataclasses.replace(old, rewards=old.rewards * np.float32(sign))
        loop.train(new, loop.given(old, is_new=False, age=1))
        ends.append(load_policy(loop.output / "model_epoch_1.pt"))
    x = np.random.default_rng(0).normal(size=(64, 4)).astype(np.float32)
    assert np.array_equal(ends[0].mean(x), ends[1].mean(x))
    assert not np.allclose(ends[0].value(x), ends[1].value(x), rtol=0.1)


def test_sixty_four_experiences_of_one_agent_are_enough(tmp_path):
    env = Bandit(agents=1)
    loop = loop_for(env, tmp_path)
    loop.train(env.play(loop.start(), 64))
    assert loop.result.experiences == 64  # 64 is a whole number of episodes
    never_ends = {"terminated": np.zeros(64, bool)}
    loop.train(dataclasses.replace(env.play(_model(loop), 64), **never_ends))
    assert loop.result.experiences == 63


def test_the_events_and_files_of_a_cycle(tmp_path):
    env = Bandit()
    loop = loop_for(env, tmp_path)
    loop.train(env.play(loop.start(), 40))
    epochs = [e for e in loop.reporter.events if isinstance(e, EpochDone)]
    assert [e.epoch for e in epochs] == [1, 2, 3, 4]
    assert {"value_loss", "policy_loss", "entropy", "approx_kl", "clip_fraction", "train_value_loss",
            "explained_variance", "grad_norm"} <= set(epochs[0].losses)  # fmt: skip
    assert isinstance(loop.reporter.events[-1], Selecting)
    left = {p.name for p in loop.output.iterdir()}
    assert left == set(loop.result.files) == {
        *(f"model_epoch_{k}.pt" for k in range(1, 5)), loop.result.model, "model_analysis.json"
    }  # fmt: skip
    assert loop.result.ranking[0].epoch == loop.result.epoch
    assert loop.result.reward_mean is not None


def test_the_mean_reward_counts_every_experience_of_the_new_rollouts(tmp_path):
    env = Bandit()
    loop = loop_for(env, tmp_path)
    model = loop.start()
    small, large = env.play(model, 8), env.play(model, 56)
    small = dataclasses.replace(small, rewards=np.full(small.size, 1.0, np.float32))
    large = dataclasses.replace(large, rewards=np.full(large.size, 2.0, np.float32))
    loop.train(small, large)
    assert loop.result.reward_mean == pytest.approx((8 * 1.0 + 56 * 2.0) / 64)


def test_whole_segments_are_held_out_of_the_training_set(tmp_path):
    """An episode's steps are all trained on or all held out: each has the episode's number as an observation."""
    env = Bandit(agents=4)
    loop = loop_for(env, tmp_path, holdout_fraction=0.25)
    rollout = env.play(loop.start(), 80)
    episode = rollout.agents * 100 + np.arange(rollout.size) // (8 * env.agents)
    observations = np.concatenate([rollout.observations[:, :3], episode[:, None]], axis=1).astype(np.float32)
    captured = {}

    def spy(*arguments):
        captured["set"] = rescale_and_build(*arguments)
        return captured["set"]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("trainer.worker.train.rescale_and_build", spy)
        loop.train(dataclasses.replace(rollout, observations=observations))
    train, held = (
        set(batch.observation_BO[:, 3].tolist()) for batch in (captured["set"].train, captured["set"].held_out)
    )
    assert len(train) + len(held) == len(np.unique(episode)) == 40
    assert len(held) == 10


def test_the_requested_epoch_is_exported(tmp_path):
    env = Bandit()
    loop = loop_for(env, tmp_path)
    loop.train(env.play(loop.start(), 40), use_epoch=2)
    assert (loop.result.epoch, loop.result.model) == (2, "model_epoch_2.json")
    loop.train(env.play(_model(loop), 40), use_epoch=77)
    assert "W_EPOCH" in loop.reporter.codes()


def test_the_target_kl_ends_a_cycle_early(tmp_path):
    env = Bandit()
    loop = loop_for(env, tmp_path, target_kl=1e-9, epochs=8)
    loop.train(env.play(loop.start(), 40))
    assert len([e for e in loop.reporter.events if isinstance(e, EpochDone)]) == 1


def test_the_standard_deviation_stays_in_the_engines_range(tmp_path):
    """A huge entropy bonus raises it to the upper bound, and not beyond."""
    env = Bandit()
    loop = loop_for(env, tmp_path, learning_rate=0.3, entropy_coef=100.0)
    model = loop.train(env.play(loop.start(), 40), use_epoch=4)
    assert np.exp(model.action_log_std).max() == pytest.approx(2.0, rel=1e-5)


def test_if_training_diverges_no_model_is_published(tmp_path):
    env = Bandit()
    loop = loop_for(env, tmp_path, learning_rate=1e30)
    model = loop.start()
    with pytest.raises(HotlapError, match="no epoch can be used") as error:
        loop.train(env.play(model, 40))
    assert error.value.code == "E_NO_MODEL"
    assert not list(loop.output.glob("*.json")) or {p.name for p in loop.output.glob("*.json")} == {
        "model_analysis.json"
    }


def notice(loop, code):
    return next(e.message for e in loop.reporter.events if getattr(e, "code", "") == code)


def with_strong_head(model):
    """Return the same network with a head a hundred times as strong: another policy."""
    head = dataclasses.replace(model.policy.head, weights=model.policy.head.weights * 100)
    return dataclasses.replace(model, policy=dataclasses.replace(model.policy, head=head))


NOTICES = {
    "W_LEFT_OUT": lambda r: {"left_out": 7},
    "W_DEAD_OBSERVATION": lambda r: {"observations": r.observations * np.array([1, 0, 1, 0], np.float32)},
    "W_CONSTANT_REWARD": lambda r: {"rewards": np.full(r.size, 0.25, np.float32)},
    "W_ACTION_BOUNDS": lambda r: {"actions": r.actions + np.float32(0.5)},
    "W_LOGP_BROKEN": lambda r: {"log_probs": np.zeros(r.size, np.float32)},
    "W_LOGP_MISMATCH": lambda r: {
        "log_probs": r.log_probs + np.where(np.arange(r.size) % 5 < 2, 1.0, 0.0).astype("f4")
    },
}


@pytest.mark.parametrize("code", NOTICES)
def test_a_problem_in_the_data_is_reported_once(tmp_path, code):
    env = Bandit()
    loop = loop_for(env, tmp_path)
    model = loop.train(env.play(loop.start(), 40))
    assert loop.reporter.codes() == []
    faulty = [dataclasses.replace(r, **NOTICES[code](r)) for r in (env.play(model, 40), env.play(model, 40))]
    loop.train(*faulty)
    assert loop.reporter.codes().count(code) == 1
    words = {
        "W_LEFT_OUT": "14 experiences", "W_DEAD_OBSERVATION": "index 1, 3", "W_CONSTANT_REWARD": "0.25",
        "W_ACTION_BOUNDS": "steer, throttle", "W_LOGP_BROKEN": "exporter", "W_LOGP_MISMATCH": "40%",
    }  # fmt: skip
    assert words[code] in notice(loop, code)


def test_first_rollouts_of_another_policy_are_expected(tmp_path):
    env = Bandit()
    other = with_strong_head(loop_for(env, tmp_path / "other", seed=99).start())
    loop = loop_for(env, tmp_path)
    loop.start()
    loop.train(env.play(other, 40))
    assert loop.reporter.codes() == ["W_STRANGER"]


def very_different(model):
    """Return a policy that always steers fully to one side, which an untrained one hardly ever does."""
    head = Dense(np.zeros_like(model.policy.head.weights), np.array([8.0, 8.0], np.float32))
    policy = dataclasses.replace(model.policy, head=head)
    return dataclasses.replace(model, policy=policy, action_log_std=np.full(2, -2.0, np.float32))


def test_from_a_very_different_policy_a_first_cycle_learns_only_values(tmp_path):
    """Version 1 is then an untrained policy with good normalisers, and version 2 learns as in a first cycle."""
    env = Bandit(scale=30.0, shift=100.0)
    loop = loop_for(env, tmp_path, entropy_coef=0.01)
    first = loop.start()
    model = loop.train(*(env.play(very_different(first), 40) for _ in range(2)))
    assert loop.reporter.codes() == ["W_STRANGER", "W_FAR_STRANGER"]
    np.testing.assert_array_equal(model.policy.head.weights, first.policy.head.weights)
    np.testing.assert_array_equal(model.action_log_std, first.action_log_std)
    assert not np.array_equal(model.value_function.head.weights, first.value_function.head.weights)
    env.scale = 1.0
    model = loop.train(env.play(model, 40))
    assert loop.reporter.codes() == []
    units = checkpoint_from(load_document((loop.output / loop.result.checkpoint).read_bytes())).normalisers
    assert units.observations.count == 320
    np.testing.assert_allclose(units.observations.var_O, 1.0, rtol=0.3)
    assert not np.array_equal(model.policy.head.weights, first.policy.head.weights)


NO_SIGNAL = {
    "all are 0": lambda r: {"rewards": np.zeros(r.size, np.float32)},
    "all are 1 and no episode ends": lambda r: {
        "rewards": np.ones(r.size, np.float32),
        "terminated": np.zeros(r.size, bool),
    },
    "rounding errors": lambda r: {
        "rewards": np.float32(1e6) + np.float32(0.0625) * (r.rewards > r.rewards.mean()),
        "terminated": np.zeros(r.size, bool),
    },
}


@pytest.mark.parametrize("trained", [True, False], ids=["trained", "version 0"])
@pytest.mark.parametrize("rewards", NO_SIGNAL)
@pytest.mark.parametrize("space", [STEER, CHOICE], ids=["continuous", "discrete"])
def test_without_a_reward_signal_the_policy_does_not_move_by_a_bit(tmp_path, space, rewards, trained):
    """Also with an entropy bonus, Adam's momentum, other observations and old rollouts that have a signal."""
    env = Bandit(space=space)
    loop = loop_for(env, tmp_path, entropy_coef=0.1, history_ratio=1.0)
    before, old = loop.start(), []
    if trained:
        old = [loop.given(env.play(before, 40))]
        before = loop.train(*old)
    env.shift = 3.0
    rollout = env.play(before, 40)
    seen = [one.model_copy(update={"is_new": False, "age": 1}) for one in old]
    after = loop.train(dataclasses.replace(rollout, **NO_SIGNAL[rewards](rollout)), *seen)
    assert "leaves the policy as it is" in notice(loop, "W_CONSTANT_REWARD")
    np.testing.assert_array_equal(after.action_log_std, before.action_log_std)
    for layer, same in zip(after.policy.layers(), before.policy.layers(), strict=True):
        np.testing.assert_array_equal(layer.weights, same.weights)
        np.testing.assert_array_equal(layer.biases, same.biases)
    assert not np.array_equal(after.value_function.head.weights, before.value_function.head.weights)
    learned = loop.train(env.play(after, 40))
    assert not np.array_equal(learned.policy.head.weights, after.policy.head.weights)


def test_sparse_rewards_are_learned_from_and_reported(tmp_path):
    env = Bandit(agents=16)
    loop = loop_for(env, tmp_path)
    model = loop.start()
    rollout = env.play(model, 64)
    rewards = np.zeros(rollout.size, np.float32)
    rewards[[100, 500]] = 1.0
    after = loop.train(dataclasses.replace(rollout, rewards=rewards))
    assert "only 2 of 1,024 steps earned more than 0" in notice(loop, "W_SPARSE_REWARD")
    assert not np.array_equal(after.policy.head.weights, model.policy.head.weights)


def test_without_a_parent_the_policy_learns_from_any_other_policy(tmp_path):
    """As on the command line: no engine will load the model, so better rollouts are not expected."""
    env = Bandit()
    loop = loop_for(env, tmp_path)
    first = loop.start()
    rollout = env.play(very_different(first), 40)
    model = loop.train(rollout, parent=None)
    assert "W_FAR_STRANGER" not in loop.reporter.codes()
    assert not np.array_equal(model.policy.head.weights, first.policy.head.weights)
    assert (model.action_log_std < np.log(0.6)).all()  # the entropy bonus does not dominate if all ratios are clipped


def test_a_rollout_that_is_missing_or_of_another_game_is_left_out(tmp_path):
    env = Bandit()
    loop = loop_for(env, tmp_path)
    good = loop.given(env.play(loop.start(), 40))
    other = loop.given(columns(40, observation_size=9))
    gone = good.model_copy(update={"cache": str(tmp_path / "nowhere.npz"), "source": str(tmp_path / "nowhere.json")})
    loop.train(good, other, gone)
    assert loop.result.experiences == 320
    assert "2 of 3 rollouts" in notice(loop, "W_ROLLOUT_SKIPPED")
    with pytest.raises(RolloutError, match="9 observations instead of 4"):
        loop.train(other)


def test_another_shape_than_the_parents_is_an_error_that_names_it(tmp_path):
    env = Bandit()
    loop = loop_for(env, tmp_path)
    rollout = env.play(loop.start(), 40)
    with pytest.raises(ContractError, match=r"hidden layers \[16, 16\], the project \[8\]"):
        loop.train(rollout, hidden_sizes=(8,))
    other = loop_for(Bandit(space=CHOICE), tmp_path / "other")
    other.start()
    with pytest.raises(ContractError, match=r"throttle \[0, 1\] instead of one of 3 choices"):
        loop.train(rollout, parent=str(other.output / other.result.checkpoint))


def test_a_thousand_old_rollouts_do_not_take_longer_than_ten(tmp_path):
    """Only the chosen ones are opened: the others need not even exist."""
    env = Bandit()
    loop = loop_for(env, tmp_path, epochs=1, history_ratio=0.5)
    model = loop.train(*(env.play(loop.start(), 8) for _ in range(1)))
    old = [loop.given(env.play(model, 8), is_new=False, age=i) for i in range(3)]
    missing = [
        o.model_copy(update={"cache": "nowhere", "age": 10**9, "name": f"old{i}"}) for i, o in enumerate(old * 333)
    ]
    begin = time.monotonic()
    loop.train(env.play(model, 8), env.play(model, 8), *old[:1], *missing)
    assert time.monotonic() - begin < 20
    assert loop.result.experiences <= 3 * 64


def test_rollouts_without_a_next_state_are_rejected(tmp_path):
    env = Bandit(agents=8)
    loop = loop_for(env, tmp_path)
    single = dataclasses.replace(env.play(loop.start(), 1), terminated=np.zeros(8, bool))
    with pytest.raises(RolloutError, match="no experience has a next state"):
        loop.train(single)


def test_the_attributed_columns_have_a_row_for_each_experience(tmp_path):
    env = Bandit()
    loop = loop_for(env, tmp_path)
    model = loop.train(env.play(loop.start(), 16))
    entry = loop.given(env.play(model, 16, noise=0.3), behaviours=(str(loop.output / loop.result.model),))
    captured = {}

    def spy(*arguments):
        captured["attributed"] = attribute_rollouts(*arguments)
        return captured["attributed"]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("trainer.worker.train.attribute_rollouts", spy)
        loop.train(entry)
    attributed = captured["attributed"]
    assert attributed.std_scale_B == pytest.approx(0.3, rel=0.01)
    assert len(attributed.policy_source_B) == len(attributed.behaviour_logp_B) == attributed.experiences.size


def test_a_parent_that_is_not_the_published_file_is_an_error(tmp_path):
    env = Bandit()
    loop = loop_for(env, tmp_path)
    rollout = env.play(loop.start(), 40)
    with pytest.raises(HotlapError) as error:
        loop.train(rollout, parent_sha256="0" * 64)
    assert error.value.code == "E_PARENT"
