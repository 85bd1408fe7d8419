"""Whole cycles of TD3 and its sibling for choices: files, parents of either algorithm, data of any policy and scale."""

from __future__ import annotations

import dataclasses

import numpy as np
import orjson
import pytest

from schemas.errors import ConfigError, RolloutError
from schemas.job import EpochDone, Job, Result, RolloutInput
from schemas.model import check_probe, read_model
from schemas.rollout.v2 import rollout_to_v2
from schemas.storage.files import sha256_of
from tests.helpers import v1_document
from tests.trainer.toy import CHOICE, HIDDEN, STEER, Bandit, Loop, columns, loop_for
from tests.trainer.worker.test_serve import serve
from tests.trainer.worker.test_train import notice, very_different
from trainer.checkpoints.checkpoint import checkpoint_from, document_bytes, load_document
from trainer.common.reporting.reporter import MemoryReporter
from trainer.off_policy.learner import OffPolicyLearner
from trainer.worker.jobs import run_job

SMALL = {"algorithm": "td3", "gamma": 0.5, "critic_sizes": (32,), "updates_per_experience": 0.2, "epochs": 3}
BOTH = {"continuous": STEER, "discrete": CHOICE}
both = pytest.mark.parametrize("space", BOTH.values(), ids=BOTH)


def small(env, folder, **settings) -> Loop:
    return loop_for(env, folder, **(SMALL | settings))


def checkpoint_of(loop, name=""):
    return checkpoint_from(load_document((loop.output / (name or loop.result.checkpoint)).read_bytes()))


def model_of(loop):
    return read_model((loop.output / loop.result.model).read_bytes())


def steps_of(checkpoint):
    return checkpoint.critics_state["critics_adam"]["step"]


def inputs(n=200, seed=1):
    return np.random.default_rng(seed).normal(size=(n, 4)).astype(np.float32)


CASES = {
    "td3": (STEER, "td3", True),
    "td3, choices": (CHOICE, "td3", True),
    "auto": (STEER, "auto", True),
    "auto, choices": (CHOICE, "auto", False),
}


@pytest.mark.parametrize(("space", "algorithm", "has_critics"), CASES.values(), ids=CASES)
def test_the_events_and_files_of_a_cycle(tmp_path, space, algorithm, has_critics):
    env = Bandit(space=space)
    loop = small(env, tmp_path, algorithm=algorithm)
    first = loop.start()
    model = loop.train(env.play(first, 40))
    result = loop.result
    names = {*(f"model_epoch_{k}.pt" for k in (1, 2, 3)), result.model, "model_analysis.json"}
    assert {p.name for p in loop.output.iterdir()} == set(result.files) == names
    assert result.experiences == 320
    assert check_probe(model) < 1e-5
    assert loop.reporter.codes() == []
    assert result.algorithm.split()[0] == ("td3" if has_critics else "ppo")
    checkpoint = checkpoint_of(loop)
    assert bool(checkpoint.critics_state) == has_critics
    assert len(checkpoint.training_history["value_loss"]) == result.epoch
    analysis = orjson.loads((loop.output / "model_analysis.json").read_bytes())
    assert analysis["chosen_epoch"] == result.epoch
    epochs = [event for event in loop.reporter.events if isinstance(event, EpochDone)]
    if has_critics:
        assert epochs[0].losses.keys() == {
            "value_loss", "value_loss_error", "critic_loss", "policy_loss", "learning_rate"
        }  # fmt: skip
        assert steps_of(checkpoint_of(loop, "model_epoch_3.pt")) == 64  # 0.2 for each of 320 experiences
    if space is STEER:
        assert (model.action_log_std < first.action_log_std).all() == has_critics
    moved = np.abs(model.policy.head.weights - first.policy.head.weights).max()
    assert moved > 1e-4


def test_the_exploration_becomes_less_with_each_version_down_to_the_least(tmp_path):
    """An engine starts with a deviation of one half. A parent with less than the least gets the least."""
    env = Bandit()
    loop = small(env, tmp_path, exploration=0.3, epochs=1)
    model, stds = loop.start(), []
    for least in (0.3, 0.3, 0.3, 0.3, 0.6):
        model = loop.train(env.play(model, 8), settings=loop.settings.model_copy(update={"exploration": least}))
        stds.append(np.exp(model.action_log_std))
    np.testing.assert_allclose(stds, np.repeat([[0.4], [0.32], [0.3], [0.3], [0.6]], 2, axis=1), rtol=1e-5)


