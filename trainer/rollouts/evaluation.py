"""A policy's outputs for recorded experiences, before any training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from schemas.rollout.rollout import Float32
from trainer.common.shapes import Float64
from trainer.envs.vec_env import Observations
from trainer.networks.distributions import ActionDistribution
from trainer.networks.network import Network
from trainer.networks.normaliser import ReturnNormaliser
from trainer.rollouts.experiences import Experiences

_CHUNK = 512
"""Experiences that the network evaluates together, so that their activations fit in the processor's cache."""


@dataclass(frozen=True, slots=True)
class PolicyOutputs:
    """A network's outputs for experiences, float32 on the CPU. Letters: see trainer.common.shapes."""

    action_BC: Tensor  #: encoded by the action distribution
    logp_B: Tensor  #: nats, likelihood of the clamped action
    density_B: Tensor  #: nats, log density as an engine records it
    value_B: Tensor  #: in the network's normalised units
    final_value_F: Tensor  #: likewise, of the final observations

    def values_in_reward_units(self, returns: ReturnNormaliser) -> tuple[Float64, Float64]:
        """Return `value_B` and `final_value_F` in the game's reward units."""
        return (
            returns.restored(self.value_B.double().numpy()),
            returns.restored(self.final_value_F.double().numpy()),
        )


@torch.no_grad()
def evaluate_policy(
    network: Network,
    distribution: ActionDistribution,
    normaliser: Callable[[Observations], Tensor],
    experiences: Experiences,
    std_scale_B: Float32,
) -> PolicyOutputs:
    """Return a network's outputs for experiences; `std_scale_B` is the engine's factor on the standard deviation.

    `normaliser` returns the network's inputs.
    """
    device = network.action_log_std.device
    pairs = [network(chunk.to(device)) for chunk in torch.split(normaliser(experiences.observation_BO), _CHUNK)]
    output_BK = torch.cat([output for output, _ in pairs]).cpu()
    action_BC = distribution.encode(torch.from_numpy(experiences.action_BA), torch.from_numpy(std_scale_B))
    log_std_A = network.action_log_std.cpu()
    finals = normaliser(experiences.final_observation_FO)
    return PolicyOutputs(
        action_BC=action_BC,
        logp_B=distribution.log_prob(output_BK, log_std_A, action_BC),
        density_B=distribution.clamped_log_density(output_BK, log_std_A, action_BC),
        value_B=torch.cat([value for _, value in pairs]).cpu(),
        final_value_F=torch.cat([network(chunk.to(device))[1] for chunk in torch.split(finals, _CHUNK)]).cpu(),
    )


def concatenate_outputs(parts: Sequence[PolicyOutputs]) -> PolicyOutputs:
    """Return the outputs for several rollouts as one."""
    return PolicyOutputs(*(torch.cat([getattr(part, field.name) for part in parts]) for field in fields(PolicyOutputs)))
