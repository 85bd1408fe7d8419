"""Outliers in the rollouts of cycles: learning continues as without them, and one notice names them."""

import dataclasses

import numpy as np
import pytest
import torch

from schemas.errors import RolloutError
from schemas.job import Notice, RolloutInput
from schemas.rollout.reader import read_rollout
from schemas.rollout.rollout import narrowed
from schemas.rollout.v2 import rollout_to_v2
from tests.helpers import v1_document
from tests.trainer.toy import CHOICE, STEER, Bandit, columns, loop_for
from trainer.checkpoints.checkpoint import load_document
from trainer.common.reporting.reporter import MemoryReporter, Notices
from trainer.networks.normaliser import Normalisers, ObservationNormaliser, ReturnNormaliser
from trainer.rollouts.experiences import by_agent
from trainer.rollouts.loading import LoadedRollout
from trainer.rollouts.outliers.recovery import recovered
from trainer.rollouts.outliers.rollouts import limit_outliers
from trainer.rollouts.outliers.search import Usual, find, without_outliers

GAMMA = 0.99


def notice(loop, code):
    return next((e.message for e in loop.reporter.events if isinstance(e, Notice) and e.code == code), "")


def changed(rollout, column, row, value):
    """Return a rollout with another number in one row; `column` may have an index, as in observations.3."""
    name, _, index = column.partition(".")
    array = getattr(rollout, name).copy()
    array[(row, int(index)) if index else row] = value
    return dataclasses.replace(rollout, **{name: array})


def normalisers_of(loop):
    document = load_document((loop.output / loop.result.checkpoint).read_bytes())
    return Normalisers.from_state_dict(document["normalisers"])


def skill(model, env):
    return float(env.play(model, 64, noise=0.01).rewards.mean())


OUTLIERS = [
    ("rewards", 1e9, "reward is 1e+09"),
    ("rewards", -9e11, "reward is -9e+11 in 2 of 512 steps, otherwise "),
    ("observations.3", 1e8, "observation 3 is 1e+08"),
    ("actions.1", -9e11, "action throttle is -9e+11"),
    ("log_probs", -9e11, "log_prob is -9e+11"),
]


@pytest.mark.parametrize("algorithm", ["ppo", "td3"])
def test_one_number_in_one_rollout_changes_neither_statistics_nor_what_is_learned(tmp_path, algorithm):
    torch.set_num_threads(1)
    results = {}
    for name, outliers in (("without", ()), ("with", OUTLIERS)):
        (tmp_path / name).mkdir()
        env = Bandit(seed=3)
        loop = loop_for(env, tmp_path / name, algorithm=algorithm, updates_per_experience=0.1)
        model = loop.start()
        said = []
        for cycle in range(3):
            rollouts = [env.play(model, 64) for _ in range(2)]
            if cycle == 1:
                for row, (column, value, _) in enumerate(outliers):
                    rollouts[1] = changed(rollouts[1], column, 100 + 7 * row, value)
            model = loop.train(*rollouts)
            said.append(notice(loop, "W_OUTLIERS"))
        results[name] = (normalisers_of(loop), skill(model, Bandit(seed=9)), said)
    (one, skill_one, nothing), (other, skill_other, said) = results["without"], results["with"]
    assert not any(nothing)
    assert [bool(text) for text in said] == [False, True, False]
    assert said[1].startswith("rollout_4: ")
    named = sum(text in said[1] for _, _, text in OUTLIERS)
    assert named == 3
    assert "; and 1 more: " in said[1]
    assert "in 1 of 512 steps, otherwise " in said[1]
    assert skill_other == pytest.approx(skill_one, abs=0.25)
    torch.testing.assert_close(one.observations.var_O, other.observations.var_O, rtol=0.1, atol=0)
    assert other.returns.std == pytest.approx(one.returns.std, rel=0.5)


def test_a_state_of_an_earlier_version_recovers(tmp_path):
    """Bandit rewards are within 5; a deviation of 1e8 came from one reward of 9e11."""
    torch.set_num_threads(1)
    env = Bandit(seed=1)
    loop = loop_for(env, tmp_path, algorithm="ppo")
    model = loop.train(env.play(loop.start(), 128))
    path = loop.output / loop.result.checkpoint
    document = load_document(path.read_bytes())
    observations, returns = document["normalisers"]["observations"], document["normalisers"]["returns"]
    observations["var"][2], observations["mean"][2], returns["std"] = 1e14, 3e5, 1e8
    del returns["reach"]
    torch.save(document, path)
    loop.train(env.play(model, 128))
    assert notice(loop, "W_RECOVERED").startswith("the statistics of observation 2 and the returns came from numbers")
    after = normalisers_of(loop)
    assert 0.5 < float(after.observations.scale_O[2]) < 2.0
    assert after.returns.std < 50.0
    for _ in range(2):
        loop.train(env.play(model, 128))
        assert not notice(loop, "W_RECOVERED")


