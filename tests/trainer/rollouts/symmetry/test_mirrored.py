"""Learning from mirror images: exact likelihoods, weights and values, a symmetric normaliser, a symmetric policy."""

from __future__ import annotations

import copy
import dataclasses

import numpy as np
import pytest
import torch
from scipy.stats import norm

from schemas.errors import ConfigError
from schemas.mirror import Mirror
from schemas.settings.mirror import MirrorSettings
from tests.trainer.toy import CHOICE, STEER, Bandit, columns, loop_for
from trainer.networks.distributions import distribution_for
from trainer.networks.normaliser import ObservationNormaliser
from trainer.ppo.autograd import evaluate
from trainer.ppo.loss import LossConfig, ppo_loss
from trainer.rollouts.batch import Batch
from trainer.rollouts.behaviour_policy import AttributedRollouts, PolicySource
from trainer.rollouts.evaluation import PolicyOutputs
from trainer.rollouts.experiences import by_agent
from trainer.rollouts.symmetry.mirrored import mirrored_weights, symmetric_normaliser
from trainer.rollouts.training_set import rescale_and_build

DRIVING = MirrorSettings(observation_pairs=((2, 3),), observation_signs=(0,), action_signs=("steer",))
CHOOSING = MirrorSettings(observation_pairs=((0, 1),), choice_pairs=((0, 1),))


def captured_set(loop, model, env, mirror, monkeypatch, **kwargs):
    """Train one cycle with a mirror, and return its training set and its parent's model."""
    captured = {}

    def spy(*arguments):
        captured["set"] = rescale_and_build(*arguments)
        return captured["set"]

    monkeypatch.setattr("trainer.worker.train.rescale_and_build", spy)
    loop.train(env.play(model, 64), mirror=mirror, **kwargs)
    monkeypatch.undo()
    return captured["set"]


def log_likelihood(mean, log_std, action):
    """Return the likelihood of clamped actions, written out with scipy: a tail at a bound, a density between them."""
    std = np.exp(log_std.astype(np.float64))
    total = np.zeros(len(action))
    for column, (low, high) in enumerate(zip(STEER.low, STEER.high, strict=True)):
        a, m, s = action[:, column], mean[:, column].astype(np.float64), std[column]
        inside = norm.logpdf(a, m, s)
        total += np.where(a >= high, norm.logsf(high, m, s), np.where(a <= low, norm.logcdf(low, m, s), inside))
    return total


def test_likelihoods_weights_and_values_of_mirror_images_are_computed(tmp_path, monkeypatch):
    """Continuous, third cycle: compared with what the parent's JSON computes, and scipy."""
    env = Bandit(agents=16)
    loop = loop_for(env, tmp_path, learning_rate=5e-3)
    model = loop.train(env.play(loop.start(), 64))
    model = loop.train(env.play(model, 64))  # not symmetric
    found = captured_set(loop, model, env, DRIVING, monkeypatch)
    mirror = Mirror.of(DRIVING, loop.contract)
    train, half = found.train, found.train.size // 2
    assert found.size == 64 * 16
    assert train.size + found.held_out.size == 2 * found.size
    normaliser = found.normalisers.observations
    observation = train.observation_BO.double() * normaliser.scale_O + normaliser.mean_O
    action = train.action_BC[:, :2].numpy()
    np.testing.assert_allclose(mirror.observations(observation[:half].numpy()), observation[half:].numpy(), atol=1e-5)
    np.testing.assert_array_equal(mirror.actions(action[:half]), action[half:])
    logp = log_likelihood(model.mean(observation.float().numpy()), model.action_log_std, action)
    np.testing.assert_allclose(train.logp_B.numpy(), logp, atol=2e-4)
    assert np.abs(logp[half:] - logp[:half]).max() > 0.05, "copied likelihoods would be wrong"
    weight = train.importance_weight_B.double().numpy()
    expected = np.minimum(np.exp(logp[half:] - logp[:half]), 1.0)  # the parent generated the originals
    np.testing.assert_allclose(weight[half:] / weight[:half], expected, rtol=1e-3)
    assert weight.mean() == pytest.approx(1.0)
    value = found.normalisers.returns.restored(train.value_B.double().numpy())
    np.testing.assert_allclose(value, model.value(observation.float().numpy()), rtol=1e-3, atol=1e-3)
    for name in ("advantage_B", "target_B"):
        torch.testing.assert_close(getattr(train, name)[:half], getattr(train, name)[half:])


def test_the_same_segments_are_held_out_of_both_halves(tmp_path, monkeypatch):
    env = Bandit(agents=4)
    loop = loop_for(env, tmp_path, holdout_fraction=0.25)
    model = loop.start()
    found = captured_set(loop, model, env, DRIVING, monkeypatch)
    held, train = (batch.observation_BO.numpy() for batch in (found.held_out, found.train))
    mirror = Mirror.of(DRIVING, loop.contract)
    half = len(held) // 2
    np.testing.assert_allclose(mirror.observations(held[:half]), held[half:], atol=1e-5)
    assert not {tuple(row) for row in held.round(4)} & {tuple(row) for row in train.round(4)}


