"""The built-in network: its seed, its stacks, and values without the policy."""

import pytest
import torch

from schemas.contract import ContinuousActions, DiscreteActions, PolicyContract
from trainer.networks.network import Shape, build_network, run_stack

SPACES = [ContinuousActions.named(("steer", "throttle")), DiscreteActions(n=4)]


def make_network(space, *, seed=0, **given):
    contract = PolicyContract(observation_size=5, action_space=space)
    return build_network(Shape.of(contract, (16, 8)), custom="", seed=seed, **given)


@pytest.mark.parametrize("space", SPACES)
def test_its_stacks_compute_what_it_computes(space):
    network = make_network(space)
    x = torch.randn(50, 5)
    output, value = network(x)
    assert torch.equal(run_stack(network.stacks().policy, x), output)
    assert torch.equal(run_stack(network.stacks().value, x)[:, 0], value)


def test_values_do_not_run_the_policy():
    network = make_network(SPACES[0])
    x = torch.randn(50, 5)
    expected = network(x)[1]

    def fail(*given):
        raise AssertionError("the policy was run")

    network.policy_head.register_forward_hook(fail)
    network.policy_layers[0].register_forward_hook(fail)
    assert torch.equal(network.values(x), expected)
    with pytest.raises(AssertionError):
        network(x)


def test_the_seed_and_the_purpose_determine_the_weights_and_no_other_random_number():
    torch.manual_seed(1)
    expected = torch.rand(2)
    torch.manual_seed(1)
    first, same = make_network(SPACES[0], seed=3), make_network(SPACES[0], seed=3)
    assert torch.equal(torch.rand(2), expected)
    for a, b in zip(first.parameters(), same.parameters(), strict=True):
        assert torch.equal(a, b)
    for other in (make_network(SPACES[0], seed=4), make_network(SPACES[0], seed=3, purpose="another")):
        assert not torch.equal(first.policy_head.weight, other.policy_head.weight)


def test_a_discrete_policy_has_no_standard_deviation():
    assert make_network(SPACES[1]).action_log_std.numel() == 0
    assert make_network(SPACES[0]).action_log_std.numel() == 2
