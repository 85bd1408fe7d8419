"""The critics' written-out derivatives against autograd, and new statistics that change no value."""

import pytest
import torch

from tests.trainer.off_policy.problem import OBSERVATIONS, plain_critics, vector_of
from trainer.networks.normaliser import ObservationNormaliser, ReturnNormaliser
from trainer.off_policy.critics import CriticPass, Critics

SIZES = {"one value": (8, 20, 12, 1), "choices": (5, 16, 4), "deep": (6, 10, 9, 8, 7, 1)}


def random_critics(sizes, count=2, seed=0):
    critics = Critics.initial(count, sizes, seed=seed)
    critics.vector.add_(torch.randn_like(critics.vector) * 0.1)
    return critics


def ranges(sizes, n=50):
    """Return inputs of very different sizes."""
    return torch.randn(n, sizes[0]) * torch.logspace(-2, 2, n)[:, None]


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("count", [1, 2, 3])
def test_values_and_gradients_are_those_of_autograd(sizes, count):
    torch.manual_seed(count)
    critics = random_critics(sizes, count)
    plain, computed = plain_critics(critics), CriticPass(critics)
    x = ranges(sizes).requires_grad_()
    expected = torch.stack([critic(x) for critic in plain])
    value = computed.forward(x.detach())
    torch.testing.assert_close(value, expected, rtol=1e-10, atol=1e-10)
    value_grad = torch.randn_like(value)
    expected.backward(value_grad)
    gradient = torch.full_like(critics.vector, torch.nan)
    computed.backward(value_grad, *critics.views(gradient))
    with torch.no_grad():
        for parameter in plain.parameters():
            parameter.copy_(parameter.grad)
    torch.testing.assert_close(gradient, vector_of(plain, critics), rtol=1e-8, atol=1e-10)
    action_grad = computed.action_gradient(value_grad, 3)
    torch.testing.assert_close(action_grad, x.grad[:, -3:], rtol=1e-8, atol=1e-10)


@pytest.mark.usefixtures("float64")
def test_a_pass_through_the_first_critic_alone_is_that_critic():
    critics = random_critics(SIZES["one value"])
    x = ranges(SIZES["one value"]).requires_grad_()
    alone = CriticPass(critics, 1)
    value = alone.forward(x.detach())
    expected = plain_critics(critics)[0](x)
    torch.testing.assert_close(value[0], expected.detach(), rtol=1e-10, atol=1e-10)
    expected.sum().backward()
    action_grad = alone.action_gradient(torch.ones_like(value), 3)
    torch.testing.assert_close(action_grad, x.grad[:, -3:], rtol=1e-8, atol=1e-10)


def test_a_critic_learns_alone():
    """The derivative of one critic's values leaves the gradient of the others 0."""
    critics = random_critics(SIZES["one value"])
    computed, gradient = CriticPass(critics), torch.empty_like(critics.vector)
    value = computed.forward(ranges(SIZES["one value"]))
    grad = torch.zeros_like(value)
    grad[0] = 1.0
    weights, biases = critics.views(gradient)
    computed.backward(grad, weights, biases)
    for column in (*weights, *biases):
        assert column[0].any()
        assert not column[1].any()


def test_new_critics_differ_from_each_other_and_value_everything_as_average():
    critics = Critics.initial(2, (8, 128, 128, 1), seed=3)
    value = CriticPass(critics).forward(torch.randn(500, 8))
    assert value.abs().max() < 0.1
    assert not torch.equal(value[0], value[1])
    assert torch.equal(critics.vector, Critics.initial(2, (8, 128, 128, 1), seed=3).vector)
    assert not torch.equal(critics.vector, Critics.initial(2, (8, 128, 128, 1), seed=4).vector)


@pytest.mark.usefixtures("float64")
def test_new_statistics_of_observations_and_returns_change_no_value():
    """Critics get normalised observations and raw actions. One of the columns is constant until it changes."""
    torch.manual_seed(0)
    actions, n = 3, 200
    critics = random_critics((OBSERVATIONS + actions, 20, 12, 1))
    raw = torch.randn(n, OBSERVATIONS, dtype=torch.float64) * torch.tensor([1.0, 30.0, 1e-3, 1e4, 0.0])
    raw += torch.tensor([0.0, 100.0, 1.0, -1e4, 5.0])
    before = ObservationNormaliser.identity(OBSERVATIONS).updated(raw.numpy())
    after = before.updated((raw * 3.0 + 2.0 + torch.randn_like(raw)).numpy())
    returns = ReturnNormaliser(3.0, 0.5, True), ReturnNormaliser(-70.0, 900.0, True)
    action = torch.randn(n, actions)

    def values(observations, normaliser):
        normal = (raw - observations.mean_O) / observations.scale_O
        value = CriticPass(critics).forward(torch.cat([normal, action], dim=1))
        return value * normaliser.std + normaliser.mean

    expected = values(before, returns[0])
    critics.rescale_inputs(before, after)
    critics.rescale_values(*returns)
    torch.testing.assert_close(values(after, returns[1]), expected, rtol=1e-6, atol=1e-6)
