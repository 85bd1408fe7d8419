"""The behaviour policy of each step is found, with its noise_std; steps that match no candidate are FOREIGN."""

import dataclasses

import numpy as np
import pytest

from schemas.contract import PolicyContract
from tests.trainer.toy import CHOICE, HIDDEN, STEER, Bandit, columns, loop_for
from trainer.rollouts.behaviour_policy import (
    CandidatePolicy,
    PolicySource,
    find_behaviour_policy,
    importance_weights,
    log_probs_are_broken,
    with_weights_of_unknown_steps,
)
from trainer.rollouts.experiences import by_agent


def three_models(space, folder):
    """Return three models that act differently."""
    made = []
    for seed in range(3):
        env = Bandit(space=space)
        loop = loop_for(env, folder / str(seed), seed=seed, learning_rate=1e-2)
        made.append(loop.train(env.play(loop.start(), 40)))
    return made


@pytest.fixture(scope="module")
def continuous_models(tmp_path_factory):
    return three_models(STEER, tmp_path_factory.mktemp("continuous"))


@pytest.fixture(scope="module", params=[STEER, CHOICE], ids=["continuous", "discrete"])
def models(request, tmp_path_factory):
    return three_models(request.param, tmp_path_factory.mktemp("models"))


def space_of(model):
    return model.contract.action_space


def attribute(rollout, *models, noise_std=None):
    """Attribute a rollout to these models, of which the first is the parent, and the others are outdated."""
    candidates = [CandidatePolicy(model, is_parent=i == 0, is_outdated=i > 0) for i, model in enumerate(models)]
    return find_behaviour_policy(by_agent(rollout), candidates, noise_std, rollout.contract.action_space)


def test_the_model_that_generated_a_rollout_is_found(models):
    rollout = Bandit(space=space_of(models[0])).play(models[1], 30)
    assert (attribute(rollout, *models).policy_source_B == PolicySource.PUBLISHED).all()
    assert (attribute(rollout, models[1]).policy_source_B == PolicySource.PARENT).all()
    assert attribute(rollout, *models).is_stale_B.mean() > 0.95
    assert not attribute(rollout, models[1], models[0]).is_stale_B.any()


def joined(one, two):
    """Return two rollouts as one file."""
    columns = [f.name for f in dataclasses.fields(one) if isinstance(getattr(one, f.name), np.ndarray)]
    return dataclasses.replace(one, **{c: np.concatenate([getattr(one, c), getattr(two, c)]) for c in columns})


def test_a_model_loaded_in_the_middle_is_noticed(models):
    env = Bandit(space=space_of(models[0]), agents=1)
    one, two = env.play(models[0], 40), env.play(models[1], 40)
    both = joined(one, two)
    source_B = attribute(both, models[0], models[1]).policy_source_B
    assert (source_B[:40] == PolicySource.PARENT).mean() > 0.95
    assert (source_B[40:] == PolicySource.PUBLISHED).mean() > 0.9


def test_steps_of_another_policy_keep_their_recorded_log_prob(models):
    rollout = Bandit(space=space_of(models[0])).play(models[2], 30)
    attributed = attribute(rollout, models[0])
    is_foreign_B = attributed.policy_source_B == PolicySource.FOREIGN
    assert is_foreign_B.mean() > 0.5
    recorded_B = by_agent(rollout).log_prob_B[is_foreign_B].astype(np.float64)
    np.testing.assert_array_equal(attributed.behaviour_logp_B[is_foreign_B], recorded_B)


def more_models(model, count):
    """Return models that act differently: the same one with other weights in its last policy layer."""
    rng = np.random.default_rng(0)
    weights = model.policy.head.weights

    def changed():
        head = dataclasses.replace(model.policy.head, weights=rng.normal(0, 1, weights.shape).astype(np.float32))
        return dataclasses.replace(model, policy=dataclasses.replace(model.policy, head=head))

    return [changed() for _ in range(count)]


