"""Observations and returns in units that a network likes; a change of units never changes what the policy does.

The running statistics are merged by count (Chan et al. 1979). When they move, the layers that see them are
re-expressed in float64 so that policy and value stay the same functions (for returns this is PopArt, van Hasselt et
al. 2016, arXiv:1602.07714). Normalised observations are not clipped: it must all fold into a linear layer, since
the engine knows nothing of normalisation.

Adam's moments stay as they are. In normalised units gradients keep their size, and what remains of a change of a
few percent is forgotten within 1 / (1 - beta2) = 1000 steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from schemas.rollout.rollout import Float32
from trainer.common.shapes import Float64
from trainer.networks.network import Stacks

COUNT_CAP = 2e6
"""Experiences after which old observations begin to weigh less, so that the statistics follow a changing game."""
CONSTANT = 1e-6
"""A column whose deviation is below this part of its size is constant to float32 and keeps its scale of 1."""
LARGEST_SHIFT = 100.0
"""Largest mean in units of the scale. Beyond it, W x + b of the folded layer would lose its digits in float32."""
RETURN_RATE = 0.3
"""How far one cycle's targets move the statistics of the returns."""


@dataclass(frozen=True, slots=True)
class ObservationNormaliser:
    """Running mean and variance of each observation; count 0 = nothing seen, leaves observations as they are."""

    mean_O: Tensor  #: float64
    var_O: Tensor  #: float64
    count: float

    @classmethod
    def identity(cls, size: int) -> ObservationNormaliser:
        """Return the normaliser that has seen nothing."""
        return cls(torch.zeros(size, dtype=torch.float64), torch.ones(size, dtype=torch.float64), 0.0)

    @property
    def scale_O(self) -> Tensor:
        """What observations are divided by, float64."""
        if self.count == 0:
            return torch.ones_like(self.mean_O)
        std_O, size_O = self.var_O.sqrt(), self.mean_O.abs()
        usual_O = torch.where(std_O > CONSTANT * size_O.clamp(min=1e-6), std_O, torch.ones_like(std_O))
        return torch.maximum(usual_O, size_O / LARGEST_SHIFT)

    def updated(self, observation_BO: Float32) -> ObservationNormaliser:
        """Take in more observations."""
        batch = torch.from_numpy(observation_BO).double()
        n, total = float(len(batch)), self.count + len(batch)
        ones_B = torch.ones(len(batch), dtype=torch.float64)  # sums as products: four times as fast as sums by rows
        mean_O = ones_B @ batch / n
        centred_BO = batch - mean_O  # not in place: float64 observations are the caller's own
        delta_O = mean_O - self.mean_O
        m2_O = self.var_O * self.count + ones_B @ centred_BO.square_() + delta_O**2 * (self.count * n / total)
        return ObservationNormaliser(self.mean_O + delta_O * (n / total), m2_O / total, min(total, COUNT_CAP))

    def __call__(self, observation_BO: Float32) -> Tensor:
        """Return normalised observations, float32 [B, O], computed in float64."""
        batch = torch.from_numpy(np.ascontiguousarray(observation_BO)).double()
        return ((batch - self.mean_O) / self.scale_O).float()

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint keeps."""
        return {"mean": self.mean_O, "var": self.var_O, "count": self.count}


@dataclass(frozen=True, slots=True)
class ReturnNormaliser:
    """Moving mean and deviation of the value targets, in the game's reward units."""

    mean: float = 0.0
    std: float = 1.0
    is_set: bool = False

    def updated(self, target_B: Float64) -> ReturnNormaliser:
        """Move toward this cycle's targets; the first ones set it."""
        mean, square = float(target_B.mean()), float(np.square(target_B).mean())
        if self.is_set:
            old_square = self.std**2 + self.mean**2
            mean = self.mean + RETURN_RATE * (mean - self.mean)
            square = old_square + RETURN_RATE * (square - old_square)
        std = max(float(np.sqrt(max(square - mean**2, 0.0))), 1e-3 * abs(mean))
        return ReturnNormaliser(mean, std if std > 1e-12 else 1.0, True)

    def normalised(self, return_B: Float64) -> Float64:
        """From reward units to the network's."""
        return (return_B - self.mean) / self.std

    def restored(self, value_B: Float64) -> Float64:
        """From the network's units to reward units."""
        return value_B * self.std + self.mean

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint keeps."""
        return {"mean": self.mean, "std": self.std, "is_set": self.is_set}


@dataclass(frozen=True, slots=True)
class Normalisers:
    """Both, as a checkpoint keeps them."""

    observations: ObservationNormaliser
    returns: ReturnNormaliser

    @classmethod
    def identity(cls, observation_size: int) -> Normalisers:
        """Return those of a network that has seen nothing."""
        return cls(ObservationNormaliser.identity(observation_size), ReturnNormaliser())

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint keeps."""
        return {"observations": self.observations.state_dict(), "returns": self.returns.state_dict()}

    @classmethod
    def from_state_dict(cls, document: dict[str, Any]) -> Normalisers:
        """Read what `plain` gave."""
        seen, returns = document["observations"], document["returns"]
        return cls(
            ObservationNormaliser(seen["mean"].double(), seen["var"].double(), float(seen["count"])),
            ReturnNormaliser(float(returns["mean"]), float(returns["std"]), bool(returns["is_set"])),
        )


@torch.no_grad()
def rescale_inputs(stacks: Stacks, before: ObservationNormaliser, after: ObservationNormaliser) -> None:
    """Re-express the first layers for new statistics, so that they compute what they did for the old ones.

    W (x - m) / s + b = W' (x - m') / s' + b' with W' = W s' / s and b' = b + W (m' - m) / s.
    """
    ratio_O = after.scale_O / before.scale_O
    shift_O = (after.mean_O - before.mean_O) / before.scale_O
    for layer in stacks.inputs():
        weight = layer.weight.double()
        layer.bias.copy_(layer.bias.double() + weight @ shift_O.to(weight.device))
        layer.weight.copy_(weight * ratio_O.to(weight.device))


@torch.no_grad()
def popart(head: nn.Linear, before: ReturnNormaliser, after: ReturnNormaliser) -> None:
    """Re-express the value head for new statistics of the returns (PopArt)."""
    head.weight.copy_(head.weight.double() * (before.std / after.std))
    head.bias.copy_((head.bias.double() * before.std + before.mean - after.mean) / after.std)
