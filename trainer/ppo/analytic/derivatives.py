"""The derivatives of the PPO loss by the outputs of the networks, for minibatches of one size.

They are those of the formulas in trainer.ppo.loss and trainer.networks.distributions; the tests compare them with
autograd. All buffers are allocated once. `..._grad` is the derivative of the minibatch's loss by `...`. Letters: see
trainer.common.shapes; N is all experiences, shuffled.
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

_MIN_ERFCX_ARGUMENT = -9.0
"""Below it, erfcx comes near the largest float32 number, and the mass of the tail is 1 up to rounding."""


class DistributionGradient(Protocol):
    """A distribution's likelihood and its derivatives, over columns that are shuffled once an epoch."""

    columns: tuple[torch.Tensor, ...]  #: [N, ...]: `minibatches` needs them shuffled
    logp_shift_N: torch.Tensor  #: nats: the part of the log likelihood that no parameter changes; not in `log_prob`

    def minibatches(self, columns: tuple[torch.Tensor, ...], size: int) -> DistributionBatch:
        """Return the arithmetic for minibatches of one size, over the shuffled columns."""


class DistributionBatch(Protocol):
    """A distribution's arithmetic for minibatches of one size."""

    def log_prob(self, output_BK: Float32, log_std_A: Float32, rows: slice) -> Float32:
        """Return the log likelihood [B], nats, without `logp_shift_N`. The next call overwrites it."""

    def backward(self, logp_grad_B: Float32, bonus: float, output_grad_BK: Float32, log_std_grad_A: Float32) -> None:
        """Fill the two gradients of `sum(logp_grad * logp) - bonus * entropy`, for the last call of `log_prob`."""

    def entropy(self) -> float:
        """Return the mean entropy, nats, for the last call of `log_prob`."""


def gradient_for(distribution: ActionDistribution, action_BC: torch.Tensor) -> DistributionGradient:
    """Return the analytic gradient of a distribution, over the encoded actions of a training set."""
    return NormalGradient(action_BC) if isinstance(distribution, CensoredNormal) else CategoricalGradient(action_BC)


class NormalGradient:
    """The censored normal (see trainer.networks.distributions), in terms of z = (a - mean) / std and
    t = bound z / sqrt 2, where bound is -1 at the lower bound, 1 at the upper one and 0 between them.

    Between the bounds, log p = -z^2 / 2 - log std + const. At a bound, log p = log ndtr(-bound z)
    = log erfcx(t) - t^2 - log 2.
    """

    def __init__(self, action_BC: torch.Tensor) -> None:
        a = (action_BC.shape[1] - 1) // 2
        clamped_BA, bound_BA, log_std_scale_B1 = action_BC[:, :a], action_BC[:, a : 2 * a], action_BC[:, 2 * a :]
        inside_BA = bound_BA == 0
        self.any_at_bound = not bool(inside_BA.all())
        inside_shift_B = -(log_std_scale_B1 + LOG_SQRT_2PI).squeeze(1) * inside_BA.sum(dim=1)
        self.logp_shift_N = inside_shift_B - math.log(2.0) * (a - inside_BA.sum(dim=1))
        self.columns: tuple[torch.Tensor, ...] = (
            clamped_BA.contiguous(),
            (bound_BA * math.sqrt(0.5)).contiguous(),
            (bound_BA * math.sqrt(2.0 / math.pi)).contiguous(),
            inside_BA.contiguous(),
            (-log_std_scale_B1).exp().contiguous(),
        )

    def minibatches(self, columns: tuple[torch.Tensor, ...], size: int) -> DistributionBatch:
        """Return the arithmetic for minibatches of one size."""
        return NormalBatch(columns, size, any_at_bound=self.any_at_bound)


