"""What the policy head's outputs mean: a censored normal for real-valued actions, a categorical for choices.

The engine samples from a normal and clamps to the action's bounds. So an action *at* a bound was not drawn with the
density of that point, but with the whole mass beyond it, and the likelihood that training compares is

    log P(a >= high) = log ndtr((mean - high) / std)    at the upper bound, likewise at the lower,
    log N(a; mean, std)                                 between them.

The gradient of the clamped point's density would be biased; this one is unbiased and of lower variance (Clipped
Action Policy Gradient, Fujita and Maeda 2018, arXiv:1802.07564). The density of the clamped action, which the engine
records, only serves to tell whose action it is.
"""

from __future__ import annotations

import math
from typing import Any, Protocol

import torch
from torch import Tensor

from schemas.contract import ActionSpace, ContinuousActions
from schemas.model import NOISE_STD_MIN

LOG_SQRT_2PI = 0.5 * math.log(2.0 * math.pi)
_ENTROPY_OF_UNIT_NORMAL = 0.5 + LOG_SQRT_2PI
_AT_BOUND = 1e-6
"""Within this part of its range an action counts as lying at the bound: float32 through JSON keeps it exact."""


class _LogNdtr(torch.autograd.Function):
    """Log of the normal's distribution function with a gradient that stays finite and exact far out.

    d/dx log ndtr(x) = pdf(x) / ndtr(x) = sqrt(2 / pi) / erfcx(-x / sqrt 2), where torch's own gradient is 0 / 0.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        result: Tensor = torch.special.log_ndtr(x)
        return result

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        scaled: Tensor = torch.special.erfcx(x * -math.sqrt(0.5))
        return gradient * math.sqrt(2.0 / math.pi) / scaled


def log_ndtr(x: Tensor) -> Tensor:
    """Return log P(Z <= x) of the standard normal, elementwise; the gradient is exact also for very negative x."""
    return _LogNdtr.apply(x)  # type: ignore[no-untyped-call, no-any-return]


class ActionDistribution(Protocol):
    """How to read the policy head's outputs. Letters: see trainer.common.shapes."""

    columns: int  #: how many numbers `pack` makes of an action

    def encode(self, action_BA: Tensor, std_scale_B: Tensor) -> Tensor:
        """Prepare recorded actions once, float32 [B, C]; `std_scale_B` is the engine's factor on the deviation."""

    def log_prob(self, output_BK: Tensor, log_std_A: Tensor, packed_BC: Tensor) -> Tensor:
        """Return the log likelihood [B], nats, of what happened."""

    def clamped_log_density(self, output_BK: Tensor, log_std_A: Tensor, packed_BC: Tensor) -> Tensor:
        """Return what the engine records [B], nats: the log density of the clamped action, or of the choice."""

    def entropy(self, output_BK: Tensor, log_std_A: Tensor) -> Tensor:
        """Return the mean entropy (), nats, before clamping and without the engine's noise factor."""

    def mean(self, output_BK: Tensor) -> Tensor:
        """Return what `load_policy(...).mean` and the engine give: mean actions, or logits."""


class CensoredNormal:
    """Independent normals, mean = tanh(output), clamped to the bounds. Packed: edge A, side A, log noise 1."""

    def __init__(self, space: ContinuousActions) -> None:
        self._low, self._high = torch.tensor(space.low), torch.tensor(space.high)
        self._width = len(space.names)
        self.columns = 2 * self._width + 1

    def encode(self, action_BA: Tensor, std_scale_B: Tensor) -> Tensor:
        """Split actions into their clamped value, and -1, 0, 1 for lower bound, inside, upper bound."""
        margin = (self._high - self._low) * _AT_BOUND
        bound_BA = (action_BA >= self._high - margin).float() - (action_BA <= self._low + margin).float()
        clamped_BA = torch.minimum(torch.maximum(action_BA, self._low), self._high)
        log_noise_B1 = std_scale_B.clamp(min=NOISE_STD_MIN).log().unsqueeze(1)
        return torch.cat([clamped_BA, bound_BA, log_noise_B1], dim=1).to(action_BA.dtype)

    def _standard(self, output_BK: Tensor, log_std_A: Tensor, packed_BC: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return z = (edge - mean) / std and log std, [B, A], and the side."""
        a = self._width
        log_std_BA = log_std_A + packed_BC[:, 2 * a :]
        return (packed_BC[:, :a] - output_BK.tanh()) * (-log_std_BA).exp(), log_std_BA, packed_BC[:, a : 2 * a]

    def log_prob(self, output_BK: Tensor, log_std_A: Tensor, packed_BC: Tensor) -> Tensor:
        """Density between the bounds, tail mass at them."""
        z_BA, log_std_BA, bound_BA = self._standard(output_BK, log_std_A, packed_BC)
        inside_BA = z_BA.square() * -0.5 - log_std_BA - LOG_SQRT_2PI
        return torch.where(bound_BA == 0, inside_BA, log_ndtr(-bound_BA * z_BA)).sum(dim=1)

    def clamped_log_density(self, output_BK: Tensor, log_std_A: Tensor, packed_BC: Tensor) -> Tensor:
        """Density of the clamped action under the unclamped normal (Contract 3)."""
        z_BA, log_std_BA, _ = self._standard(output_BK, log_std_A, packed_BC)
        return (z_BA.square() * -0.5 - log_std_BA - LOG_SQRT_2PI).sum(dim=1)

    def entropy(self, output_BK: Tensor, log_std_A: Tensor) -> Tensor:
        """Entropy of the unclamped normals; the same in every state."""
        del output_BK
        return (log_std_A + _ENTROPY_OF_UNIT_NORMAL).sum()

    def mean(self, output_BK: Tensor) -> Tensor:
        """The means, in [-1, 1]."""
        return output_BK.tanh()


class Categorical:
    """One of n choices, outputs are logits. Packed: the index."""

    columns = 1

    def encode(self, action_BA: Tensor, std_scale_B: Tensor) -> Tensor:
        """Keep the index as a float; the noise has no meaning for choices."""
        del std_scale_B
        return action_BA

    def log_prob(self, output_BK: Tensor, log_std_A: Tensor, packed_BC: Tensor) -> Tensor:
        """Log probability of the choice."""
        del log_std_A
        return output_BK.log_softmax(dim=1).gather(1, packed_BC.long()).squeeze(1)

    def clamped_log_density(self, output_BK: Tensor, log_std_A: Tensor, packed_BC: Tensor) -> Tensor:
        """The same: nothing is clamped."""
        return self.log_prob(output_BK, log_std_A, packed_BC)

    def entropy(self, output_BK: Tensor, log_std_A: Tensor) -> Tensor:
        """Mean entropy over the batch."""
        del log_std_A
        log_p_BK = output_BK.log_softmax(dim=1)
        return -(log_p_BK.exp() * log_p_BK).sum(dim=1).mean()

    def mean(self, output_BK: Tensor) -> Tensor:
        """The logits as they are."""
        return output_BK


def distribution_for(space: ActionSpace) -> ActionDistribution:
    """Return the head that fits an action space."""
    return CensoredNormal(space) if isinstance(space, ContinuousActions) else Categorical()
