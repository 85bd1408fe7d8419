"""The derivatives of the PPO loss by the networks' outputs, written out for minibatches of one size.

What they are the derivatives of stands in trainer.loss and trainer.networks.distributions; the tests compare them with autograd.
All buffers are made once. "Slope" is the derivative of the minibatch's loss. Letters: see trainer.common.shapes.
"""

from __future__ import annotations

import math
from typing import NamedTuple, Protocol

import numpy as np
import torch

from schemas.rollout.rollout import Bools, Float32
from trainer.networks.distributions import LOG_SQRT_2PI, ActionDistribution, CensoredNormal
from trainer.ppo.loss import LossConfig
from trainer.rollouts.batch import Batch

_DEEPEST = -9.0
"""Least argument of erfcx: below it the result nears float32's largest number, and the tail mass is 1 to rounding."""


class DistributionGradient(Protocol):
    """A head's likelihood with its derivatives, over columns that are shuffled once an epoch."""

    columns: tuple[torch.Tensor, ...]  #: [N, ...]: what `minibatches` wants back, shuffled
    logp_shift_N: torch.Tensor  #: nats: what the log likelihood has besides `log_prob`; constant in the parameters

    def minibatches(self, columns: tuple[torch.Tensor, ...], size: int) -> DistributionBatch:
        """Return the arithmetic for minibatches of one size, over shuffled columns."""


class DistributionBatch(Protocol):
    """A head's arithmetic for minibatches of one size."""

    def log_prob(self, output_BK: Float32, log_std_A: Float32, rows: slice) -> Float32:
        """Return the log likelihood [B], nats, without `logp_shift_N`; the array is used again."""

    def slopes(self, logp_slope_B: Float32, bonus: float, output_slope_BK: Float32, log_std_slope_A: Float32) -> None:
        """Fill the slopes of `sum(logp_slope * logp) - bonus * entropy`, for what `log_prob` saw last."""

    def entropy(self) -> float:
        """Return the mean entropy, nats, of what `log_prob` saw last."""


def gradient_for(distribution: ActionDistribution, action_BC: torch.Tensor) -> DistributionGradient:
    """Return the written-out form of a head over the packed actions of a training set."""
    return NormalGradient(action_BC) if isinstance(distribution, CensoredNormal) else CategoricalGradient(action_BC)


class NormalGradient:
    """The censored normal, by z = (edge - mean) / std and t = side z / sqrt 2.

    Inside its bounds an action has log p = -z^2 / 2 - log std + const; at one log ndtr(-side z), which is
    log erfcx(t) - t^2 - log 2.
    """

    def __init__(self, action_BC: torch.Tensor) -> None:
        a = (action_BC.shape[1] - 1) // 2
        clamped_BA, bound_BA, log_noise_B1 = action_BC[:, :a], action_BC[:, a : 2 * a], action_BC[:, 2 * a :]
        inside_BA = bound_BA == 0
        self.any_at_bound = not bool(inside_BA.all())
        inside_logs_B = -(log_noise_B1 + LOG_SQRT_2PI).squeeze(1) * inside_BA.sum(dim=1)
        self.logp_shift_N = inside_logs_B - math.log(2.0) * (a - inside_BA.sum(dim=1))
        self.columns: tuple[torch.Tensor, ...] = (
            clamped_BA.contiguous(),
            (bound_BA * math.sqrt(0.5)).contiguous(),
            (bound_BA * math.sqrt(2.0 / math.pi)).contiguous(),
            inside_BA.contiguous(),
            (-log_noise_B1).exp().contiguous(),
        )

    def minibatches(self, columns: tuple[torch.Tensor, ...], size: int) -> DistributionBatch:
        """Return the arithmetic for minibatches of one size."""
        return NormalBatch(columns, size, any_at_bound=self.any_at_bound)