@both
def test_extreme_settings_have_finite_results(tmp_path, space):
    env = Bandit(space=space)
    extreme = {"gamma": 1.0, "return_steps": 100, "critic_sizes": (1,), "epochs": 7, "updates_per_experience": 0.01}
    loop = small(env, tmp_path, **extreme)
    model = loop.train(env.play(loop.start(), 10))
    assert check_probe(loop.train(env.play(model, 10))) < 1e-5


@both
def test_the_policy_learns_from_a_policy_that_never_changes(tmp_path, space):
    """A random choice earns 1/3, the best one 1. A continuous policy earns at most 0.92 with its exploration."""
    env = Bandit(space=space, agents=16)
    loop = small(env, tmp_path, epochs=2)
    first = model = loop.start()
    for _ in range(2):
        model = loop.train(loop.given(env.play(first, 64)))
    assert env.play(first, 60).rewards.mean() < 0.4
    assert env.play(model, 60).rewards.mean() > 0.6


@both
def test_only_the_same_seed_leads_to_the_same_bytes_and_a_new_process_continues_with_them(tmp_path, space):
    """Two cycles in this process, and the second one again in a process of its own."""
    ends = []
    for folder, seed in (("one", 0), ("two", 0), ("other", 1)):
        env = Bandit(space=space)
        loop = small(env, tmp_path / folder, seed=seed)
        model = loop.train(env.play(loop.start(), 16))
        parent = loop.output / loop.result.checkpoint
        entry = loop.given(env.play(model, 16))
        loop.train(entry)
        ends.append({name: (loop.output / name).read_bytes() for name in sorted(loop.result.files)})
    assert ends[0] == ends[1]
    assert ends[0]["model_epoch_3.pt"] != ends[2]["model_epoch_3.pt"]
    if space is STEER:
        output = tmp_path / "process"
        output.mkdir()
        known = {"kind": "train", "policy_version": 2, "contract": loop.contract, "hidden_sizes": HIDDEN}
        job = Job(**known, output=str(output), settings=loop.settings, rollouts=(entry,), parent=str(parent))
        events, code, log = serve(job)
        assert code == 0, log
        assert isinstance(events[-1], Result)
        assert {path.name: path.read_bytes() for path in output.iterdir()} == ends[2]


def test_the_next_cycle_continues_with_critics_optimizers_and_normalisers(tmp_path):
    env = Bandit()
    loop = small(env, tmp_path)
    model = loop.train(env.play(loop.start(), 40), use_epoch=3)
    loop.train(env.play(model, 40), use_epoch=3)
    checkpoint = checkpoint_of(loop)
    assert steps_of(checkpoint) == checkpoint.critics_state["policy_adam"]["step"] * 2 == 128
    assert checkpoint.normalisers.observations.count == 640


def test_after_ppo_new_critics_learn_before_the_policy_changes(tmp_path):
    env = Bandit(scale=30.0, shift=100.0)
    loop = loop_for(env, tmp_path, gamma=0.5)
    model = loop.train(env.play(loop.start(), 40))
    td3 = loop.settings.model_copy(update=SMALL | {"epochs": 4})
    loop.train(env.play(model, 40), settings=td3)
    assert loop.reporter.codes() == []
    x = inputs() * 30 + 100
    means = {}
    for epoch in (1, 2, 3, 4):
        job = {"kind": "export", "export_epoch": epoch, "settings": td3, "output": str(loop.output)}
        run_job(Job(**job, policy_version=2, contract=loop.contract, hidden_sizes=HIDDEN), MemoryReporter())
        means[epoch] = read_model((loop.output / f"model_epoch_{epoch}.json").read_bytes()).mean(x)
    for epoch in (1, 2):
        np.testing.assert_allclose(means[epoch], model.mean(x), atol=1e-4)
    assert np.abs(means[3] - means[2]).max() > 1e-3
    assert np.abs(means[4] - means[3]).max() > 1e-3


def forget_returns(document):
    document["normalisers"]["returns"] = {"mean": 0.0, "std": 1.0, "is_set": False}