def test_statistics_that_this_version_has_updated_do_not_start_again():
    wide = ObservationNormaliser(torch.zeros(2).double(), torch.full((2,), 1e8).double(), 1e5)
    still = np.random.default_rng(0).normal(size=(500, 2)).astype(np.float32)
    rewards = np.ones(500, np.float32)
    now = Normalisers(wide, ReturnNormaliser(0.0, 5.0, True, reach=10.0))
    assert recovered(now, still, rewards, GAMMA).normalisers is not None
    assert recovered(now, still, rewards, GAMMA).columns == ()
    earlier = Normalisers(wide, ReturnNormaliser(0.0, 5.0, True))
    assert recovered(earlier, still, rewards, GAMMA).columns == (0, 1)
    assert not recovered(earlier, still, rewards, GAMMA).has_new_returns


@pytest.mark.parametrize("seed", range(5))
def test_only_outliers_change_and_clean_steps_stay_the_same_objects(seed):
    rng = np.random.default_rng(seed)
    clean = by_agent(columns(512, seed=seed))
    usual = Usual.of(Normalisers.identity(4), GAMMA)
    assert without_outliers(clean, find(clean, STEER, usual)) is clean
    rows = rng.choice(512, 4, replace=False)
    values = rng.choice([-1.0, 1.0], 4) * 10.0 ** rng.uniform(4, 11, size=4)
    observation_BO, reward_B = clean.observation_BO.copy(), clean.reward_B.copy()
    observation_BO[rows[:2], 1], reward_B[rows[2:]] = values[:2], values[2:]
    dirty = dataclasses.replace(clean, observation_BO=observation_BO, reward_B=reward_B)
    fixed = without_outliers(dirty, find(dirty, STEER, usual))
    kept = np.setdiff1d(np.arange(512), rows)
    np.testing.assert_array_equal(fixed.observation_BO[kept], clean.observation_BO[kept])
    np.testing.assert_array_equal(fixed.reward_B[kept], clean.reward_B[kept])
    assert np.abs(fixed.observation_BO).max() <= np.abs(clean.observation_BO).max() + 1.0
    assert np.abs(fixed.reward_B).max() < 100.0


def test_the_first_and_the_last_step_of_a_rollout_are_limited_in_it():
    """Check rollouts of several agents, whose steps are in another order in the file than by agent."""
    rng = np.random.default_rng(0)
    clean, dirty = [], []
    for number in range(3):
        rollout = columns(120, seed=number, agents=rng.integers(0, 3, 120).astype(np.int32))
        order = np.argsort(rollout.agents, kind="stable")
        clean.append(rollout)
        dirty.append(changed(rollout, "rewards", order[{0: 60, 1: 0, 2: -1}[number]], 1e9))
    entries = [RolloutInput(name=f"r{n}.json", sha256=f"{n:064x}", source="", cache="", is_new=True) for n in range(3)]
    loaded = [LoadedRollout(entry, rollout) for entry, rollout in zip(entries, dirty, strict=True)]
    reporter = MemoryReporter()
    limited = limit_outliers(loaded, STEER, Usual.of(Normalisers.identity(4), GAMMA), Notices(reporter))
    assert [item.is_limited for item in limited] == [True] * 3
    for before, item in zip(clean, limited, strict=True):
        rewards = item.rollout.rewards
        assert np.abs(rewards).max() < 10.0
        assert (rewards != before.rewards).sum() == 1
        np.testing.assert_array_equal(item.rollout.observations, before.observations)
    [event] = reporter.events
    assert [event.message.count(f"r{number}.json: reward is 1e+09") for number in range(3)] == [1, 1, 1]