@pytest.mark.parametrize("noise", [1.0, 0.3])
def test_the_model_is_found_among_many_wherever_it_is_in_the_list(continuous_models, noise):
    many = more_models(continuous_models[0], 23)
    rollout = Bandit(space=STEER).play(many[-1], 60, noise=noise)
    attributed = attribute(rollout, *many)
    assert (attributed.policy_source_B == PolicySource.PUBLISHED).mean() > 0.99
    assert attributed.is_stale_B.mean() > 0.95
    assert attributed.std_scale_B == pytest.approx(noise, rel=0.01)


def test_no_more_models_are_read_than_the_steps_need(continuous_models):
    read = []

    def candidates():
        for k, model in enumerate([continuous_models[0], *more_models(continuous_models[1], 10)]):
            read.append(k)
            yield CandidatePolicy(model, is_parent=k == 0)

    rollout = Bandit(space=STEER).play(continuous_models[0], 30)
    find_behaviour_policy(by_agent(rollout), candidates(), None, STEER)
    assert read == [0]


def test_two_clients_with_different_versions_are_told_apart_in_one_file(models):
    """Two clients that write into one rollout, or agents of one game that load at different times."""
    space = space_of(models[0])
    one, two = Bandit(space=space, agents=1).play(models[1], 40), Bandit(space=space, agents=1, seed=9)
    other = dataclasses.replace(two.play(models[2], 40), agents=np.ones(40, np.int32))
    both = joined(one, other)
    attributed = attribute(both, models[0], models[1], models[2])
    agent_B = np.sort(both.agents)
    assert (attributed.policy_source_B == PolicySource.PUBLISHED).mean() > 0.9
    for agent, alone in ((0, one), (1, other)):
        found = attributed.behaviour_logp_B[agent_B == agent]
        expected = attribute(alone, models[1 + agent]).behaviour_logp_B
        assert np.mean(np.abs(found - expected) < 1e-6) > 0.9


@pytest.mark.parametrize("missing", [np.nan, -np.inf, np.inf])
def test_steps_without_a_log_prob_are_unknown_and_do_not_disturb_the_others(models, missing):
    rollout = Bandit(space=space_of(models[0]), agents=1).play(models[1], 60)
    is_missing = np.arange(60) % 3 == 0
    spoilt = dataclasses.replace(rollout, log_probs=np.where(is_missing, missing, rollout.log_probs).astype("f4"))
    attributed = attribute(spoilt, *models)
    assert (attributed.policy_source_B[is_missing] == PolicySource.UNKNOWN).all()
    assert (attributed.policy_source_B[~is_missing] == PolicySource.PUBLISHED).all()
    assert np.isfinite(attributed.behaviour_logp_B).all()
    assert np.isfinite(attributed.std_scale_B).all()


def test_noise_is_fitted_although_log_probs_are_missing(continuous_models):
    rollout = Bandit(space=STEER).play(continuous_models[0], 60, noise=0.4)
    spoilt = dataclasses.replace(rollout, log_probs=np.where(np.arange(rollout.size) % 2, np.nan, rollout.log_probs))
    assert attribute(spoilt, continuous_models[0]).std_scale_B == pytest.approx(0.4, rel=0.01)


@pytest.mark.parametrize("noise", [0.05, 0.4, 3.0])
def test_a_noise_std_that_the_rollout_does_not_state_is_fitted(continuous_models, noise):
    rollout = Bandit(space=STEER).play(continuous_models[0], 60, noise=noise)
    fitted = attribute(rollout, continuous_models[1], continuous_models[0])
    assert fitted.std_scale_B == pytest.approx(noise, rel=0.01)
    assert (fitted.policy_source_B == PolicySource.PUBLISHED).mean() > 0.95
    stated = attribute(rollout, continuous_models[0], noise_std=noise)
    assert (stated.policy_source_B == PolicySource.PARENT).all()
    assert (stated.std_scale_B == np.float32(noise)).all()


