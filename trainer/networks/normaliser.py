"""Normalisation of observations and returns. It does not change the policy and the value function.

When the statistics change, the layers that use them are recomputed in float64, so that policy and values stay the same
functions. For returns this is PopArt (van Hasselt et al. 2016, arXiv:1602.07714). Normalised observations are not
clipped: normalisation must fold into a linear layer at export, because engines do not implement it.

Adam's moments are not changed. Gradients keep their size in normalised units, and after a change of a few percent the
moments adapt within 1 / (1 - beta2) = 1000 steps.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from schemas.rollout.rollout import Float32
from trainer.common.shapes import Float64
from trainer.networks.network import Stacks

COUNT_CAP = 2e6
"""Experiences after which old observations lose weight, so that the statistics follow a game that changes."""
CONSTANT_TOLERANCE = 1e-6
"""A column whose deviation is below this part of its mean is constant in float32, and its scale is 1."""
MAX_SHIFT = 100.0
"""Largest mean in units of the scale. With a larger one, W x + b of the folded layer loses digits in float32."""
RETURN_RATE = 0.3
"""Weight of one cycle's targets in the statistics of the returns."""
MOST_GROWTH = 10.0
"""How much the deviation of the returns may grow in one cycle because of values, and not of rewards."""
LEAST_PART = 1.0 / 30.0
"""The least deviation of the returns, as a part of the deviation that the rewards alone have."""
LARGEST_TARGET = 100.0
"""Largest value target in deviations. Only targets whose deviation may not grow as fast as they do are larger."""
_REACH = 2.0
"""Room for values beyond the largest return that the rewards allow: values of a network have errors."""
_REACH_DECAY = 0.95
_LONGEST_HORIZON = 1e4


@dataclass(frozen=True, slots=True)
class ObservationNormaliser:
    """Running mean and variance of each observation. With count 0, observations stay as they are."""

    mean_O: Tensor  #: float64
    var_O: Tensor  #: float64
    count: float

    @classmethod
    def identity(cls, size: int) -> ObservationNormaliser:
        """Return a normaliser that changes nothing."""
        return cls(torch.zeros(size, dtype=torch.float64), torch.ones(size, dtype=torch.float64), 0.0)

    @property
    def scale_O(self) -> Tensor:
        """Return the divisors of the observations, float64."""
        if self.count == 0:
            return torch.ones_like(self.mean_O)
        std_O, size_O = self.var_O.sqrt(), self.mean_O.abs()
        usual_O = torch.where(std_O > CONSTANT_TOLERANCE * size_O.clamp(min=1e-6), std_O, torch.ones_like(std_O))
        return torch.maximum(usual_O, size_O / MAX_SHIFT)

    def updated(self, observation_BO: Float32) -> ObservationNormaliser:
        """Return the statistics with more observations.

        Mean and M2 = n var of two sets are merged by count (Chan, Golub and LeVeque 1979, "Updating formulae and a
        pairwise algorithm for computing sample variances"): M2 = M2_1 + M2_2 + (mean_2 - mean_1)^2 n_1 n_2 / n.
        """
        batch = torch.from_numpy(observation_BO).double()
        n, total = float(len(batch)), self.count + len(batch)
        ones_B = torch.ones(len(batch), dtype=torch.float64)  # a product sums four times as fast as sum(dim=0)
        mean_O = ones_B @ batch / n
        centred_BO = batch - mean_O  # a copy: `batch` is the caller's array if it is float64
        delta_O = mean_O - self.mean_O
        m2_O = self.var_O * self.count + ones_B @ centred_BO.square_() + delta_O**2 * (self.count * n / total)
        return ObservationNormaliser(self.mean_O + delta_O * (n / total), m2_O / total, min(total, COUNT_CAP))

    def __call__(self, observation_BO: Float32) -> Tensor:
        """Return normalised observations, float32 [B, O], computed in float64."""
        batch = torch.from_numpy(np.ascontiguousarray(observation_BO)).double()
        return ((batch - self.mean_O) / self.scale_O).float()

    def state_dict(self) -> dict[str, Any]:
        """Return the tensors and values for a checkpoint."""
        return {"mean": self.mean_O, "var": self.var_O, "count": self.count}