def test_final_observations_are_limited_and_rows_without_critic_observations_are_not_judged():
    rollout = columns(300, agents=np.tile(np.arange(3, dtype=np.int32), 100))
    finals = np.zeros((3, 4), np.float32)
    finals[1, 2] = -1e9
    critic = np.random.default_rng(0).normal(size=(300, 2)).astype(np.float32)
    critic[5], critic[9, 1] = np.nan, 1e10
    rollout = dataclasses.replace(
        rollout, final_observations=finals, final_agents=np.arange(3, dtype=np.int32), critic_observations=critic
    )
    steps = by_agent(rollout)
    found = find(steps, STEER, Usual.of(Normalisers.identity(4), GAMMA))
    assert sorted(one.name for one in found) == ["critic observation 1", "observation 2"]
    fixed = without_outliers(steps, found)
    assert np.abs(fixed.final_observation_FO).max() < 10.0
    assert np.isnan(fixed.critic_observation_BP).sum() == 2
    assert np.nanmax(fixed.critic_observation_BP) < 10.0


def test_choices_are_never_outliers():
    rollout = columns(400, space=CHOICE, actions=np.append(np.zeros(399), 2.0)[:, None].astype(np.float32))
    assert find(by_agent(rollout), CHOICE, Usual.of(Normalisers.identity(4), GAMMA)) == []


@pytest.mark.parametrize("std", [1.0, 1e3])
def test_values_cannot_drive_the_scale_beyond_what_rewards_allow(std):
    """Each cycle's targets are ten times the largest values: without a bound they would grow without end."""
    rewards = np.random.default_rng(0).uniform(-1, 1, 500).astype(np.float32)
    returns = ReturnNormaliser(0.0, std, True).reaching(rewards, GAMMA)
    for _ in range(60):
        values = returns.limited(returns.restored(np.linspace(-10.0, 10.0, 500)))
        grown = returns.updated(values, reward_std=5.0)
        assert grown.std <= 10.0 * returns.std
        returns = grown.reaching(rewards, GAMMA)
    assert returns.std <= returns.reach <= 2 * 100.1


def clock_rollout(n=300):
    """Return a rollout whose second observation is the time: 1.7e9 +- 30."""
    observations = np.random.default_rng(0).normal(size=(n, 15))
    observations[:, 1] = 1.7e9 + np.linspace(-30.0, 30.0, n)
    return observations


@pytest.mark.parametrize("form", ["v1", "v1 with null", "v2", "v2 base64"])
def test_a_clock_keeps_its_digits_until_the_mean_is_subtracted(tmp_path, form):
    observations = clock_rollout()
    rollout = dataclasses.replace(columns(300, observation_size=15), observations=narrowed(observations))
    assert rollout.observations.dtype == np.float64
    if form.startswith("v1"):
        import orjson

        document = v1_document(rollout)
        if form == "v1 with null":
            document["experiences"][0]["value"] = None
        data = orjson.dumps(document)
    else:
        data = rollout_to_v2(rollout, rollout_id="a", base64_columns=form.endswith("base64"))
    read = read_rollout(data)
    np.testing.assert_array_equal(read.observations, observations)
    from schemas.rollout.cache import load_rollout, store_rollout

    store_rollout(tmp_path / "a", read)
    stored = load_rollout(tmp_path / "a")
    np.testing.assert_array_equal(stored.observations, observations)
    steps = by_agent(stored)
    normaliser = ObservationNormaliser.identity(15).updated(steps.observation_BO)
    assert float(normaliser.var_O[1].sqrt()) == pytest.approx(observations[:, 1].std(), rel=1e-6)
    clock = (normaliser(steps.observation_BO).double() * normaliser.scale_O + normaliser.mean_O)[:, 1].numpy()
    assert np.abs(clock - observations[:, 1]).max() < 1e-4


def test_other_columns_are_float32_as_before():
    rng = np.random.default_rng(0)
    for column in (rng.normal(size=500), np.full(500, 1.7e9), 1e6 + rng.normal(size=500) * 100, np.zeros(500)):
        assert narrowed(column[:, None]).dtype == np.float32
    dirty = clock_rollout()
    dirty[7, 1], dirty[8, 1], dirty[9, 0] = 0.0, 9e11, np.nan
    assert narrowed(dirty).dtype == np.float64


def test_training_on_a_clock_works(tmp_path):
    torch.set_num_threads(1)
    env = Bandit()
    loop = loop_for(env, tmp_path, algorithm="td3", updates_per_experience=0.05)
    model = loop.start()
    for _ in range(2):
        rollout = env.play(model, 64)
        observations = rollout.observations.astype(np.float64)
        observations[:, 3] = 1.7e9 + np.arange(rollout.size) / 60.0
        model = loop.train(dataclasses.replace(rollout, observations=observations))
    assert not {"W_OUTLIERS", "W_RECOVERED"} & set(loop.reporter.codes())
    with pytest.raises(RolloutError):
        loop.train()
