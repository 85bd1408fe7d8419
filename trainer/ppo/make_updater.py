"""The choice of a cycle's updater: the analytic one if it can be used, otherwise autograd."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeGuard

import torch

from trainer.networks.distributions import ActionDistribution
from trainer.networks.network import ActorCritic, Network
from trainer.ppo.analytic.self_test import find_problem
from trainer.ppo.analytic.updater import AnalyticUpdater
from trainer.ppo.autograd import AutogradUpdater
from trainer.ppo.loss import Loss, ppo_loss
from trainer.ppo.update import UpdateConfig, Updater
from trainer.rollouts.batch import Batch

Notify = Callable[[str, str], None]
"""Takes a notice's code and its message."""


def make_updater(
    network: Network,
    distribution: ActionDistribution,
    loss: Loss,
    config: UpdateConfig,
    batch: Batch,
    *,
    optimizer_state: dict[str, Any],
    device: torch.device,
    notify: Notify,
) -> Updater:
    """Return the updater for a network and a training set.

    `optimizer_state` is the `state` part of Adam's state dict; with {}, the moments are zero. The network is trained in
    place, and its parameters may become views of one vector. `notify` is called if autograd must replace the analytic
    gradient.
    """
    if _has_analytic_gradient(network, loss, config, device):
        problem = find_problem()
        if not problem:
            return AnalyticUpdater(network, distribution, config, batch, optimizer_state)
        notify(
            "W_ANALYTIC_GRADIENT",
            f"torch {torch.__version__}: {problem}, so training uses autograd, with the same result but slower",
        )
    return AutogradUpdater(network, distribution, loss, config, batch, optimizer_state, device)


def _has_analytic_gradient(
    network: Network, loss: Loss, config: UpdateConfig, device: torch.device
) -> TypeGuard[ActorCritic]:
    """Return whether trainer.ppo.analytic has the derivatives of this network and loss, on this device."""
    return type(network) is ActorCritic and loss is ppo_loss and device.type == "cpu" and not config.bfloat16
