"""Action distributions: the meaning of the policy head's outputs, and the likelihood of an action.

The engine samples from a normal and clamps the action to its bounds. So an action *at* a bound has the probability of
all values beyond it, not the density of that point. The likelihood that training uses is that of a censored normal
(Tobin 1958):

    log P(a >= high) = log ndtr((mean - high) / std)    at the upper bound, likewise at the lower one
    log N(a; mean, std)                                 between them

The gradient of the point's density would be biased. This one is unbiased and has a lower variance: it is the Clipped
Action Policy Gradient (Fujita and Maeda 2018, arXiv:1802.07564). The density of the clamped action, which the engine
records, is only used to find the behaviour policy.
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
_BOUND_TOLERANCE = 1e-6
"""Part of its range within which an action counts as being at the bound."""


class _LogNdtr(torch.autograd.Function):
    """The log of the normal's distribution function, with a gradient that is finite and exact for very negative x.

    d/dx log ndtr(x) = pdf(x) / ndtr(x) = sqrt(2 / pi) / erfcx(-x / sqrt 2). torch's own gradient becomes 0 / 0 there.
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
    """Return log P(Z <= x) of the standard normal, elementwise. The gradient is exact for very negative x, too."""
    return _LogNdtr.apply(x)  # type: ignore[no-untyped-call, no-any-return]


class ActionDistribution(Protocol):
    """The meaning of the policy head's outputs. Letters: see trainer.common.shapes."""

    def encode(self, action_BA: Tensor, std_scale_B: Tensor) -> Tensor:
        """Return recorded actions in the form that the other methods need, float32 [B, C].

        `std_scale_B` is the engine's factor on the standard deviation (`noise_std`).
        """

    def log_prob(self, output_BK: Tensor, log_std_A: Tensor, encoded_BC: Tensor) -> Tensor:
        """Return the log likelihood of the recorded actions, [B], nats."""

    def clamped_log_density(self, output_BK: Tensor, log_std_A: Tensor, encoded_BC: Tensor) -> Tensor:
        """Return what the engine records, [B], nats: the log density of the clamped action, or a choice's log_prob."""

    def entropy(self, output_BK: Tensor, log_std_A: Tensor) -> Tensor:
        """Return the mean entropy (), nats, without clamping and without `noise_std`."""

    def mean(self, output_BK: Tensor) -> Tensor:
        """Return the mean actions, or the logits: what `load_policy(...).mean` returns."""


class CensoredNormal:
    """Independent normals with mean = tanh(output), clamped to the bounds.

    Encoded columns: the clamped action (A), the bound (A: -1 lower, 1 upper, 0 between them), log noise_std (1).
    """

    def __init__(self, space: ContinuousActions) -> None:
        self._low, self._high = torch.tensor(space.low), torch.tensor(space.high)
        self._width = len(space.names)

    def encode(self, action_BA: Tensor, std_scale_B: Tensor) -> Tensor:
        """Return the clamped actions, the bounds that they are at, and the log of the engine's factor."""
        margin = (self._high - self._low) * _BOUND_TOLERANCE
        bound_BA = (action_BA >= self._high - margin).float() - (action_BA <= self._low + margin).float()
        clamped_BA = torch.minimum(torch.maximum(action_BA, self._low), self._high)
        log_std_scale_B1 = std_scale_B.clamp(min=NOISE_STD_MIN).log().unsqueeze(1)
        return torch.cat([clamped_BA, bound_BA, log_std_scale_B1], dim=1).to(action_BA.dtype)

    def _standard(self, output_BK: Tensor, log_std_A: Tensor, encoded_BC: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return z = (action - mean) / std, log std and the bound, each [B, A]."""
        a = self._width
        log_std_BA = log_std_A + encoded_BC[:, 2 * a :]
        return (encoded_BC[:, :a] - output_BK.tanh()) * (-log_std_BA).exp(), log_std_BA, encoded_BC[:, a : 2 * a]

    def log_prob(self, output_BK: Tensor, log_std_A: Tensor, encoded_BC: Tensor) -> Tensor:
        """Return the log density between the bounds, and the log probability of the tail at a bound (Tobin 1958)."""
        z_BA, log_std_BA, bound_BA = self._standard(output_BK, log_std_A, encoded_BC)
        inside_BA = z_BA.square() * -0.5 - log_std_BA - LOG_SQRT_2PI
        return torch.where(bound_BA == 0, inside_BA, log_ndtr(-bound_BA * z_BA)).sum(dim=1)

    def clamped_log_density(self, output_BK: Tensor, log_std_A: Tensor, encoded_BC: Tensor) -> Tensor:
        """Return the log density of the clamped action under the normal ("Model JSON" in docs/reference/formats.md)."""
        z_BA, log_std_BA, _ = self._standard(output_BK, log_std_A, encoded_BC)
        return (z_BA.square() * -0.5 - log_std_BA - LOG_SQRT_2PI).sum(dim=1)

    def entropy(self, output_BK: Tensor, log_std_A: Tensor) -> Tensor:
        """Return the entropy of the normals without clamping. It is the same in every state."""
        del output_BK
        return (log_std_A + _ENTROPY_OF_UNIT_NORMAL).sum()

    def mean(self, output_BK: Tensor) -> Tensor:
        """Return the means, in [-1, 1]."""
        return output_BK.tanh()


class Categorical:
    """One of n actions; the outputs are logits. Encoded column: the index of the action."""

    def encode(self, action_BA: Tensor, std_scale_B: Tensor) -> Tensor:
        """Return the indices as floats. noise_std does not apply to discrete actions."""
        del std_scale_B
        return action_BA

    def log_prob(self, output_BK: Tensor, log_std_A: Tensor, encoded_BC: Tensor) -> Tensor:
        """Return the log probability of the action."""
        del log_std_A
        return output_BK.log_softmax(dim=1).gather(1, encoded_BC.long()).squeeze(1)

    def clamped_log_density(self, output_BK: Tensor, log_std_A: Tensor, encoded_BC: Tensor) -> Tensor:
        """Return the log probability: nothing is clamped."""
        return self.log_prob(output_BK, log_std_A, encoded_BC)

    def entropy(self, output_BK: Tensor, log_std_A: Tensor) -> Tensor:
        """Return the mean entropy over the batch."""
        del log_std_A
        log_p_BK = output_BK.log_softmax(dim=1)
        return -(log_p_BK.exp() * log_p_BK).sum(dim=1).mean()

    def mean(self, output_BK: Tensor) -> Tensor:
        """Return the logits."""
        return output_BK


def distribution_for(space: ActionSpace) -> ActionDistribution:
    """Return the distribution for an action space."""
    return CensoredNormal(space) if isinstance(space, ContinuousActions) else Categorical()
