"""A small training problem for the tests of the update."""

import torch

from schemas.contract import ContinuousActions, DiscreteActions, PolicyContract
from trainer.networks.distributions import distribution_for
from trainer.networks.network import Shape, build_network
from trainer.ppo.loss import LossConfig
from trainer.ppo.update import UpdateConfig
from trainer.rollouts.batch import Batch

STEER = ContinuousActions.named(("steer", "throttle", "brake"))
SPACES = {"continuous": STEER, "one action": ContinuousActions.named(("steer",)), "discrete": DiscreteActions(n=5)}


def loss_config(**given):
    usual = {"clip_range": 0.2, "value_clip_range": None, "value_coef": 0.5, "entropy_coef": 0.01}
    return LossConfig(**(usual | given))


def update_config(**given):
    usual = {"epochs": 1, "batch_size": 64, "learning_rate": 3e-4, "max_grad_norm": 0.5, "target_kl": None}
    settings = {"loss": loss_config(), "seed": 3, "cycle": 1, "bfloat16": False, "threads": 1}
    return UpdateConfig(**(usual | settings | given))


def make_problem(space, n=300, *, seed=0, inputs=6, hidden=(32, 24), std_scale=1.0, at_bounds=0.4, far=0.3):
    """Return a network, its distribution, and experiences of a policy that is `far` from it.

    `at_bounds` is the part of the actions that are at a bound.
    """
    torch.manual_seed(seed)
    distribution = distribution_for(space)
    contract = PolicyContract(observation_size=inputs, action_space=space)
    network = build_network(Shape.of(contract, hidden), custom="", seed=seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    observation_BO = torch.randn(n, inputs) * 2.0
    if isinstance(space, DiscreteActions):
        action = torch.randint(0, space.n, (n, 1)).float()
    else:
        low, high = torch.tensor(space.low), torch.tensor(space.high)
        action = low + (high - low) * torch.rand(n, len(space.names))
        bound = torch.where(torch.rand_like(action) < 0.5, low, high)
        action = torch.where(torch.rand_like(action) < at_bounds, bound, action)
    action_BC = distribution.encode(action, torch.full((n,), std_scale))
    with torch.no_grad():
        output_BK, value_B = network(observation_BO)
        logp_B = distribution.log_prob(output_BK, network.action_log_std, action_BC)
    batch = Batch(
        observation_BO=observation_BO,
        action_BC=action_BC,
        logp_B=logp_B + far * torch.randn(n),
        advantage_B=torch.randn(n),
        target_B=torch.randn(n),
        value_B=value_B + 0.3 * torch.randn(n),
        importance_weight_B=torch.rand(n) * 2.0,
    )
    return network, distribution, batch