def test_the_normaliser_is_symmetric():
    mirror = Mirror.of(DRIVING, loop_for(Bandit(), None).contract)
    rng = np.random.default_rng(0)
    observations = (rng.normal(size=(500, 4)) * [1, 2, 3, 4] + [5, 6, 7, 8]).astype(np.float32)
    found = symmetric_normaliser(ObservationNormaliser.identity(4).updated(observations), mirror)
    expected = ObservationNormaliser.identity(4).updated(
        np.concatenate([observations, mirror.observations(observations)])
    )
    torch.testing.assert_close(found.mean_O, expected.mean_O, atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(found.var_O, expected.var_O)
    assert found.count == 500
    again = symmetric_normaliser(found, mirror)
    torch.testing.assert_close(again.mean_O, found.mean_O)
    torch.testing.assert_close(again.var_O, found.var_O)


def test_a_weight_compares_with_the_behaviour_policy_of_the_original():
    """Each kind of step: the parent's, a published model's, another policy's, and one without a log_prob."""
    sources = [PolicySource.PARENT, PolicySource.PUBLISHED, PolicySource.FOREIGN, PolicySource.UNKNOWN]
    original, image = np.full(4, -1.0, np.float32), np.array([-1.5, -1.2, -9.0, -3.0], np.float32)
    density = np.array([0.0, 0.0, -0.7, 0.0], np.float32)
    attributed = AttributedRollouts(
        experiences=dataclasses.replace(by_agent(columns(4)), segment_B=np.array([0, 0, 0, 1])),
        policy_source_B=np.array(sources, dtype=np.int8),
        behaviour_logp_B=np.array([-99.0, -0.2, -0.5, 0.0]),
        std_scale_B=np.ones(4, np.float32),
        is_stale_B=np.zeros(4, bool),
    )

    def outputs(logp, density):
        empty = torch.zeros(4, 0)
        return PolicyOutputs(empty, torch.from_numpy(logp), torch.from_numpy(density), torch.zeros(4), torch.zeros(0))

    weights = mirrored_weights(attributed, outputs(original, original), outputs(image, density))
    np.testing.assert_allclose(weights, np.exp([-0.5, -1.0, -0.2, -2.0]), rtol=1e-6)


@pytest.mark.parametrize(("space", "declared"), [(STEER, DRIVING), (CHOICE, CHOOSING)], ids=["continuous", "discrete"])
def test_the_gradient_of_mirror_images_is_the_mirror_image_of_the_gradient(tmp_path, monkeypatch, space, declared):
    """A network with mirrored weights computes for the images what the network computes for the originals."""
    env = Bandit(space=space, agents=16, scale=3.0, shift=2.0)
    loop = loop_for(env, tmp_path, learning_rate=5e-3)
    found = captured_set(loop, loop.train(env.play(loop.start(), 64)), env, declared, monkeypatch)
    distribution, mirror = distribution_for(space), Mirror.of(declared, loop.contract)
    half = found.train.size // 2
    columns_of = {name: getattr(found.train, name) for name in Batch.__slots__}
    original = Batch(**{name: column[:half] for name, column in columns_of.items()})
    same = ("logp_B", "value_B", "importance_weight_B")  # of the mirrored policy for the images
    image = Batch(**{name: column[:half] if name in same else column[half:] for name, column in columns_of.items()})

    def gradient(network, batch):
        network.zero_grad()
        ppo_loss(batch, evaluate(network, distribution, batch), LossConfig(0.2, None, 0.5, 0.01)).total.backward()
        return {name: p.grad.clone() for name, p in network.named_parameters() if p.numel()}

    def mirrored(name, values):
        index, sign = torch.from_numpy(mirror.output_index_K), torch.from_numpy(mirror.output_sign_K)
        if name in ("policy_layers.0.weight", "value_layers.0.weight"):
            return values[:, torch.from_numpy(mirror.observation_index_O)] * torch.from_numpy(mirror.observation_sign_O)
        if name.startswith("policy_head"):
            return values[index] * (sign[:, None] if values.ndim == 2 else sign)
        return values[index] if name == "action_log_std" and values.numel() else values

    network = copy.deepcopy(found.network)
    expected = {name: mirrored(name, values) for name, values in gradient(network, original).items()}
    with torch.no_grad():
        for name, p in network.named_parameters():
            p.copy_(mirrored(name, p.detach().clone()))
    for name, values in gradient(network, image).items():
        torch.testing.assert_close(values, expected[name], atol=2e-5, rtol=1e-3, msg=name)
        assert values.abs().max() > 0


@pytest.mark.parametrize(("space", "mirror"), [(STEER, DRIVING), (CHOICE, CHOOSING)], ids=["continuous", "discrete"])
def test_a_policy_learns_from_experiences_and_their_mirror_images(tmp_path, space, mirror):
    env = Bandit(space=space, agents=16)
    loop = loop_for(env, tmp_path, gamma=0.5, entropy_coef=0.0, learning_rate=2e-3)
    model = loop.start()
    before = float(env.play(model, 60).rewards.mean())
    for _ in range(4):
        model = loop.train(env.play(model, 64), mirror=mirror)
        assert "W_MIRROR" not in loop.reporter.codes()
        assert loop.result.experiences == 64 * 16
    assert float(env.play(model, 60).rewards.mean()) > before + 0.15


def test_a_mirror_that_does_not_fit_the_contract_fails_the_job_with_a_remedy(tmp_path):
    env = Bandit()
    loop = loop_for(env, tmp_path)
    rollout = env.play(loop.start(), 8)
    with pytest.raises(ConfigError, match=r"agent\.mirror\.observation_signs names observation 9, but they are 0 to 3"):
        loop.train(rollout, mirror=MirrorSettings(observation_signs=(9,)))
