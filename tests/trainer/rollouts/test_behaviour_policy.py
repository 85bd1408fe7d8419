"""Who played: the right model is found, noise and all, and what fits none is a stranger's."""

import dataclasses

import numpy as np
import pytest

from schemas.contract import PolicyContract
from tests.trainer.toy import CHOICE, HIDDEN, STEER, Bandit, columns, loop_for
from trainer.rollouts.behaviour_policy import (
    CandidatePolicy,
    PolicySource,
    identify,
    importance_weights,
    log_probs_are_broken,
)
from trainer.rollouts.experiences import by_agent


def three_models(space, folder):
    """Three models that play differently."""
    made = []
    for seed in range(3):
        world = Bandit(space=space)
        loop = loop_for(world, folder / str(seed), seed=seed, learning_rate=1e-2)
        made.append(loop.train(world.play(loop.start(), 40)))
    return made


@pytest.fixture(scope="module")
def drivers(tmp_path_factory):
    return three_models(STEER, tmp_path_factory.mktemp("drivers"))


@pytest.fixture(scope="module", params=[STEER, CHOICE], ids=["continuous", "discrete"])
def models(request, tmp_path_factory):
    return three_models(request.param, tmp_path_factory.mktemp("models"))


def space_of(model):
    return model.contract.action_space


def who(rollout, *candidates, noise=None):
    space = rollout.contract.action_space
    return identify(by_agent(rollout), [CandidatePolicy(m, i == 0) for i, m in enumerate(candidates)], noise, space)


def test_the_model_that_played_is_found(models):
    rollout = Bandit(space=space_of(models[0])).play(models[1], 30)
    assert (who(rollout, *models).policy_source_B == PolicySource.PUBLISHED).all()
    assert (who(rollout, models[1]).policy_source_B == PolicySource.PARENT).all()
    assert who(rollout, *models).behind > 0.95
    assert who(rollout, models[1], models[0]).behind == 0.0


def test_a_model_loaded_in_the_middle_is_noticed(models):
    world = Bandit(space=space_of(models[0]), agents=1)
    one, two = world.play(models[0], 40), world.play(models[1], 40)
    both = dataclasses.replace(
        one,
        **{
            f.name: np.concatenate([getattr(one, f.name), getattr(two, f.name)])
            for f in dataclasses.fields(one)
            if isinstance(getattr(one, f.name), np.ndarray)
        },
    )
    player = who(both, models[0], models[1]).policy_source_B
    assert (player[:40] == PolicySource.PARENT).mean() > 0.95
    assert (player[40:] == PolicySource.PUBLISHED).mean() > 0.9


def test_others_are_strangers_and_their_own_log_prob_counts(models):
    rollout = Bandit(space=space_of(models[0])).play(models[2], 30)
    played = who(rollout, models[0])
    stranger = played.policy_source_B == PolicySource.FOREIGN
    assert stranger.mean() > 0.5
    np.testing.assert_array_equal(played.logp_B[stranger], by_agent(rollout).log_prob_B[stranger].astype(np.float64))


@pytest.mark.parametrize("noise", [0.05, 0.4, 3.0])
def test_version_1_does_not_say_its_noise_and_it_is_found(drivers, noise):
    rollout = Bandit(space=STEER).play(drivers[0], 60, noise=noise)
    played = who(rollout, drivers[1], drivers[0])
    assert played.fitted
    assert played.noise == pytest.approx(noise, rel=0.01)
    assert (played.policy_source_B == PolicySource.PUBLISHED).mean() > 0.95
    said = who(rollout, drivers[0], noise=noise)
    assert (said.policy_source_B == PolicySource.PARENT).all()
    assert not said.fitted


def test_no_noise_is_made_up_for_a_stranger(drivers):
    rollout = Bandit(space=STEER).play(drivers[2], 60)
    scrambled = dataclasses.replace(
        rollout, log_probs=np.random.default_rng(0).normal(-3, 2, rollout.size).astype("f4")
    )
    played = who(scrambled, drivers[0])
    assert (played.noise, played.fitted) == (1.0, False)


def test_log_probs_that_are_none_are_not_believed():
    zeros = columns(20, log_probs=np.zeros(20, np.float32))
    assert (who(zeros).policy_source_B == PolicySource.UNKNOWN).all()
    huge = columns(20, log_probs=np.linspace(50, 60, 20).astype(np.float32))
    assert log_probs_are_broken(huge.log_probs, STEER)
    even = columns(20, space=CHOICE, log_probs=np.full(20, -np.log(3), np.float32))
    assert (who(even).policy_source_B == PolicySource.FOREIGN).all()  # drawn evenly, and honestly recorded
    assert log_probs_are_broken(np.zeros(20, np.float32), CHOICE)


def test_weights_are_one_for_the_parents_own_and_never_more():
    start, density = np.array([0.0, 0.0, -3.0, -1.0]), np.array([9.0, 9.0, 9.0, -2.0])
    player = np.array(
        [PolicySource.PARENT, PolicySource.PUBLISHED, PolicySource.PUBLISHED, PolicySource.FOREIGN], np.int8
    )
    weights = importance_weights(start, density, player, np.array([5.0, -1.0, -2.0, -1.0]))
    np.testing.assert_allclose(weights, [1.0, 1.0, np.exp(-1.0), np.exp(-1.0)])
    unknown = importance_weights(start[:1], density[:1], np.array([PolicySource.UNKNOWN], np.int8), np.array([7.0]))
    assert unknown == 1.0


def test_the_toy_engine_and_the_contract_agree(models):
    assert models[0].contract == PolicyContract(observation_size=4, action_space=space_of(models[0]))
    assert models[0].hidden_sizes == HIDDEN
