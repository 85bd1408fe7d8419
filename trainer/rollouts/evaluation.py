"""What a network says of experiences before any training, a few of them at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from schemas.rollout.rollout import Float32
from trainer.networks.distributions import ActionDistribution
from trainer.networks.network import Network
from trainer.networks.normaliser import ObservationNormaliser
from trainer.rollouts.experiences import Experiences

_CHUNK = 512
"""Experiences that the network looks at together: their activations stay in the cache, and in memory used before."""


@dataclass(frozen=True, slots=True)
class PolicyOutputs:
    """What a network says of experiences, on the CPU, float32. Letters: see trainer.common.shapes."""

    action_BC: Tensor  #: packed by the head
    logp_B: Tensor  #: nats, likelihood
    density_B: Tensor  #: nats, as the engine would record it
    value_B: Tensor  #: in the network's units of returns
    final_value_F: Tensor  #: likewise, of the final observations


@torch.no_grad()
def evaluate_policy(
    network: Network,
    distribution: ActionDistribution,
    units: ObservationNormaliser,
    experiences: Experiences,
    std_scale_B: Float32,
) -> PolicyOutputs:
    """Run a network that sees in these units over experiences; `std_scale_B` is the engine's factor on the deviation."""
    device = network.action_log_std.device
    pairs = [network(chunk.to(device)) for chunk in torch.split(units(experiences.observation_BO), _CHUNK)]
    output_BK = torch.cat([output for output, _ in pairs]).cpu()
    action_BC = distribution.encode(torch.from_numpy(experiences.action_BA), torch.from_numpy(std_scale_B))
    log_std_A = network.action_log_std.cpu()
    return PolicyOutputs(
        action_BC=action_BC,
        logp_B=distribution.log_prob(output_BK, log_std_A, action_BC),
        density_B=distribution.clamped_log_density(output_BK, log_std_A, action_BC),
        value_B=torch.cat([value for _, value in pairs]).cpu(),
        final_value_F=network(units(experiences.final_observation_FO).to(device))[1].cpu(),
    )


def concatenate_outputs(parts: Sequence[PolicyOutputs]) -> PolicyOutputs:
    """Put what was said of several rollouts behind each other."""
    return PolicyOutputs(*(torch.cat([getattr(part, field.name) for part in parts]) for field in fields(PolicyOutputs)))
