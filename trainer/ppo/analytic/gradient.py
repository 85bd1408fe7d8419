"""The gradient of the PPO loss for the built-in network, minibatch by minibatch, in one flat vector."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from schemas.rollout.rollout import Float32
from trainer.networks.distributions import ActionDistribution
from trainer.ppo.analytic.derivatives import DistributionBatch, LossColumns, PpoBatch, gradient_for
from trainer.ppo.analytic.network import StackedNetwork, StackedPass
from trainer.ppo.loss import Evaluation, LossConfig
from trainer.rollouts.batch import Batch


@dataclass(frozen=True, slots=True)
class _Minibatch:
    """The buffers for minibatches of one size."""

    stacks: StackedPass
    distribution: DistributionBatch
    loss: PpoBatch


class AnalyticGradient:
    """A training set, which is shuffled once an epoch, and the gradients of its minibatches."""

    def __init__(
        self, stacked: StackedNetwork, distribution: ActionDistribution, config: LossConfig, batch: Batch
    ) -> None:
        self._batch, self._config = batch, config
        self._stacked = stacked
        self.flat = stacked.flat
        self.log_std_A: Float32 = stacked.parameters.log_std_A
        self._distribution = gradient_for(distribution, batch.action_BC)
        self._sources = [batch.observation_BO.contiguous(), *self._distribution.columns]
        self._shuffled = [torch.empty_like(source) for source in self._sources]
        self._columns, self._shuffled_columns = LossColumns.stack(batch, self._distribution), torch.empty(4, batch.size)
        self._log_ratio_N, self._value_N = (np.empty(batch.size, dtype=np.float32) for _ in range(2))
        self._minibatches: dict[int, _Minibatch] = {}

    def _minibatch(self, size: int) -> _Minibatch:
        if size not in self._minibatches:
            columns = LossColumns(*self._shuffled_columns.numpy())
            distribution = self._distribution.minibatches(tuple(self._shuffled[1:]), size)
            loss = PpoBatch(columns, size, self._config)
            self._minibatches[size] = _Minibatch(StackedPass(self._stacked, size), distribution, loss)
        return self._minibatches[size]

    def shuffle(self, order: Tensor) -> None:
        """Put the training set into this order. Then a minibatch is a range of rows."""
        for source, target in zip(self._sources, self._shuffled, strict=True):
            torch.index_select(source, 0, order, out=target)
        torch.index_select(self._columns, 1, order, out=self._shuffled_columns)

    def compute(self, rows: slice) -> float:
        """Fill `flat.gradient` for the shuffled rows; return the mean entropy, nats."""
        m = self._minibatch(rows.stop - rows.start)
        stacks, observation_BO = m.stacks, self._shuffled[0][rows]
        stacks.forward(observation_BO)
        logp_B = m.distribution.log_prob(stacks.output_BK, self.log_std_A, rows)
        logp_grad_B, clip_fraction = m.loss.logp_gradient(logp_B, rows, self._log_ratio_N[rows])
        bonus = self._config.entropy_coef * (1.0 - clip_fraction)
        m.distribution.backward(logp_grad_B, bonus, stacks.output_grad_BK, self._stacked.gradients.log_std_A)
        value_B = stacks.value_B1[:, 0]
        self._value_N[rows] = value_B
        m.loss.value_gradient(value_B, rows, stacks.value_grad_B1[:, 0])
        stacks.backward(observation_BO)
        return m.distribution.entropy()

    def evaluation(self, order: Tensor, entropy: float) -> Evaluation:
        """Return what the network computed for every experience at its minibatch, in the order of the training set."""
        logp_B, value_B = torch.empty(self._batch.size), torch.empty(self._batch.size)
        logp_B[order] = torch.from_numpy(self._log_ratio_N)
        logp_B += self._batch.logp_B
        value_B[order] = torch.from_numpy(self._value_N)
        return Evaluation(logp_B, value_B, torch.tensor(entropy))