def test_no_noise_std_is_fitted_to_another_policy(continuous_models):
    rollout = Bandit(space=STEER).play(continuous_models[2], 60)
    scrambled = dataclasses.replace(
        rollout, log_probs=np.random.default_rng(0).normal(-3, 2, rollout.size).astype("f4")
    )
    assert (attribute(scrambled, continuous_models[0]).std_scale_B == 1.0).all()


def test_log_probs_that_cannot_be_log_densities_are_unknown():
    zeros = columns(20, log_probs=np.zeros(20, np.float32))
    assert (attribute(zeros).policy_source_B == PolicySource.UNKNOWN).all()
    huge = columns(20, log_probs=np.linspace(50, 60, 20).astype(np.float32))
    assert log_probs_are_broken(huge.log_probs, STEER)
    even = columns(20, space=CHOICE, log_probs=np.full(20, -np.log(3), np.float32))
    assert (attribute(even).policy_source_B == PolicySource.FOREIGN).all()  # random choices, correctly recorded
    assert log_probs_are_broken(np.zeros(20, np.float32), CHOICE)


def test_steps_without_a_log_prob_are_unknown_and_do_not_affect_the_others(models):
    rollout = Bandit(space=space_of(models[0])).play(models[1], 30)
    log_probs = rollout.log_probs.copy()
    log_probs[::3] = np.nan
    attributed = attribute(dataclasses.replace(rollout, log_probs=log_probs), *models)
    recorded_B = np.isfinite(attributed.experiences.log_prob_B)
    assert (attributed.policy_source_B[recorded_B] == PolicySource.PUBLISHED).all()
    assert (attributed.policy_source_B[~recorded_B] == PolicySource.UNKNOWN).all()
    assert np.isfinite(attributed.behaviour_logp_B).all()
    complete = attribute(rollout, *models)
    np.testing.assert_allclose(attributed.behaviour_logp_B[recorded_B], complete.behaviour_logp_B[recorded_B], 1e-6)


def test_a_rollout_without_any_log_prob_is_unknown(models):
    rollout = Bandit(space=space_of(models[0])).play(models[1], 30)
    nothing = dataclasses.replace(rollout, log_probs=np.full(rollout.size, np.nan, np.float32))
    assert (attribute(nothing, *models).policy_source_B == PolicySource.UNKNOWN).all()


def test_an_unknown_step_has_the_weight_of_the_steps_around_it():
    source = np.array([PolicySource.FOREIGN, PolicySource.UNKNOWN, PolicySource.FOREIGN, PolicySource.UNKNOWN], np.int8)
    weights = with_weights_of_unknown_steps(np.array([0.25, 1.0, 0.75, 1.0]), source, np.array([0, 0, 0, 1]))
    assert weights.tolist() == [0.25, 0.5, 0.75, 1.0]


def test_weights_are_one_for_the_parents_steps_and_never_more():
    parent, density = np.array([0.0, 0.0, -3.0, -1.0]), np.array([9.0, 9.0, 9.0, -2.0])
    source = np.array(
        [PolicySource.PARENT, PolicySource.PUBLISHED, PolicySource.PUBLISHED, PolicySource.FOREIGN], np.int8
    )
    weights = importance_weights(parent, density, source, np.array([5.0, -1.0, -2.0, -1.0]))
    np.testing.assert_allclose(weights, [1.0, 1.0, np.exp(-1.0), np.exp(-1.0)])
    unknown = importance_weights(parent[:1], density[:1], np.array([PolicySource.UNKNOWN], np.int8), np.array([7.0]))
    assert unknown == 1.0


def test_the_toy_models_have_the_contract_of_their_environment(models):
    assert models[0].contract == PolicyContract(observation_size=4, action_space=space_of(models[0]))
    assert models[0].hidden_sizes == HIDDEN
