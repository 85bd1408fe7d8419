"""What a network says of experiences before any training, a few of them at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from trainer.data import Experiences
from trainer.nets import Network
from trainer.normaliser import ObservationNormaliser

_CHUNK = 512
"""Experiences that the network looks at together: their activations stay in the cache, and in memory used before."""


@dataclass(frozen=True, slots=True)
class Glance:
    """A network's outputs over experiences, on the CPU, float32."""

    output_BK: Tensor  #: the policy's
    value_B: Tensor  #: in the network's units of returns
    final_value_F: Tensor  #: likewise, of the final observations


@torch.no_grad()
def glance(network: Network, units: ObservationNormaliser, experiences: Experiences) -> Glance:
    """Run a network that sees in these units over experiences."""
    return glance_at(network, units(experiences.observation_BO), units(experiences.final_FO))


@torch.no_grad()
def glance_at(network: Network, observation_BO: Tensor, final_FO: Tensor) -> Glance:
    """Run a network over normalised observations and final observations."""
    device = network.action_log_std.device
    pairs = [network(chunk.to(device)) for chunk in torch.split(observation_BO, _CHUNK)]
    return Glance(
        output_BK=torch.cat([output for output, _ in pairs]).cpu(),
        value_B=torch.cat([value for _, value in pairs]).cpu(),
        final_value_F=network(final_FO.to(device))[1].cpu(),
    )


def joined(parts: Sequence[Glance]) -> Glance:
    """Put several rollouts' outputs behind each other."""
    return Glance(
        output_BK=torch.cat([part.output_BK for part in parts]),
        value_B=torch.cat([part.value_B for part in parts]),
        final_value_F=torch.cat([part.final_value_F for part in parts]),
    )