class NormalBatch:
    """The arithmetic of NormalGradient."""

    def __init__(self, columns: tuple[torch.Tensor, ...], size: int, *, any_at_bound: bool) -> None:
        clamped, t_factor, u_factor, inside, inverse_std_scale = (column.numpy() for column in columns)
        self._clamped_NA, self._t_factor_NA, self._u_factor_NA = clamped, t_factor, u_factor
        self._inside_NA: Bools = inside
        self._inverse_std_scale_N1 = inverse_std_scale
        self._any_at_bound = any_at_bound
        a = clamped.shape[1]
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
        """Return the log likelihood [B], nats, without its constant part."""
        z, log, work = self._z, self._log, self._work
        self._rows = rows
        self._log_std_A[:] = log_std_A
        np.tanh(output_BK, out=self._mean)
        np.multiply(self._inverse_std_scale_N1[rows], np.exp(-log_std_A), out=self._inverse_std_BA)
        np.subtract(self._clamped_NA[rows], self._mean, out=z)
        np.multiply(z, self._inverse_std_BA, out=z)
        np.multiply(z, z, out=work)
        np.multiply(work, np.float32(-0.5), out=work)
        np.subtract(work, log_std_A, out=work)
        if self._any_at_bound:
            t = self._t
            np.multiply(z, self._t_factor_NA[rows], out=t)
            np.maximum(t, np.float32(_MIN_ERFCX_ARGUMENT), out=t)
            torch.special.erfcx(self._t_torch, out=self._erfcx_torch)
            np.log(self._erfcx, out=log)
            np.multiply(t, t, out=t)
            np.subtract(log, t, out=log)
            np.copyto(log, work, where=self._inside_NA[rows])
            work = log
        np.dot(work, self._ones_A, out=self._logp_B)
        return self._logp_B

    def backward(self, logp_grad_B: Float32, bonus: float, output_grad_BK: Float32, log_std_grad_A: Float32) -> None:
        """Fill the gradients: d logp / d mean = u / std and d logp / d log std = u z - [between the bounds].

        u = z between the bounds, and bound sqrt(2 / pi) / erfcx(t) at one.
        """
        z, u, work = self._z, self._log, self._work
        inside = self._inside_NA[self._rows]
        if self._any_at_bound:
            np.divide(self._u_factor_NA[self._rows], self._erfcx, out=u)
            np.copyto(u, z, where=inside)
        else:
            u = z
        np.multiply(u, self._inverse_std_BA, out=work)
        np.multiply(work, logp_grad_B[:, None], out=work)
        np.multiply(self._mean, self._mean, out=self._mean)
        np.subtract(np.float32(1.0), self._mean, out=self._mean)
        np.multiply(work, self._mean, out=output_grad_BK)
        np.multiply(u, z, out=work)
        np.subtract(work, inside, out=work)
        np.dot(logp_grad_B, work, out=log_std_grad_A)
        np.subtract(log_std_grad_A, np.float32(bonus), out=log_std_grad_A)

    def entropy(self) -> float:
        """Return the entropy of the normals without clamping, nats."""
        return float(self._log_std_A.sum()) + len(self._log_std_A) * (0.5 + LOG_SQRT_2PI)


class CategoricalGradient:
    """Discrete actions: log p = output of the action - log sum exp of all outputs."""

    def __init__(self, action_BC: torch.Tensor) -> None:
        self.logp_shift_N = torch.zeros(len(action_BC))
        self.columns: tuple[torch.Tensor, ...] = (action_BC[:, 0].long().contiguous(),)

    def minibatches(self, columns: tuple[torch.Tensor, ...], size: int) -> DistributionBatch:
        """Return the arithmetic for minibatches of one size."""
        return CategoricalBatch(columns, size)


class CategoricalBatch:
    """The arithmetic of CategoricalGradient."""

    def __init__(self, columns: tuple[torch.Tensor, ...], size: int) -> None:
        self._action_N = columns[0].numpy()
        self._rows_B = np.arange(size)
        self._log_p_BK = self._p_BK = np.empty((size, 0), dtype=np.float32)
        self._action_B = self._action_N[:size]
        self._entropy_B = np.empty(size, dtype=np.float32)

    def log_prob(self, output_BK: Float32, log_std_A: Float32, rows: slice) -> Float32:
        """Return the log likelihood [B], nats."""
        del log_std_A
        self._action_B = self._action_N[rows]
        shifted_BK = output_BK - output_BK.max(axis=1, keepdims=True)
        self._log_p_BK = shifted_BK - np.log(np.exp(shifted_BK).sum(axis=1, keepdims=True))
        self._p_BK = np.exp(self._log_p_BK)
        self._entropy_B = -(self._p_BK * self._log_p_BK).sum(axis=1)
        logp_B: Float32 = self._log_p_BK[self._rows_B, self._action_B]
        return logp_B

    def backward(self, logp_grad_B: Float32, bonus: float, output_grad_BK: Float32, log_std_grad_A: Float32) -> None:
        """Fill the gradient: d logp / d output = [the action] - p, and d entropy / d output = -p (log p + H) / B."""
        del log_std_grad_A
        rate = np.float32(bonus / len(logp_grad_B))
        np.multiply(self._p_BK, -logp_grad_B[:, None], out=output_grad_BK)
        output_grad_BK[self._rows_B, self._action_B] += logp_grad_B
        output_grad_BK += rate * self._p_BK * (self._log_p_BK + self._entropy_B[:, None])

    def entropy(self) -> float:
        """Return the mean entropy of the minibatch, nats."""
        return float(self._entropy_B.mean())