@pytest.mark.parametrize("change", [None, forget_returns], ids=["other rewards", "unknown returns"])
def test_new_critics_get_the_units_of_the_rewards_and_not_those_of_the_parent(tmp_path, change):
    """The parent learned from small rewards, or is a model of another script, which has no statistics of returns."""
    env = Bandit()
    loop = loop_for(env, tmp_path, gamma=0.5)
    model = loop.train(env.play(loop.start(), 24))
    path = loop.output / loop.result.checkpoint
    if change is not None:
        document = load_document(path.read_bytes())
        change(document)
        path.write_bytes(document_bytes(document))
    rollout = env.play(model, 24)
    rollout = dataclasses.replace(rollout, rewards=rollout.rewards * np.float32(1e5))
    loop.train(rollout, settings=loop.settings.model_copy(update=SMALL))
    first = next(event for event in loop.reporter.events if isinstance(event, EpochDone))
    assert first.losses["critic_loss"] < 10
    assert checkpoint_of(loop).normalisers.returns.std > 1e4


@both
def test_ppo_continues_with_a_policy_of_td3(tmp_path, space):
    env = Bandit(space=space, scale=30.0, shift=100.0)
    loop = small(env, tmp_path)
    model = loop.train(env.play(loop.start(), 40))
    rollout = env.play(model, 40)
    same = loop.train(rollout, settings=loop.settings.model_copy(update={"algorithm": "ppo", "learning_rate": 1e-12}))
    assert loop.reporter.codes() == []
    assert checkpoint_of(loop).critics_state == {}
    for name in ("mean", "value"):
        expected = getattr(model, name)(rollout.observations)
        assert np.abs(getattr(same, name)(rollout.observations) - expected).max() <= 2e-5 * np.abs(expected).max()


@pytest.mark.parametrize("setting", ["network", "loss"])
def test_a_network_or_loss_of_the_user_is_refused(tmp_path, setting):
    env = Bandit()
    loop = small(env, tmp_path, **{setting: "trainer.networks.network:ActorCritic"})
    with pytest.raises(ConfigError, match=f"trainer.algorithm is td3, which cannot use trainer.{setting}") as error:
        loop.train(env.play(small(env, tmp_path / "first").start(), 10))
    assert error.value.code == "E_CONFIG"


def test_after_the_given_seconds_no_epoch_begins(tmp_path):
    env = Bandit()
    loop = small(env, tmp_path, seconds=1e-9, epochs=5)
    loop.train(env.play(loop.start(), 10))
    assert loop.result.epoch == 1
    assert len([event for event in loop.reporter.events if isinstance(event, EpochDone)]) == 1


def test_the_log_probs_and_the_policies_of_rollouts_do_not_matter(tmp_path):
    """The same experiences, once with log_probs of the published policy, once of another and once without any."""
    ends, codes = [], []
    for change in (0.0, 3.0, np.nan):
        env = Bandit()
        loop = small(env, tmp_path / str(change))
        model = loop.train(env.play(loop.start(), 24))
        rollout = env.play(model, 24)
        rollout = dataclasses.replace(rollout, log_probs=rollout.log_probs + np.float32(change))
        ends.append(loop.train(loop.given(rollout, sha256="same", behaviours=loop.given(rollout).behaviours)))
        codes.append(loop.reporter.codes())
        if codes[-1]:
            assert "td3 learns" in notice(loop, codes[-1][0])
    for other in ends[1:]:
        np.testing.assert_array_equal(other.policy.head.weights, ends[0].policy.head.weights)
    assert codes == [[], ["W_LOGP_MISMATCH"], ["W_LOGP_BROKEN"]]


def test_a_first_cycle_learns_the_policy_from_a_very_different_one(tmp_path):
    env = Bandit()
    loop = small(env, tmp_path)
    first = loop.start()
    model = loop.train(env.play(very_different(first), 40))
    assert loop.reporter.codes() == ["W_STRANGER"]
    assert "td3 learns from these steps in full" in notice(loop, "W_STRANGER")
    assert not np.array_equal(model.policy.head.weights, first.policy.head.weights)


def test_rollouts_of_before_the_models_are_not_said_to_count_less(tmp_path):
    env = Bandit()
    loop = small(env, tmp_path)
    first = loop.start()
    loop.train(env.play(first, 24))
    loop.train(loop.given(env.play(very_different(first), 24), is_older_than_models=True))
    assert loop.reporter.codes() == []


@pytest.mark.parametrize("version", [1, 2])
def test_files_of_both_versions_can_be_learned_from(tmp_path, version):
    env = Bandit()
    loop = small(env, tmp_path)
    rollout = env.play(loop.start(), 24)
    data = (
        orjson.dumps(v1_document(rollout))
        if version == 1
        else rollout_to_v2(rollout, rollout_id="r", base64_columns=True)
    )
    path = tmp_path / "rollout_0_20261121_120000.json"
    path.write_bytes(data)
    model = loop.train(RolloutInput(name=path.name, sha256=sha256_of(data), source=str(path), cache="", is_new=True))
    assert loop.result.experiences == 192
    same = loop.train(loop.given(rollout), parent=None, policy_version=1)
    np.testing.assert_array_equal(model.policy.head.weights, same.policy.head.weights)


