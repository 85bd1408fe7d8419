"""The policy's and the value network's written-out gradient against autograd of the network."""

import pytest
import torch

from tests.trainer.off_policy.problem import CHOICE, OBSERVATIONS, STEER, make_network
from trainer.off_policy.policy_pass import PolicyPass


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("space", [STEER, CHOICE], ids=["continuous", "discrete"])
@pytest.mark.parametrize("rows", [1, 7, 300])
def test_outputs_and_gradients_are_those_of_autograd(space, rows):
    torch.manual_seed(rows)
    network, plain = make_network(space), make_network(space)
    x = torch.randn(rows, OBSERVATIONS)
    with torch.no_grad():
        passed = PolicyPass(network)
        output, value = passed.policy(x), passed.value(x)
        output_grad, value_grad = torch.randn_like(output), torch.randn_like(value)
        passed.gradient.fill_(0.0)
        passed.backward(output_grad)
        passed.backward_values(value_grad)
    expected_output, expected_value = plain(x)
    torch.testing.assert_close(output, expected_output.detach())
    torch.testing.assert_close(value[:, 0], expected_value.detach())
    ((expected_output * output_grad).sum() + (expected_value * value_grad[:, 0]).sum()).backward()
    gradients = dict(zip((id(p) for p in passed._flat.ordered), passed._flat.views(passed.gradient), strict=True))
    for name, parameter in network.named_parameters():
        expected = plain.get_parameter(name).grad
        assert (expected is None) == (name == "action_log_std")
        if expected is not None:
            torch.testing.assert_close(gradients[id(parameter)], expected, rtol=1e-9, atol=1e-11)


def test_the_network_computes_with_the_vector_that_is_trained():
    network = make_network(STEER)
    passed, x = PolicyPass(network), torch.randn(4, OBSERVATIONS)
    with torch.no_grad():
        before = network(x)[0].clone()
        passed.vector.mul_(0.5)
        assert not torch.allclose(network(x)[0], before)
        torch.testing.assert_close(network(x)[0], passed.policy(x))
