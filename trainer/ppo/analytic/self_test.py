"""A test of the analytic gradient on this machine's torch and CPU, before it is used."""

from __future__ import annotations

import copy
import functools
import math

import torch
from torch import Tensor

from schemas.contract import ContinuousActions, PolicyContract
from trainer.common.eager_adam import EagerAdam
from trainer.common.rng import rng_for
from trainer.networks.distributions import distribution_for
from trainer.networks.network import ActorCritic, Shape, build_network
from trainer.ppo.analytic import private_torch
from trainer.ppo.analytic.adam import FlatAdam
from trainer.ppo.analytic.gradient import AnalyticGradient
from trainer.ppo.analytic.network import StackedNetwork, ordered_parameters
from trainer.ppo.autograd import evaluate
from trainer.ppo.loss import LossConfig, ppo_loss
from trainer.ppo.update import ADAM_EPS, UpdateConfig
from trainer.rollouts.batch import Batch

_EXPERIENCES = 64
_STEPS = 3
_GRADIENT_TOLERANCE = 2e-5
"""Of the gradient's norm. Rounding leaves about 1e-7; matrix products in bfloat16, as some CPUs do them, 5e-5."""
_STEP_TOLERANCE = 1e-5
"""A thousandth of a step of Adam at this learning rate; rounding leaves about 1e-7."""
_CONTRACT = PolicyContract(observation_size=6, action_space=ContinuousActions.named(("steer", "throttle")))
_CONFIG = UpdateConfig(
    epochs=1,
    batch_size=_EXPERIENCES,
    learning_rate=1e-2,
    max_grad_norm=0.1,  # below the norm of this problem's gradients, so that they are clipped
    target_kl=None,
    loss=LossConfig(clip_range=0.2, value_clip_range=0.2, value_coef=0.5, entropy_coef=0.01),
    seed=0,
    cycle=0,
    bfloat16=False,
    threads=1,
)


@functools.cache
def find_problem() -> str:
    """Return why the analytic gradient cannot be used here; "" if it can. Tried once in a process, in about 10 ms."""
    if missing := private_torch.missing():
        return f"{' and '.join(missing)} does not exist"
    try:
        return _compare()
    except Exception as error:  # noqa: BLE001  a private function may raise anything
        return f"the analytic gradient failed ({type(error).__name__}: {error})"


def _compare() -> str:
    """Take a few steps on a small problem; return how they differ from those of autograd and torch.optim.Adam."""
    network, batch = _make_problem()
    reference = copy.deepcopy(network)
    distribution = distribution_for(_CONTRACT.action_space)
    stacked = StackedNetwork(network)
    gradient = AnalyticGradient(stacked, distribution, _CONFIG.loss, batch)
    gradient.shuffle(torch.arange(batch.size))
    adam = FlatAdam(stacked.flat, network, _CONFIG, {})
    parameters = ordered_parameters(reference)
    plain_adam = EagerAdam(parameters, lr=_CONFIG.learning_rate, eps=ADAM_EPS, foreach=False, fused=False)
    for _ in range(_STEPS):
        gradient.compute(slice(0, batch.size))
        gradients = [view.clone() for view in stacked.flat.views(stacked.flat.gradient)]
        loss = ppo_loss(batch, evaluate(reference, distribution, batch), _CONFIG.loss).total
        expected = torch.autograd.grad(loss, parameters)
        norm = math.sqrt(sum(float(g.square().sum()) for g in expected))
        if not _largest_difference(gradients, expected) <= _GRADIENT_TOLERANCE * norm:  # true for nan, too
            return "the analytic gradient differs from that of autograd"
        adam.step()
        for parameter, gradient_part in zip(parameters, gradients, strict=True):
            parameter.grad = gradient_part
        torch.nn.utils.clip_grad_norm_(parameters, _CONFIG.max_grad_norm)
        plain_adam.step()
        if not _largest_difference(stacked.flat.ordered, parameters) <= _STEP_TOLERANCE:
            return f"torch.{private_torch.FUSED_ADAM} differs from torch.optim.Adam"
    return ""


def _make_problem() -> tuple[ActorCritic, Batch]:
    """Return a network, and experiences with clipped ratios, clipped values and actions at their bounds."""
    n, rng = _EXPERIENCES, rng_for(0, "self test")
    network = build_network(Shape.of(_CONTRACT, (32, 24)), custom="", seed=0)
    assert isinstance(network, ActorCritic)
    distribution = distribution_for(_CONTRACT.action_space)
    action_BA = 1.5 * torch.randn(n, 2, generator=rng)
    action_BC = distribution.encode(action_BA, torch.ones(n))
    observation_BO = torch.randn(n, 6, generator=rng)
    with torch.no_grad():
        output_BK, value_B = network(observation_BO)
        logp_B = distribution.log_prob(output_BK, network.action_log_std, action_BC)
    noise = torch.randn(4, n, generator=rng)
    batch = Batch(
        observation_BO=observation_BO,
        action_BC=action_BC,
        logp_B=logp_B + 0.3 * noise[0],
        advantage_B=noise[1],
        target_B=noise[2],
        value_B=value_B + 0.3 * noise[3],
        importance_weight_B=torch.ones(n),
    )
    return network, batch


@torch.no_grad()
def _largest_difference(computed: list[Tensor], expected: list[Tensor] | tuple[Tensor, ...]) -> float:
    differences = [(own - other).abs().max() for own, other in zip(computed, expected, strict=True)]
    return float(torch.stack(differences).max())
