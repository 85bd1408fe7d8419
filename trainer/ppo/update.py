"""The gradient work of a cycle, epoch by epoch, whoever computes the gradients."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from schemas.job import finite_or_none
from trainer.networks.network import Network
from trainer.ppo.loss import LossConfig
from trainer.rollouts.batch import Batch

ADAM_EPS = 1e-5
"""As PPO's usual implementations have it (Huang et al. 2022, detail 3)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateConfig:
    """How one cycle's update goes."""

    epochs: int
    batch_size: int
    learning_rate: float
    max_grad_norm: float
    target_kl: float | None
    loss: LossConfig
    seed: int
    cycle: int
    bfloat16: bool
    threads: int  #: of the CPU; 0 = the fastest


class Updater(Protocol):
    """A network, an optimizer and a training set, put together for epochs of gradient steps."""

    network: Network
    config: UpdateConfig

    def epoch(self, epoch: int) -> dict[str, float]:
        """Go over all experiences once, in the order that belongs to this epoch; give the means of the loss's terms
        and of the gradient's norm before clipping, by name.
        """

    def renew(self, config: UpdateConfig, batch: Batch) -> None:
        """Go on with other experiences and other rates; parameters and moments stay. The device stays as well."""

    def optimizer_state(self) -> dict[str, Any]:
        """Return Adam's state dict, as torch lays it out; its tensors may change with the next step."""


def make_adam(network: Network, learning_rate: float, moments: dict[str, Any]) -> torch.optim.Adam:
    """Return Adam as one fused kernel a step, with the `state` part of an earlier one's state dict; {} = anew."""
    parameters = [p for p in network.parameters() if p.numel()]
    adam = torch.optim.Adam(parameters, lr=learning_rate, eps=ADAM_EPS, fused=True)
    if moments:
        adam.load_state_dict({"state": copy.deepcopy(moments), "param_groups": adam.state_dict()["param_groups"]})
    return adam


@torch.no_grad()
def evaluate_values(network: Network, held: Batch) -> dict[str, float]:
    """Return the value loss (mean squared error, normalised units) and explained variance on held-out experiences."""
    value_B = network.values(held.observation_BO).float()
    error_B = value_B - held.target_B
    spread = held.target_B.var(correction=0)
    explained = 1.0 - error_B.var(correction=0) / spread if spread > 0 else torch.tensor(math.nan)
    return {"value_loss": float(error_B.square().mean()), "explained_variance": float(explained)}


def run_epochs(updater: Updater, held: Batch) -> Iterator[tuple[int, dict[str, float]]]:
    """Yield (epoch, losses) after each epoch, from 1; ends early past the target KL or where a loss is not finite."""
    plan = updater.config
    for epoch in range(1, plan.epochs + 1):
        terms = updater.epoch(epoch)
        terms["train_value_loss"] = terms.pop("value_loss")
        losses = evaluate_values(updater.network, held) | terms
        losses |= {"learning_rate": plan.learning_rate, "entropy_coef": plan.loss.entropy_coef}
        yield epoch, losses
        too_far = plan.target_kl is not None and losses["approx_kl"] > plan.target_kl
        if too_far or finite_or_none(losses["total"]) is None:
            return
