"""The gradient work: epochs over a packed training set. Nothing waits for the device inside the loop."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from schemas.job import finite_or_none
from trainer.batch import Batch, PackedSet
from trainer.distributions import Head
from trainer.loss import Evaluation, Knobs, Loss, Terms
from trainer.nets import Network
from trainer.rng import rng_for

ADAM_EPS = 1e-5
"""As PPO's usual implementations have it (Huang et al. 2022, detail 3)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How one cycle's update goes."""

    epochs: int
    batch_size: int
    learning_rate: float
    max_grad_norm: float
    target_kl: float | None
    knobs: Knobs
    seed: int
    cycle: int
    bfloat16: bool


def make_adam(network: Network, learning_rate: float) -> torch.optim.Adam:
    """Give Adam as one fused kernel a step."""
    parameters = [p for p in network.parameters() if p.numel()]
    return torch.optim.Adam(parameters, lr=learning_rate, eps=ADAM_EPS, fused=True)


def evaluate(network: Network, head: Head, batch: Batch) -> Evaluation:
    """Run the network once for everything that the loss needs."""
    output_BK, value_B = network(batch.observation_BO)
    log_std_A = network.action_log_std
    logp_B = head.log_prob(output_BK.float(), log_std_A, batch.action_BC)
    return Evaluation(logp_B, value_B.float(), head.entropy(output_BK.float(), log_std_A))


class Updater:
    """Network, optimizer and loss, put together for minibatch steps."""

    def __init__(self, network: Network, adam: torch.optim.Adam, head: Head, loss: Loss, plan: Plan) -> None:
        self.network, self.adam, self.head, self.loss, self.plan = network, adam, head, loss, plan
        self._parameters = [p for group in adam.param_groups for p in group["params"]]
        self._device = self._parameters[0].device

    def step(self, batch: Batch) -> Tensor:
        """Take one gradient step; give the terms and the gradient's norm before clipping, stacked [7], detached."""
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self.plan.bfloat16):
            new = evaluate(self.network, self.head, batch)
        terms = self.loss(batch, new, self.plan.knobs)
        self.adam.zero_grad(set_to_none=True)
        terms.total.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(self._parameters, self.plan.max_grad_norm, foreach=True)
        self.adam.step()
        self.network.keep_bounds()
        return torch.stack([*terms, norm]).detach()

    def epoch(self, data: PackedSet, epoch: int) -> dict[str, float]:
        """Go over all experiences once; give the means of the terms by name."""
        rng = rng_for(self.plan.seed, "shuffle", self.plan.cycle, epoch)
        sums = torch.zeros(len(Terms._fields) + 1, device=self._device)
        count = 0
        for batch in data.shuffled(self.plan.batch_size, rng=rng):
            sums += self.step(batch)
            count += 1
        names = (*Terms._fields, "grad_norm")
        return dict(zip(names, (sums / count).tolist(), strict=True))


@torch.no_grad()
def judge(network: Network, held: Batch) -> dict[str, float]:
    """Give the value loss (mean squared error, normalised units) and explained variance on held-out experiences."""
    value_B = network(held.observation_BO)[1].float()
    error_B = value_B - held.target_B
    spread = held.target_B.var(correction=0)
    explained = 1.0 - error_B.var(correction=0) / spread if spread > 0 else torch.tensor(math.nan)
    return {"value_loss": float(error_B.square().mean()), "explained_variance": float(explained)}


def run_epochs(updater: Updater, data: PackedSet, held: Batch) -> Iterator[tuple[int, dict[str, float]]]:
    """Yield (epoch, losses) after each epoch, from 1; ends early past the target KL or where a loss is not finite."""
    plan = updater.plan
    for epoch in range(1, plan.epochs + 1):
        terms = updater.epoch(data, epoch)
        terms["train_value_loss"] = terms.pop("value_loss")
        losses = judge(updater.network, held) | terms
        losses |= {"learning_rate": plan.learning_rate, "entropy_coef": plan.knobs.entropy_coef}
        yield epoch, losses
        too_far = plan.target_kl is not None and losses["approx_kl"] > plan.target_kl
        if too_far or finite_or_none(losses["total"]) is None:
            return