def test_old_rollouts_alone_are_as_much_work_as_a_usual_cycle(tmp_path):
    """The youngest ten count as new, and all of them are learned from."""
    env = Bandit()
    loop = small(env, tmp_path)
    first = loop.start()
    old = [loop.given(env.play(first, 8), is_new=False, age=i) for i in range(14)]
    loop.train(*old, use_epoch=3)
    assert loop.result.experiences == 14 * 64
    assert steps_of(checkpoint_of(loop)) == 128  # 0.2 for each of 10 * 64 experiences


def test_steps_follow_the_new_experiences_and_draw_from_all(tmp_path):
    env = Bandit()
    loop = small(env, tmp_path)
    first = loop.start()
    old = [loop.given(env.play(first, 40), is_new=False, age=1) for _ in range(3)]
    loop.train(env.play(first, 24), *old, use_epoch=3)
    assert loop.result.experiences == 192 + 3 * 320
    assert steps_of(checkpoint_of(loop)) == 38  # 0.2 for each of 192 new experiences
    assert checkpoint_of(loop).normalisers.observations.count == 192  # the old ones were counted when they were new


def test_rollouts_without_a_next_state_are_refused(tmp_path):
    env = Bandit(agents=8)
    loop = small(env, tmp_path)
    single = dataclasses.replace(env.play(loop.start(), 1), terminated=np.zeros(8, bool))
    with pytest.raises(RolloutError, match="no experience has a next state") as error:
        loop.train(single)
    assert error.value.hint == "export at least three steps of each agent in a file"


@pytest.mark.parametrize("steps", [3, 4, 9])
@both
def test_a_few_steps_of_one_agent_are_enough(tmp_path, space, steps):
    loop = small(Bandit(space=space), tmp_path)
    loop.start()
    loop.train(columns(steps, space=space))
    assert loop.result.experiences == steps - 1
    assert loop.result.epoch >= 1


SCALES = {
    "observations times 30, plus 100": (30.0, 100.0, 1.0),
    "rewards times 1e8": (1.0, 0.0, 1e8),
    "rewards times 1e-8": (1.0, 0.0, 1e-8),
}


@pytest.mark.parametrize(("scale", "shift", "factor"), SCALES.values(), ids=SCALES)
def test_the_units_of_observations_and_rewards_do_not_change_what_is_learned(tmp_path, scale, shift, factor):
    means = []
    for folder in ("plain", "scaled"):
        loop = small(Bandit(), tmp_path / folder, updates_per_experience=0.1)
        loop.start()
        rollout = columns(300, terminated=np.arange(300) % 8 == 7)
        x = inputs()
        if folder == "scaled":
            scale, shift, rewards = np.float32(scale), np.float32(shift), rollout.rewards * np.float32(factor)
            rollout = dataclasses.replace(rollout, observations=rollout.observations * scale + shift, rewards=rewards)
            x = x * scale + shift
        means.append(loop.train(rollout, use_epoch=3).mean(x))
    assert np.abs(means[0] - means[1]).max() < 0.02
    assert np.abs(means[0]).max() > 0.05  # it has learned something


@pytest.mark.parametrize("reward", [0.0, 0.25, 1e8])
def test_constant_rewards_change_no_number_into_nan(tmp_path, reward):
    env = Bandit()
    loop = small(env, tmp_path)
    rollout = env.play(loop.start(), 24)
    model = loop.train(dataclasses.replace(rollout, rewards=np.full(rollout.size, reward, np.float32)))
    assert "W_CONSTANT_REWARD" in loop.reporter.codes()
    assert check_probe(model) < 1e-5
    assert 0.9 * reward <= model.value(rollout.observations).mean() <= 2.1 * reward or reward == 0.0


@pytest.mark.parametrize("is_trained", [False, True], ids=["untrained", "trained"])
def test_without_a_reward_signal_no_bit_of_the_policy_changes(tmp_path, is_trained):
    env = Bandit()
    loop = small(env, tmp_path)
    before = loop.start()
    if is_trained:
        before = loop.train(env.play(before, 24))
    rollout = env.play(before, 24)
    rollout = dataclasses.replace(
        rollout, rewards=np.zeros(rollout.size, np.float32), observations=rollout.observations * 3.0 + 1.0
    )
    after = loop.train(rollout)
    for one, other in zip(
        (*before.policy.hidden, before.policy.head), (*after.policy.hidden, after.policy.head), strict=True
    ):
        np.testing.assert_array_equal(one.weights, other.weights)
        np.testing.assert_array_equal(one.biases, other.biases)
    np.testing.assert_array_equal(before.action_log_std, after.action_log_std)
    assert checkpoint_of(loop).policy_trained == is_trained