@dataclass(frozen=True, slots=True)
class ReturnNormaliser:
    """Moving mean and standard deviation of the value targets, in reward units.

    Targets contain values of a network, and determine the units of its values. So a wrong value could grow from cycle
    to cycle. `reach` prevents it: no value and no deviation is larger, and only rewards determine it.
    """

    mean: float = 0.0
    std: float = 1.0
    is_set: bool = False
    reach: float = 0.0  #: twice the largest return that recent rewards allow; 0 = not known

    def updated(self, target_B: Float64, reward_std: float = 0.0) -> ReturnNormaliser:
        """Return the statistics moved toward this cycle's targets. The first targets are used as they are.

        `reward_std` is the deviation of returns that contain rewards only; 0 = not known.
        """
        mean, square = float(target_B.mean()), float(np.square(target_B).mean())
        if self.is_set:
            old_square = self.std**2 + self.mean**2
            mean = self.mean + RETURN_RATE * (mean - self.mean)
            square = old_square + RETURN_RATE * (square - old_square)
        std = max(float(np.sqrt(max(square - mean**2, 0.0))), 1e-3 * abs(mean))
        after = replace(self, mean=mean, std=std if std > 1e-12 else 1.0, is_set=True)
        return after.not_far_from(self, reward_std) if self.is_set else after

    def not_far_from(self, before: ReturnNormaliser, reward_std: float) -> ReturnNormaliser:
        """Return the statistics with a deviation that is not much larger than before, unless rewards are larger."""
        highest = max(MOST_GROWTH * before.std, reward_std)
        return replace(self, std=min(max(self.std, LEAST_PART * reward_std), highest))

    def reaching(self, reward_B: Float32, gamma: float) -> ReturnNormaliser:
        """Return the statistics with the reach of these rewards, or that of earlier ones, which is slowly forgotten."""
        largest = float(np.abs(reward_B).max(initial=0.0)) * horizon(gamma)
        return replace(self, reach=max(_REACH * largest, _REACH_DECAY * self.reach))

    def largest_reward(self, gamma: float) -> float:
        """Return the largest reward that the reach comes from; 0 if it is not known."""
        return self.reach / _REACH / horizon(gamma)

    def limited(self, value_B: Float64, room: float = 0.0) -> Float64:
        """Return values in reward units, none beyond the reach by more than `room`."""
        limit = self.reach + room
        return np.clip(value_B, -limit, limit) if self.reach else value_B

    def normalised(self, return_B: Float64) -> Float64:
        """Return returns in normalised units."""
        return (return_B - self.mean) / self.std

    def targets(self, return_B: Float64) -> Float64:
        """Return value targets in normalised units."""
        return np.clip(self.normalised(return_B), -LARGEST_TARGET, LARGEST_TARGET)

    def restored(self, value_B: Float64) -> Float64:
        """Return values of the network in reward units."""
        return value_B * self.std + self.mean

    def state_dict(self) -> dict[str, Any]:
        """Return the tensors and values for a checkpoint."""
        return {"mean": self.mean, "std": self.std, "is_set": self.is_set, "reach": self.reach}


def horizon(gamma: float) -> float:
    """Return the discounted number of steps that a reward of each step adds up over."""
    return min(1.0 / max(1.0 - gamma, 1e-12), _LONGEST_HORIZON)


@dataclass(frozen=True, slots=True)
class Normalisers:
    """The normalisers of a network: observations and returns."""

    observations: ObservationNormaliser
    returns: ReturnNormaliser

    @classmethod
    def identity(cls, observation_size: int) -> Normalisers:
        """Return normalisers that change nothing."""
        return cls(ObservationNormaliser.identity(observation_size), ReturnNormaliser())

    def are_usable(self) -> bool:
        """Return whether all statistics are finite, and no deviation is negative."""
        o, r = self.observations, self.returns
        is_finite = bool(torch.isfinite(o.mean_O).all() and (o.var_O >= 0).all() and torch.isfinite(o.var_O).all())
        return is_finite and math.isfinite(o.count) and math.isfinite(r.mean) and 0.0 < r.std < math.inf

    def state_dict(self) -> dict[str, Any]:
        """Return the tensors and values for a checkpoint."""
        return {"observations": self.observations.state_dict(), "returns": self.returns.state_dict()}

    @classmethod
    def from_state_dict(cls, document: dict[str, Any]) -> Normalisers:
        """Return the normalisers of a `state_dict`."""
        observations, returns = document["observations"], document["returns"]
        return cls(
            ObservationNormaliser(
                observations["mean"].double(), observations["var"].double(), float(observations["count"])
            ),
            ReturnNormaliser(
                float(returns["mean"]), float(returns["std"]), bool(returns["is_set"]), float(returns.get("reach", 0.0))
            ),
        )


@torch.no_grad()
def rescale_inputs(stacks: Stacks, before: ObservationNormaliser, after: ObservationNormaliser) -> None:
    """Change the first layers for new statistics, in place, so that they compute what they did with the old ones.

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
    """Change the value head for new statistics, in place, so that the values in reward units stay the same.

    W' = W s / s' and b' = (b s + m - m') / s' (PopArt, van Hasselt et al. 2016, arXiv:1602.07714, proposition 1).
    """
    head.weight.copy_(head.weight.double() * (before.std / after.std))
    head.bias.copy_((head.bias.double() * before.std + before.mean - after.mean) / after.std)
