"""The censored normal against numeric integration and finite differences; the categorical against torch."""

import math

import numpy as np
import pytest
import torch

from schemas.contract import ContinuousActions, DiscreteActions
from trainer.networks.distributions import distribution_for, log_ndtr

SPACE = ContinuousActions.named(("steer", "throttle"))


def log_prob(output, log_std, action, std_scale=1.0, name="log_prob"):
    distribution = distribution_for(SPACE)
    encoded = distribution.encode(action, torch.full((len(action),), std_scale, dtype=action.dtype))
    return getattr(distribution, name)(output, log_std, encoded)


@pytest.mark.parametrize("std_scale", [1.0, 0.3, 2.5])
def test_the_probability_of_each_action_adds_up_to_one(std_scale):
    """Tail below + integral between the bounds (trapezoidal rule) + tail above = 1."""
    output = torch.tensor([[0.7, -0.4]], dtype=torch.float64)
    log_std = torch.tensor([-0.5, 0.3], dtype=torch.float64)
    for i, (low, high) in enumerate(zip(SPACE.low, SPACE.high, strict=True)):
        grid = torch.linspace(low, high, 20001, dtype=torch.float64)
        middle = torch.tensor([0.0, 0.5], dtype=torch.float64).repeat(len(grid), 1)
        moving = middle.clone()
        moving[:, i] = grid
        logp = log_prob(output.expand(len(grid), 2), log_std, moving, std_scale)
        other = log_prob(output, log_std, middle[:1], std_scale) - one_normal(output, log_std, middle[:1], std_scale, i)
        mass = (logp - other).exp()
        total = torch.trapezoid(mass[1:-1], grid[1:-1]) + mass[0] + mass[-1]
        assert float(total) == pytest.approx(1.0, abs=2e-4)


def one_normal(output, log_std, action, std_scale, i):
    normal = torch.distributions.Normal(output.tanh(), log_std.exp() * std_scale)
    return normal.log_prob(action)[:, i]


def test_between_the_bounds_the_likelihood_is_the_normal_density():
    output, action = torch.randn(50, 2), torch.rand(50, 2) * 0.8 + 0.1
    log_std = torch.tensor([-0.7, -1.2])
    expected = torch.distributions.Normal(output.tanh(), log_std.exp() * 0.6).log_prob(action).sum(dim=1)
    torch.testing.assert_close(log_prob(output, log_std, action, 0.6), expected)
    torch.testing.assert_close(log_prob(output, log_std, action, 0.6, "clamped_log_density"), expected)


def test_at_a_bound_the_engine_records_the_density_and_training_uses_the_tail():
    output, action = torch.zeros(1, 2), torch.tensor([[1.0, 0.0]])
    log_std = torch.full((2,), math.log(0.5))
    engine = torch.distributions.Normal(0.0, 0.5).log_prob(action).sum(dim=1)
    torch.testing.assert_close(log_prob(output, log_std, action, name="clamped_log_density"), engine)
    mass = math.log(0.5 * math.erfc(2.0 / math.sqrt(2.0))) + math.log(0.5)
    assert float(log_prob(output, log_std, action)) == pytest.approx(mass, rel=1e-5)


def test_the_gradient_is_that_of_finite_differences():
    torch.manual_seed(0)
    output = torch.randn(6, 2, dtype=torch.float64, requires_grad=True)
    log_std = torch.tensor([-0.7, 0.2], dtype=torch.float64, requires_grad=True)
    action = torch.tensor([[1, 1], [-1, 0], [0.3, 0.2], [1, 0.4], [-1, 1], [0, 0]], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda o, s: log_prob(o, s, action, 0.7), (output, log_std))


def test_the_gradient_of_log_ndtr_is_exact_for_very_negative_arguments():
    x = torch.tensor([-200.0, -30.0, -5.0, 0.0, 5.0, 30.0], requires_grad=True)
    log_ndtr(x).sum().backward()
    exact = [200.005, 30.0332, 5.18650, 0.797885, 1.48672e-06, 0.0]
    torch.testing.assert_close(x.grad, torch.tensor(exact), rtol=1e-4, atol=1e-12)


def test_the_score_of_sampled_and_clamped_actions_has_mean_zero():
    """E[d log p / d parameter] = 0 for the correct likelihood, but not for the density of the clamped action."""
    rng = np.random.default_rng(0)
    log_std = torch.full((2,), math.log(0.5))
    drawn = np.clip(np.tanh(0.9) + 0.5 * rng.normal(size=(200_000, 2)), SPACE.low, SPACE.high)
    action = torch.tensor(drawn, dtype=torch.float32)
    scores = {}
    for name in ("log_prob", "clamped_log_density"):
        output = torch.full((1, 2), 0.9, requires_grad=True)
        log_prob(output.expand(len(action), 2), log_std, action, name=name).mean().backward()
        scores[name] = output.grad.abs().max().item()
    assert scores["log_prob"] < 0.005
    assert scores["clamped_log_density"] > 0.1  # the control


def test_the_entropy_is_that_of_the_normal_without_clamping():
    log_std = torch.tensor([-0.3, 0.4])
    expected = torch.distributions.Normal(torch.zeros(2), log_std.exp()).entropy().sum()
    torch.testing.assert_close(distribution_for(SPACE).entropy(torch.zeros(3, 2), log_std), expected)


def test_an_action_beyond_its_bound_counts_as_being_at_it():
    output, log_std = torch.zeros(2, 2), torch.zeros(2)
    logp = log_prob(output, log_std, torch.tensor([[1.5, -3.0], [1.0, 0.0]]))
    assert logp[0] == logp[1]


def test_discrete_actions_are_categorical():
    distribution = distribution_for(DiscreteActions(n=4))
    logits, choice = torch.randn(30, 4), torch.randint(0, 4, (30, 1)).float()
    expected = torch.distributions.Categorical(logits=logits)
    encoded = distribution.encode(choice, torch.ones(30))
    none = torch.zeros(0)
    torch.testing.assert_close(distribution.log_prob(logits, none, encoded), expected.log_prob(choice[:, 0]))
    torch.testing.assert_close(distribution.entropy(logits, none), expected.entropy().mean())
    assert distribution.mean(logits) is logits