def damage(document):
    document["critics"]["critics"]["vector"] = document["critics"]["critics"]["vector"][:-1].clone()


def remove_moments(document):
    del document["critics"]["policy_adam"]["exp_avg"]


@pytest.mark.parametrize("change", [damage, remove_moments, None], ids=["shorter", "without moments", "other sizes"])
def test_critics_that_do_not_fit_are_replaced_with_a_notice(tmp_path, change):
    env = Bandit()
    loop = small(env, tmp_path)
    model = loop.train(env.play(loop.start(), 24))
    path = loop.output / loop.result.checkpoint
    document = load_document(path.read_bytes())
    if change is not None:
        change(document)
        path.write_bytes(document_bytes(document))
    settings = loop.settings if change is not None else loop.settings.model_copy(update={"critic_sizes": (16, 16)})
    loop.train(env.play(model, 24), settings=settings, use_epoch=3)
    assert loop.reporter.codes() == ["W_OPTIMIZER"]
    assert notice(loop, "W_OPTIMIZER") == "the parent's critics do not fit the settings: new critics are trained"
    assert steps_of(checkpoint_of(loop)) == 38  # of this cycle only


@pytest.mark.parametrize("entry", [None, [1], "text", ...], ids=["none", "a list", "text", "missing"])
def test_a_parent_without_usable_critics_is_a_parent_without_critics(tmp_path, entry):
    env = Bandit()
    loop = small(env, tmp_path)
    model = loop.train(env.play(loop.start(), 16))
    path = loop.output / loop.result.checkpoint
    document = load_document(path.read_bytes())
    document["critics"] = entry
    if entry is ...:
        del document["critics"]
    path.write_bytes(document_bytes(document))
    loop.train(env.play(model, 16))
    assert loop.reporter.codes() == []
    assert checkpoint_of(loop).critics_state


def test_a_later_ranking_of_the_same_files_chooses_the_same_epoch(tmp_path):
    """Also the tools and `select` know the standard errors."""
    env = Bandit()
    loop = small(env, tmp_path, epochs=6)
    loop.train(env.play(loop.start(), 40))
    chosen, files = loop.result.epoch, (loop.output / "model_analysis.json").read_bytes()
    job = Job(
        kind="select",
        policy_version=1,
        output=str(loop.output),
        contract=loop.contract,
        hidden_sizes=HIDDEN,
        settings=loop.settings,
    )
    assert run_job(job, MemoryReporter()).epoch == chosen
    assert (loop.output / "model_analysis.json").read_bytes() == files


def test_rollouts_of_the_untrained_policy_have_targets_over_one_step_only(tmp_path, monkeypatch):
    """Except in the first cycle, which has no others."""
    learners = []

    def spy(*arguments):
        learners.append(OffPolicyLearner(*arguments))
        return learners[-1]

    monkeypatch.setattr("trainer.worker.train.OffPolicyLearner", spy)
    env = Bandit(space=STEER)
    loop = small(env, tmp_path, return_steps=3)
    rollouts = [env.play(loop.start(), 16)]
    for steps in (24, 32):
        rollouts.append(env.play(loop.train(*in_time(loop, rollouts)), steps))
    loop.train(*in_time(loop, rollouts))
    first, second, third = (rollout.size for rollout in rollouts)
    assert len(learners[0]._replay.row_N) == 2 * first
    replay, gamma = learners[2]._replay, loop.settings.gamma
    assert len(replay.row_N) == first + 2 * (second + third)
    several = np.isclose(replay.discount_N, gamma**2) | np.isclose(replay.discount_N, gamma**3)
    rows = replay.row_N.numpy()[several]
    assert ((rows < second) | (rows >= first + second)).all()  # the youngest of the old ones come first
    assert (rows < second).any()
    assert (rows >= first + second).any()


def in_time(loop, rollouts):
    """Return the rollouts of one cycle each, the last one new."""
    last = len(rollouts) - 1
    return [loop.given(one, is_new=index == last, age=last - index) for index, one in enumerate(rollouts)]
