"""The loss of imitating labels: categorical for choices, Bernoulli for each button, root mean square for numbers.

For real-valued actions the loss is the sum over the columns of the root of the mean squared error. Its gradient is
that of the squared error divided by the error's deviation, so a column with small errors, such as steering, counts as
much as one with large errors. This is the loss of Seitzer et al. 2022 (arXiv:2203.09168) with their beta = 0.5.
A mean beyond a bound is not an error if the label is at that bound, because the action is clamped.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from schemas.contract import ActionSpace, ContinuousActions
from trainer.dagger.actions import Labels

_MIN_MSE = 1e-6
"""Added to each mean squared error, because the root has an infinite slope at 0."""


class ImitationLoss:
    """The loss for one action space. Its targets are labels prepared once, before many minibatches use them."""

    def __init__(self, kind: Literal["discrete", "multi_binary", "continuous"], space: ActionSpace) -> None:
        self._kind, self._space = kind, space

    def targets(self, labels: Labels) -> Tensor:
        """Return the targets of labels: [n] choices, [n, A] buttons, or [n, 3 A] numbers with the errors' limits."""
        label = torch.from_numpy(labels)
        if self._kind == "discrete":
            return label
        if self._kind == "multi_binary":
            return label.float()
        assert isinstance(self._space, ContinuousActions)
        low, high = torch.tensor(self._space.low), torch.tensor(self._space.high)
        unlimited = torch.full_like(label, torch.inf)
        min_error = torch.where(label <= low, 0.0, -unlimited)
        max_error = torch.where(label >= high, 0.0, unlimited)
        return torch.cat([label, min_error, max_error], dim=1)

    def errors(self, output_BA: Tensor, target_BC: Tensor) -> Tensor:
        """Return how far the means of real-valued actions are from their labels [B, A]; 0 beyond the label's bound."""
        label_BA, min_error_BA, max_error_BA = target_BC.chunk(3, dim=1)
        return (output_BA.tanh() - label_BA).clamp(min_error_BA, max_error_BA)

    def __call__(self, output_BK: Tensor, target: Tensor) -> Tensor:
        """Return the mean loss of a minibatch."""
        if self._kind == "multi_binary":
            return functional.binary_cross_entropy_with_logits(output_BK, target, reduction="none").sum(1).mean()
        if self._kind == "discrete":
            return functional.cross_entropy(output_BK, target)
        mse_A = self.errors(output_BK, target).square().mean(0)
        return (mse_A + _MIN_MSE).sqrt().sum()