class LossColumns(NamedTuple):
    """What the loss needs of each experience, float32 [N], shuffled."""

    logp_N: Float32  #: nats, under the proximal policy, without the distribution's `logp_shift_N`
    weighted_advantage_N: Float32  #: importance weight times advantage
    target_N: Float32  #: normalised units
    value_N: Float32  #: normalised units, of the parent's value network

    @classmethod
    def stack(cls, batch: Batch, distribution: DistributionGradient) -> torch.Tensor:
        """Return the columns of a training set as one tensor [4, N], to be shuffled along its last axis."""
        weighted_advantage_N = batch.importance_weight_B * batch.advantage_B
        return torch.stack(
            [batch.logp_B - distribution.logp_shift_N, weighted_advantage_N, batch.target_B, batch.value_B]
        )


class PpoBatch:
    """The derivatives of trainer.ppo.loss.ppo_loss by log likelihood and value, for minibatches of one size."""

    def __init__(self, columns: LossColumns, size: int, config: LossConfig) -> None:
        self._columns, self._config, self._size = columns, config, size
        self._low, self._high = np.float32(1.0 - config.clip_range), np.float32(1.0 + config.clip_range)
        self._error_rate = np.float32(2.0 * config.value_coef / size)
        self._ratio_B, self._clipped_B, self._logp_grad_B = (np.empty(size, dtype=np.float32) for _ in range(3))

    def logp_gradient(self, logp_B: Float32, rows: slice, log_ratio_B: Float32) -> tuple[Float32, float]:
        """Fill `log_ratio_B`; return d loss / d logp [B], and the part of the ratios that the clip changes."""
        ratio_B, clipped_B, logp_grad_B = self._ratio_B, self._clipped_B, self._logp_grad_B
        np.subtract(logp_B, self._columns.logp_N[rows], out=log_ratio_B)
        np.exp(log_ratio_B, out=ratio_B)
        np.maximum(ratio_B, self._low, out=clipped_B)
        np.minimum(clipped_B, self._high, out=clipped_B)
        clip_fraction = np.count_nonzero(ratio_B != clipped_B) / self._size
        weighted_advantage_B = self._columns.weighted_advantage_N[rows]
        surrogate_B = np.multiply(ratio_B, weighted_advantage_B, out=ratio_B)
        np.multiply(clipped_B, weighted_advantage_B, out=clipped_B)
        # The smaller one of the two objectives counts, and only the one without clipping depends on logp.
        np.multiply(surrogate_B, surrogate_B <= clipped_B, out=logp_grad_B)
        np.multiply(logp_grad_B, np.float32(-1.0 / self._size), out=logp_grad_B)
        return logp_grad_B, clip_fraction

    def value_gradient(self, value_B: Float32, rows: slice, value_grad_B: Float32) -> None:
        """Fill `value_grad_B` with d loss / d value [B]."""
        np.subtract(value_B, self._columns.target_N[rows], out=value_grad_B)
        if self._config.value_clip_range is not None:
            self._clip_values(value_B, rows, value_grad_B, self._config.value_clip_range)
        np.multiply(value_grad_B, self._error_rate, out=value_grad_B)

    def _clip_values(self, value_B: Float32, rows: slice, error_B: Float32, clip_range: float) -> None:
        """Set errors to 0 if the clipped value's error is larger: it counts then, and does not depend on the value."""
        before_B, target_B = self._columns.value_N[rows], self._columns.target_N[rows]
        move_B = value_B - before_B
        outside_B = np.abs(move_B) > clip_range
        clipped_error_B = before_B + np.clip(move_B, -clip_range, clip_range) - target_B
        error_B[outside_B & (np.square(clipped_error_B) > np.square(error_B))] = 0.0
