"""Which updater a cycle gets: the written-out one where it applies, autograd everywhere else."""

from __future__ import annotations

from typing import Any

import torch

from trainer.networks.distributions import ActionDistribution
from trainer.networks.network import ActorCritic, Network
from trainer.ppo.analytic.updater import AnalyticUpdater
from trainer.ppo.autograd import AutogradUpdater
from trainer.ppo.loss import Loss, ppo_loss
from trainer.ppo.update import UpdateConfig, Updater
from trainer.rollouts.batch import Batch


def make_updater(
    network: Network,
    distribution: ActionDistribution,
    loss: Loss,
    config: UpdateConfig,
    batch: Batch,
    *,
    optimizer_state: dict[str, Any],
    device: torch.device,
) -> Updater:
    """Put the pieces together. `optimizer_state` is the `state` part of Adam's state dict, {} = anew.

    The network is trained in place; its parameters may become views of one vector.
    """
    if isinstance(network, ActorCritic) and has_analytic_gradient(network, loss, config, device):
        return AnalyticUpdater(network, distribution, config, batch, optimizer_state)
    return AutogradUpdater(network, distribution, loss, config, batch, optimizer_state, device)


def has_analytic_gradient(network: Network, loss: Loss, config: UpdateConfig, device: torch.device) -> bool:
    """Return whether the written-out derivatives are those of this network and loss, on this device."""
    return type(network) is ActorCritic and loss is ppo_loss and device.type == "cpu" and not config.bfloat16
