"""What a network says of experiences before any training, a few of them at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from schemas.rollout.rollout import Float32
from trainer.networks.distributions import Head
from trainer.networks.network import Network
from trainer.networks.normaliser import ObservationNormaliser
from trainer.rollouts.experiences import Experiences

_CHUNK = 512
"""Experiences that the network looks at together: their activations stay in the cache, and in memory used before."""


@dataclass(frozen=True, slots=True)
class Glance:
    """What a network says of experiences, on the CPU, float32. Letters: see trainer.common.shapes."""

    action_BC: Tensor  #: packed by the head
    logp_B: Tensor  #: nats, likelihood
    density_B: Tensor  #: nats, as the engine would record it
    value_B: Tensor  #: in the network's units of returns
    final_value_F: Tensor  #: likewise, of the final observations


@torch.no_grad()
def glance(
    network: Network, head: Head, units: ObservationNormaliser, experiences: Experiences, noise_B: Float32
) -> Glance:
    """Run a network that sees in these units over experiences; `noise_B` is the engine's factor on the deviation."""
    device = network.action_log_std.device
    pairs = [network(chunk.to(device)) for chunk in torch.split(units(experiences.observation_BO), _CHUNK)]
    output_BK = torch.cat([output for output, _ in pairs]).cpu()
    action_BC = head.pack(torch.from_numpy(experiences.action_BA), torch.from_numpy(noise_B))
    log_std_A = network.action_log_std.cpu()
    return Glance(
        action_BC=action_BC,
        logp_B=head.log_prob(output_BK, log_std_A, action_BC),
        density_B=head.density(output_BK, log_std_A, action_BC),
        value_B=torch.cat([value for _, value in pairs]).cpu(),
        final_value_F=network(units(experiences.final_FO).to(device))[1].cpu(),
    )


def joined(parts: Sequence[Glance]) -> Glance:
    """Put what was said of several rollouts behind each other."""
    return Glance(*(torch.cat([getattr(part, field.name) for part in parts]) for field in fields(Glance)))
