"""The training set as one packed matrix: an epoch is one gather into a shuffled copy, a minibatch a view of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from trainer.common.shapes import check_shapes


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Experiences as the loss uses them: a whole training set or one minibatch. Letters: see trainer.common.shapes.

    The proximal policy is the one that the ratio is taken against: in a cycle, the parent policy.
    """

    observation_BO: Tensor  #: float32, normalised
    action_BC: Tensor  #: float32, encoded by the action distribution
    logp_B: Tensor  #: float32, nats, log likelihood under the proximal policy
    advantage_B: Tensor  #: float32, weighted mean 0 and deviation 1 over the training set
    target_B: Tensor  #: float32, value targets in normalised units
    value_B: Tensor  #: float32, values before this update, in normalised units
    importance_weight_B: Tensor  #: float32, proximal over behaviour policy, capped; mean 1 over the training set

    def __post_init__(self) -> None:
        check_shapes(self)

    @property
    def size(self) -> int:
        """Return the number of experiences."""
        return len(self.logp_B)

    def first(self, n: int) -> Batch:
        """Return the first `n` experiences, or all if there are fewer."""
        return Batch(**{field.name: getattr(self, field.name)[:n] for field in fields(self)})


class PackedSet:
    """A training set on one device, with a buffer for its shuffled copy."""

    def __init__(self, batch: Batch, device: torch.device) -> None:
        scalars = torch.stack(
            [batch.logp_B, batch.advantage_B, batch.target_B, batch.value_B, batch.importance_weight_B], dim=1
        )
        packed = torch.cat([batch.observation_BO, batch.action_BC, scalars], dim=1)
        self._observations, self._actions = batch.observation_BO.shape[1], batch.action_BC.shape[1]
        self._all = packed.to(device).contiguous()
        self._shuffled = torch.empty_like(self._all)
        self.size = len(packed)

    def shuffled(self, batch_size: int, *, rng: torch.Generator) -> Iterator[Batch]:
        """Yield all experiences once in random order, as views of the buffer. See `minibatch_sizes` for their sizes."""
        order = torch.randperm(self.size, generator=rng).to(self._all.device)
        torch.index_select(self._all, 0, order, out=self._shuffled)
        start = 0
        for size in minibatch_sizes(self.size, batch_size):
            yield self._view(self._shuffled[start : start + size])
            start += size

    def _view(self, rows: Tensor) -> Batch:
        o, c = self._observations, self._observations + self._actions
        logp_B, advantage_B, target_B, value_B, importance_weight_B = rows[:, c:].unbind(dim=1)
        return Batch(
            observation_BO=rows[:, :o],
            action_BC=rows[:, o:c],
            logp_B=logp_B,
            advantage_B=advantage_B,
            target_B=target_B,
            value_B=value_B,
            importance_weight_B=importance_weight_B,
        )


def minibatch_sizes(n: int, batch_size: int) -> list[int]:
    """Return the sizes of about n / batch_size minibatches, which add up to `n` and differ by at most one."""
    count = max(1, round(n / batch_size))
    small, larger = divmod(n, count)
    return [small + 1] * larger + [small] * (count - larger)