class NormalBatch:
    """See NormalGradient."""

    def __init__(self, columns: tuple[torch.Tensor, ...], size: int, *, any_at_bound: bool) -> None:
        edge, tail, tail_slope, inside, inverse_noise = (column.numpy() for column in columns)
        self._edge_NA, self._tail_NA, self._tail_slope_NA = edge, tail, tail_slope
        self._inside_NA: Bools = inside
        self._inverse_noise_N1 = inverse_noise
        self._any_at_bound = any_at_bound
        a = edge.shape[1]
        self._mean, self._z, self._log, self._work, self._t, self._erfcx = (
            np.empty((size, a), dtype=np.float32) for _ in range(6)
        )
        self._t_torch, self._erfcx_torch = torch.from_numpy(self._t), torch.from_numpy(self._erfcx)
        self._inverse_std_BA = np.empty((size, a), dtype=np.float32)
        self._logp_B = np.empty(size, dtype=np.float32)
        self._ones_A = np.ones(a, dtype=np.float32)
        self._log_std_A = np.empty(a, dtype=np.float32)
        self._rows = slice(0, size)

    def log_prob(self, output_BK: Float32, log_std_A: Float32, rows: slice) -> Float32:
        """Return the log likelihood [B] without its constant part."""
        z, log, work = self._z, self._log, self._work
        self._rows = rows
        self._log_std_A[:] = log_std_A
        np.tanh(output_BK, out=self._mean)
        np.multiply(self._inverse_noise_N1[rows], np.exp(-log_std_A), out=self._inverse_std_BA)
        np.subtract(self._edge_NA[rows], self._mean, out=z)
        np.multiply(z, self._inverse_std_BA, out=z)
        np.multiply(z, z, out=work)
        np.multiply(work, np.float32(-0.5), out=work)
        np.subtract(work, log_std_A, out=work)
        if self._any_at_bound:
            t = self._t
            np.multiply(z, self._tail_NA[rows], out=t)
            np.maximum(t, np.float32(_DEEPEST), out=t)
            torch.special.erfcx(self._t_torch, out=self._erfcx_torch)
            np.log(self._erfcx, out=log)
            np.multiply(t, t, out=t)
            np.subtract(log, t, out=log)
            np.copyto(log, work, where=self._inside_NA[rows])
            work = log
        np.dot(work, self._ones_A, out=self._logp_B)
        return self._logp_B

    def slopes(self, logp_slope_B: Float32, bonus: float, output_slope_BK: Float32, log_std_slope_A: Float32) -> None:
        """Through u = z inside and side sqrt(2 / pi) / erfcx(t) at a bound: d logp / d mean = u / std, d logp / d
        log std = u z - [inside].
        """
        z, u, work = self._z, self._log, self._work
        inside = self._inside_NA[self._rows]
        if self._any_at_bound:
            np.divide(self._tail_slope_NA[self._rows], self._erfcx, out=u)
            np.copyto(u, z, where=inside)
        else:
            u = z
        np.multiply(u, self._inverse_std_BA, out=work)
        np.multiply(work, logp_slope_B[:, None], out=work)
        np.multiply(self._mean, self._mean, out=self._mean)
        np.subtract(np.float32(1.0), self._mean, out=self._mean)
        np.multiply(work, self._mean, out=output_slope_BK)
        np.multiply(u, z, out=work)
        np.subtract(work, inside, out=work)
        np.dot(logp_slope_B, work, out=log_std_slope_A)
        np.subtract(log_std_slope_A, np.float32(bonus), out=log_std_slope_A)

    def entropy(self) -> float:
        """Entropy of the unclamped normals."""
        return float(self._log_std_A.sum()) + len(self._log_std_A) * (0.5 + LOG_SQRT_2PI)


class CategoricalGradient:
    """Choices: log p = output of the choice - log sum exp."""

    def __init__(self, action_BC: torch.Tensor) -> None:
        self.logp_shift_N = torch.zeros(len(action_BC))
        self.columns: tuple[torch.Tensor, ...] = (action_BC[:, 0].long().contiguous(),)

    def minibatches(self, columns: tuple[torch.Tensor, ...], size: int) -> DistributionBatch:
        """Return the arithmetic for minibatches of one size."""
        return CategoricalBatch(columns, size)


