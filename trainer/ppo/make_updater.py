"""Which updater a cycle gets: the written-out one where it applies, autograd everywhere else."""

from __future__ import annotations

from typing import Any

import torch

from trainer.networks.distributions import Head
from trainer.networks.network import ActorCritic, Network
from trainer.ppo.analytic.updater import LeanUpdater
from trainer.ppo.autograd import AutogradUpdater
from trainer.ppo.loss import Loss, ppo_loss
from trainer.ppo.update import Plan, Updater
from trainer.rollouts.batch import Batch


def make_updater(
    network: Network,
    head: Head,
    loss: Loss,
    plan: Plan,
    batch: Batch,
    *,
    optimizer_state: dict[str, Any],
    device: torch.device,
) -> Updater:
    """Put the pieces together. `optimizer_state` is the `state` part of Adam's state dict, {} = anew.

    The network is trained in place; its parameters may become views of one vector.
    """
    if isinstance(network, ActorCritic) and is_lean(network, loss, plan, device):
        return LeanUpdater(network, head, plan, batch, optimizer_state)
    return AutogradUpdater(network, head, loss, plan, batch, optimizer_state, device)


def is_lean(network: Network, loss: Loss, plan: Plan, device: torch.device) -> bool:
    """Tell whether the written-out derivatives are those of this network and loss, on this device."""
    return type(network) is ActorCritic and loss is ppo_loss and device.type == "cpu" and not plan.bfloat16
