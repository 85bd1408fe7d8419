"""The update of one cycle, epoch by epoch, whichever updater computes the gradients."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from schemas.job import finite_or_none
from trainer.common.eager_adam import EagerAdam
from trainer.networks.network import Network
from trainer.ppo.loss import LossConfig
from trainer.rollouts.batch import Batch

ADAM_EPS = 1e-5
"""As in common implementations of PPO (Huang et al. 2022, detail 3)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateConfig:
    """The settings of one cycle's update."""

    epochs: int
    batch_size: int
    learning_rate: float
    max_grad_norm: float
    target_kl: float | None  #: nats; an epoch that ends above it is the last one
    loss: LossConfig
    seed: int
    cycle: int
    bfloat16: bool
    threads: int  #: of the CPU; 0 = the fastest number
    trains_policy: bool = True  #: false: only the value function is trained, and no bit of the policy changes


class Updater(Protocol):
    """A network, an optimizer and a training set, for epochs of gradient steps."""

    network: Network
    config: UpdateConfig

    def epoch(self, epoch: int) -> dict[str, float]:
        """Use all experiences once, in an order that depends on `epoch`.

        Returns the means over the minibatches, by name: the loss terms, and `grad_norm` before clipping.
        """

    def set_batch(self, config: UpdateConfig, batch: Batch) -> None:
        """Continue with another training set and other settings. Parameters, Adam's moments and the device stay."""

    def optimizer_state(self) -> dict[str, Any]:
        """Return Adam's state dict in torch's layout. The next step may change its tensors."""


def make_adam(network: Network, learning_rate: float, moments: dict[str, Any]) -> EagerAdam:
    """Return Adam (Kingma and Ba 2015, arXiv:1412.6980, algorithm 1) as one fused kernel for each step.

    `moments` is the `state` part of an earlier state dict; with {}, the moments are zero.
    """
    parameters = [p for p in network.parameters() if p.numel()]
    adam = EagerAdam(parameters, lr=learning_rate, eps=ADAM_EPS, fused=True)
    if moments:
        adam.load_state_dict({"state": copy.deepcopy(moments), "param_groups": adam.state_dict()["param_groups"]})
    return adam


@torch.no_grad()
def evaluate_values(network: Network, held_out: Batch) -> dict[str, float]:
    """Return the value loss (mean squared error, normalised units) and the explained variance on held-out data."""
    return value_errors(network.values(held_out.observation_BO).float(), held_out.target_B)


def value_errors(value_B: Tensor, target_B: Tensor) -> dict[str, float]:
    """Return the mean squared error of values, and their explained variance.

    The explained variance is 1 - Var(target - value) / Var(target). It is nan if all targets are equal.
    """
    error_B, variance = value_B - target_B, target_B.var(correction=0)
    explained = 1.0 - error_B.var(correction=0) / variance if variance > 0 else torch.tensor(math.nan)
    return {"value_loss": float(error_B.square().mean()), "explained_variance": float(explained)}


def run_epochs(updater: Updater, held_out: Batch) -> Iterator[tuple[int, dict[str, float]]]:
    """Yield (epoch, losses) after each epoch, from 1. Ends early above the target KL, or if the loss is not finite."""
    config = updater.config
    for epoch in range(1, config.epochs + 1):
        terms = updater.epoch(epoch)
        terms["train_value_loss"] = terms.pop("value_loss")
        losses = evaluate_values(updater.network, held_out) | terms
        losses |= {"learning_rate": config.learning_rate, "entropy_coef": config.loss.entropy_coef}
        yield epoch, losses
        above_target = config.target_kl is not None and losses["approx_kl"] > config.target_kl
        if above_target or finite_or_none(losses["total"]) is None:
            return
