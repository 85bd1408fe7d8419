"""The censored normal against numeric integration, gradcheck and its own score; the categorical against torch's."""

import math

import numpy as np
import pytest
import torch

from schemas.contract import ContinuousActions, DiscreteActions
from trainer.networks.distributions import distribution_for, log_ndtr

SPACE = ContinuousActions.named(("steer", "throttle"))


def log_prob(output, log_std, action, noise=1.0, name="log_prob"):
    head = distribution_for(SPACE)
    packed = head.encode(action, torch.full((len(action),), noise, dtype=action.dtype))
    return getattr(head, name)(output, log_std, packed)


@pytest.mark.parametrize("noise", [1.0, 0.3, 2.5])
def test_the_mass_of_each_action_adds_up_to_one(noise):
    """Tail below + integral between + tail above = 1, by the trapezoidal rule."""
    output = torch.tensor([[0.7, -0.4]], dtype=torch.float64)
    log_std = torch.tensor([-0.5, 0.3], dtype=torch.float64)
    for i, (low, high) in enumerate(zip(SPACE.low, SPACE.high, strict=True)):
        grid = torch.linspace(low, high, 20001, dtype=torch.float64)
        middle = torch.tensor([0.0, 0.5], dtype=torch.float64).repeat(len(grid), 1)
        moving = middle.clone()
        moving[:, i] = grid
        logp = log_prob(output.expand(len(grid), 2), log_std, moving, noise)
        other = log_prob(output, log_std, middle[:1], noise) - one_normal(output, log_std, middle[:1], noise, i)
        mass = (logp - other).exp()
        total = torch.trapezoid(mass[1:-1], grid[1:-1]) + mass[0] + mass[-1]
        assert float(total) == pytest.approx(1.0, abs=2e-4)


def one_normal(output, log_std, action, noise, i):
    normal = torch.distributions.Normal(output.tanh(), log_std.exp() * noise)
    return normal.log_prob(action)[:, i]


def test_between_the_bounds_it_is_the_normal_density():
    output, action = torch.randn(50, 2), torch.rand(50, 2) * 0.8 + 0.1
    log_std = torch.tensor([-0.7, -1.2])
    expected = torch.distributions.Normal(output.tanh(), log_std.exp() * 0.6).log_prob(action).sum(dim=1)
    torch.testing.assert_close(log_prob(output, log_std, action, 0.6), expected)
    torch.testing.assert_close(log_prob(output, log_std, action, 0.6, "density"), expected)


def test_what_the_engine_records_at_a_bound_is_the_density_there_and_not_the_mass():
    output, action = torch.zeros(1, 2), torch.tensor([[1.0, 0.0]])
    log_std = torch.full((2,), math.log(0.5))
    engine = torch.distributions.Normal(0.0, 0.5).log_prob(action).sum(dim=1)
    torch.testing.assert_close(log_prob(output, log_std, action, name="density"), engine)
    mass = math.log(0.5 * math.erfc(2.0 / math.sqrt(2.0))) + math.log(0.5)
    assert float(log_prob(output, log_std, action)) == pytest.approx(mass, rel=1e-5)


def test_gradients_are_those_of_finite_differences():
    torch.manual_seed(0)
    output = torch.randn(6, 2, dtype=torch.float64, requires_grad=True)
    log_std = torch.tensor([-0.7, 0.2], dtype=torch.float64, requires_grad=True)
    action = torch.tensor([[1, 1], [-1, 0], [0.3, 0.2], [1, 0.4], [-1, 1], [0, 0]], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda o, s: log_prob(o, s, action, 0.7), (output, log_std))


def test_the_gradient_stays_exact_far_outside():
    x = torch.tensor([-200.0, -30.0, -5.0, 0.0, 5.0, 30.0], requires_grad=True)
    log_ndtr(x).sum().backward()
    exact = [200.005, 30.0332, 5.18650, 0.797885, 1.48672e-06, 0.0]
    torch.testing.assert_close(x.grad, torch.tensor(exact), rtol=1e-4, atol=1e-12)


def test_the_score_of_what_the_engine_really_does_has_mean_zero():
    """Sample, clamp, differentiate: unbiased only if the likelihood knows of the clamping. The density does not."""
    rng = np.random.default_rng(0)
    log_std = torch.full((2,), math.log(0.5))
    drawn = np.clip(np.tanh(0.9) + 0.5 * rng.normal(size=(200_000, 2)), SPACE.low, SPACE.high)
    action = torch.tensor(drawn, dtype=torch.float32)
    scores = {}
    for name in ("log_prob", "density"):
        output = torch.full((1, 2), 0.9, requires_grad=True)
        log_prob(output.expand(len(action), 2), log_std, action, name=name).mean().backward()
        scores[name] = output.grad.abs().max().item()
    assert scores["log_prob"] < 0.005
    assert scores["density"] > 0.1  # the control


def test_the_entropy_is_that_of_the_unclamped_normal():
    log_std = torch.tensor([-0.3, 0.4])
    expected = torch.distributions.Normal(torch.zeros(2), log_std.exp()).entropy().sum()
    torch.testing.assert_close(distribution_for(SPACE).entropy(torch.zeros(3, 2), log_std), expected)


def test_an_action_beyond_its_bound_counts_as_lying_at_it():
    output, log_std = torch.zeros(2, 2), torch.zeros(2)
    logp = log_prob(output, log_std, torch.tensor([[1.5, -3.0], [1.0, 0.0]]))
    assert logp[0] == logp[1]


def test_choices_are_categorical():
    head = distribution_for(DiscreteActions(n=4))
    logits, choice = torch.randn(30, 4), torch.randint(0, 4, (30, 1)).float()
    expected = torch.distributions.Categorical(logits=logits)
    packed = head.encode(choice, torch.ones(30))
    none = torch.zeros(0)
    torch.testing.assert_close(head.log_prob(logits, none, packed), expected.log_prob(choice[:, 0]))
    torch.testing.assert_close(head.entropy(logits, none), expected.entropy().mean())
    assert head.mean(logits) is logits