class CategoricalBatch:
    """See CategoricalGradient."""

    def __init__(self, columns: tuple[torch.Tensor, ...], size: int) -> None:
        self._choice_N = columns[0].numpy()
        self._rows_B = np.arange(size)
        self._log_p_BK = self._p_BK = np.empty((size, 0), dtype=np.float32)
        self._choice_B = self._choice_N[:size]
        self._entropy_B = np.empty(size, dtype=np.float32)

    def log_prob(self, output_BK: Float32, log_std_A: Float32, rows: slice) -> Float32:
        """Return the log likelihood [B]."""
        del log_std_A
        self._choice_B = self._choice_N[rows]
        shifted_BK = output_BK - output_BK.max(axis=1, keepdims=True)
        self._log_p_BK = shifted_BK - np.log(np.exp(shifted_BK).sum(axis=1, keepdims=True))
        self._p_BK = np.exp(self._log_p_BK)
        self._entropy_B = -(self._p_BK * self._log_p_BK).sum(axis=1)
        logp_B: Float32 = self._log_p_BK[self._rows_B, self._choice_B]
        return logp_B

    def slopes(self, logp_slope_B: Float32, bonus: float, output_slope_BK: Float32, log_std_slope_A: Float32) -> None:
        """Softmax's derivative, and that of the mean entropy: -p (log p + H) / B."""
        del log_std_slope_A
        rate = np.float32(bonus / len(logp_slope_B))
        np.multiply(self._p_BK, -logp_slope_B[:, None], out=output_slope_BK)
        output_slope_BK[self._rows_B, self._choice_B] += logp_slope_B
        output_slope_BK += rate * self._p_BK * (self._log_p_BK + self._entropy_B[:, None])

    def entropy(self) -> float:
        """Mean entropy of the minibatch."""
        return float(self._entropy_B.mean())


class Columns(NamedTuple):
    """What the loss needs of each experience, float32 [N], shuffled."""

    logp_N: Float32  #: nats, under the start policy, without the head's constant part
    gain_N: Float32  #: weight times advantage
    target_N: Float32
    value_N: Float32

    @classmethod
    def of(cls, batch: Batch, policy: DistributionGradient) -> torch.Tensor:
        """Return them as one tensor [4, N], to be shuffled along its last axis."""
        gain_N = batch.importance_weight_B * batch.advantage_B
        return torch.stack([batch.logp_B - policy.logp_shift_N, gain_N, batch.target_B, batch.value_B])


class PpoBatch:
    """The loss's derivatives by log likelihood and value, for minibatches of one size."""

    def __init__(self, columns: Columns, size: int, config: LossConfig) -> None:
        self._columns, self._config, self._size = columns, config, size
        self._low, self._high = np.float32(1.0 - config.clip_range), np.float32(1.0 + config.clip_range)
        self._error_rate = np.float32(2.0 * config.value_coef / size)
        self._ratio_B, self._clipped_B, self._slope_B = (np.empty(size, dtype=np.float32) for _ in range(3))

    def policy_slope(self, logp_B: Float32, rows: slice, log_ratio_B: Float32) -> tuple[Float32, float]:
        """Fill `log_ratio_B`; give d loss / d logp [B], and the part of ratios that the clip changes."""
        ratio_B, clipped_B, slope_B = self._ratio_B, self._clipped_B, self._slope_B
        np.subtract(logp_B, self._columns.logp_N[rows], out=log_ratio_B)
        np.exp(log_ratio_B, out=ratio_B)
        np.maximum(ratio_B, self._low, out=clipped_B)
        np.minimum(clipped_B, self._high, out=clipped_B)
        clip_fraction = np.count_nonzero(ratio_B != clipped_B) / self._size
        surrogate_B = self._columns.gain_N[rows]
        np.multiply(ratio_B, surrogate_B, out=ratio_B)
        np.multiply(clipped_B, surrogate_B, out=clipped_B)
        # The smaller of the two counts; only through the one that is not clipped does the policy move.
        np.multiply(ratio_B, ratio_B <= clipped_B, out=slope_B)
        np.multiply(slope_B, np.float32(-1.0 / self._size), out=slope_B)
        return slope_B, clip_fraction

    def value_slope(self, value_B: Float32, rows: slice, slope_B: Float32) -> None:
        """Fill d loss / d value [B]."""
        np.subtract(value_B, self._columns.target_N[rows], out=slope_B)
        if self._config.value_clip_range is not None:
            self._clip_values(value_B, rows, slope_B, self._config.value_clip_range)
        np.multiply(slope_B, self._error_rate, out=slope_B)

    def _clip_values(self, value_B: Float32, rows: slice, error_B: Float32, clip_range: float) -> None:
        """Leave the error out where the clipped move's is larger: that one does not depend on the value."""
        start_B, target_B = self._columns.value_N[rows], self._columns.target_N[rows]
        move_B = value_B - start_B
        outside_B = np.abs(move_B) > clip_range
        clipped_error_B = start_B + np.clip(move_B, -clip_range, clip_range) - target_B
        error_B[outside_B & (np.square(clipped_error_B) > np.square(error_B))] = 0.0
